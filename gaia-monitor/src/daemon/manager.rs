//! What a service manager is told (sd_notify(3), `Type=notify`): ready, alive, stopping. Without one nothing is said.

use sd_notify::{NotifyState, notify};

use crate::sinks::notice::warn;

/// The manager that started this process, if one did.
#[derive(Debug)]
pub(super) struct Manager {
    /// It wants a sign of life now and then (`WatchdogSec=`).
    watches: bool,
}

impl Manager {
    pub(super) fn of_environment() -> Self {
        Self { watches: sd_notify::watchdog_enabled().is_some() }
    }

    pub(super) fn ready(&self, status: &str) {
        self.say(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// From the belt's own loop, so that a belt that hangs is found out.
    pub(super) fn alive(&self) {
        if self.watches {
            self.say(&[NotifyState::Watchdog]);
        }
    }

    pub(super) fn stopping(&self) {
        self.say(&[NotifyState::Stopping]);
    }

    fn say(&self, words: &[NotifyState<'_>]) {
        if let Err(error) = notify(words) {
            warn(format_args!("cannot tell the service manager: {error}"));
        }
    }
}
