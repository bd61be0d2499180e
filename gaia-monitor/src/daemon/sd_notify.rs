//! Notifications for a service manager (sd_notify(3), `Type=notify`): ready, watchdog, stopping. Without a service
//! manager nothing is sent.

use ::sd_notify::{NotifyState, notify, watchdog_enabled};

use crate::stderr::warn;

/// The service manager that started this process, if any.
#[derive(Debug)]
pub(super) struct ServiceManager {
    /// It expects a periodic notification (`WatchdogSec=`).
    watchdog: bool,
}

impl ServiceManager {
    pub(super) fn from_environment() -> Self {
        Self { watchdog: watchdog_enabled().is_some() }
    }

    pub(super) fn ready(&self, status: &str) {
        self.notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Call it from the event loop, so that the watchdog detects a loop that hangs.
    pub(super) fn watchdog(&self) {
        if self.watchdog {
            self.notify(&[NotifyState::Watchdog]);
        }
    }

    pub(super) fn stopping(&self) {
        self.notify(&[NotifyState::Stopping]);
    }

    fn notify(&self, states: &[NotifyState<'_>]) {
        if let Err(error) = notify(states) {
            warn(format_args!("cannot notify the service manager: {error}"));
        }
    }
}
