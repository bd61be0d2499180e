//! The signals that end a run: SIGINT, SIGTERM, SIGHUP.
//!
//! They are blocked before the first thread starts, so that one that arrives during the start-up waits until the run can
//! end as it should: outputs flushed, incidents closed, summary printed.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;

/// Blocked signals, which can be read.
#[derive(Debug)]
pub struct EndSignals(SignalFd);

impl EndSignals {
    /// Blocks them in this thread and in all that it starts.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn block() -> io::Result<Self> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// Within the runtime that waits for them.
    ///
    /// # Errors
    /// The runtime cannot watch the descriptor.
    pub(super) fn listen(self) -> io::Result<AwaitedSignals> {
        // SAFETY: the value owns its descriptor and keeps the same one until it is dropped with the `AsyncFd`.
        unsafe { AsyncFd::register(self.0) }.map(AwaitedSignals).map_err(io::Error::from)
    }
}

#[derive(Debug)]
pub(super) struct AwaitedSignals(AsyncFd<SignalFd>);

impl AwaitedSignals {
    /// Returns when one of them has arrived.
    pub(super) async fn any(&mut self) {
        loop {
            // Without its runtime, nothing else of the run would advance either.
            let Ok(mut ready) = self.0.readable_mut().await else { return };
            match ready.get_inner_mut().read_signal() {
                Ok(None) => ready.clear_ready(),
                Ok(Some(_)) | Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::signal::{Signal, raise};
    use tokio::runtime::Builder;
    use tokio::time::timeout;

    use super::EndSignals;

    #[test]
    fn a_signal_that_arrives_before_anything_listens_is_not_lost() {
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            let signals = EndSignals::block().unwrap();
            // To this thread: the test's other threads do not block it.
            raise(signal).unwrap();
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut signals = signals.listen().unwrap();
                assert!(timeout(Duration::from_secs(5), signals.any()).await.is_ok(), "{signal}");
                assert!(timeout(Duration::from_millis(10), signals.any()).await.is_err(), "only one of {signal}");
            });
        }
    }
}
