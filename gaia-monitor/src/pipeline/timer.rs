//! DeadlineTimer with microsecond resolution (timerfd_create(2)).
//!
//! Tokio's timers have millisecond resolution and round up. A drain of the ring that waits for one, followed by a report
//! that waits for another, would come after the client has raised its exception.

use std::io;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::model::time::Stamp;
use crate::pipeline::fd::Raw;

/// Waits for one instant; setting a new one replaces the old.
#[derive(Debug)]
pub struct DeadlineTimer {
    timer: AsyncFd<Raw<TimerFd>>,
    set: Option<Stamp>,
}

impl DeadlineTimer {
    /// A timer that is not set.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        // SAFETY: the timer owns its descriptor and keeps the same one until it is dropped with the `AsyncFd`.
        let timer =
            unsafe { AsyncFd::register_with_interest(Raw(timer), Interest::READABLE) }.map_err(io::Error::from)?;
        Ok(Self { timer, set: None })
    }

    /// Fires at this instant of the system clock, even if the clock is stepped; immediately if it has passed.
    ///
    /// # Errors
    /// Never for an instant that the clock can reach.
    pub fn set_at(&mut self, at: Option<Stamp>) -> io::Result<()> {
        if self.set == at {
            return Ok(());
        }
        self.set = at;
        match at {
            // Zero would disarm the timer.
            Some(at) => {
                let at = Expiration::OneShot(TimeSpec::from_duration(Duration::from_nanos(at.0.max(1).unsigned_abs())));
                self.timer.get_ref().0.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            }
            None => self.timer.get_ref().0.unset()?,
        }
        Ok(())
    }

    /// Fires after this time.
    ///
    /// # Errors
    /// Never for a duration that the clock can represent.
    pub fn set_in(&mut self, after: Duration) -> io::Result<()> {
        self.set = None;
        let after = after.max(Duration::from_nanos(1));
        Ok(self
            .timer
            .get_ref()
            .0
            .set(Expiration::OneShot(TimeSpec::from_duration(after)), TimerSetTimeFlags::empty())?)
    }

    /// Completes once each time the timer fires, and never while it is not set. Cancel safe.
    ///
    /// # Errors
    /// When the descriptor cannot be waited for.
    pub async fn fired(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            // Setting the timer again cancels an expiration that was not read yet: then there is nothing to read.
            if let Ok(read) = ready.try_io(|timer| timer.get_ref().0.wait().map_err(io::Error::from)) {
                self.set = None;
                return read;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::DeadlineTimer;
    use crate::model::time::Stamp;
    use crate::pipeline::clock::Clock;

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn fires_once_and_not_before_its_instant() {
        let (mut timer, clock) = (DeadlineTimer::new().unwrap(), Clock::new());
        let at = Stamp(clock.now().0 + 3_000_000);
        timer.set_at(Some(at)).unwrap();
        timeout(LONG, timer.fired()).await.unwrap().unwrap();
        assert!(clock.now() >= at);
        assert!(timeout(Duration::from_millis(20), timer.fired()).await.is_err());
    }

    #[tokio::test]
    async fn fires_immediately_when_the_instant_has_passed() {
        let mut timer = DeadlineTimer::new().unwrap();
        for _ in 0..2 {
            timer.set_at(Some(Stamp(1))).unwrap();
            timeout(LONG, timer.fired()).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn does_not_fire_for_a_replaced_or_unset_instant() {
        let mut timer = DeadlineTimer::new().unwrap();
        timer.set_in(Duration::from_millis(1)).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        timer.set_in(LONG).unwrap();
        assert!(timeout(Duration::from_millis(20), timer.fired()).await.is_err());
        timer.set_at(Some(Stamp(1))).unwrap();
        timer.set_at(None).unwrap();
        assert!(timeout(Duration::from_millis(20), timer.fired()).await.is_err());
    }
}
