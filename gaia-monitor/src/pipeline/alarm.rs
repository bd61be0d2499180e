//! An alarm clock that keeps to microseconds (timerfd_create(2)).
//!
//! Tokio's own timers go by whole milliseconds and round up; a first word that waits for one and a drain of the ring that
//! waits for another would be told after the client has raised its exception.

use std::io;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::model::time::Stamp;
use crate::pipeline::fd::Raw;

/// One instant that is waited for; a new one takes the place of the old.
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<Raw<TimerFd>>,
    set: Option<Stamp>,
}

impl Alarm {
    /// An alarm that is not set.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    ///
    /// # Panics
    /// Outside a runtime of tokio.
    pub fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        // SAFETY: the timer owns its descriptor and keeps the same one until it is dropped with the `AsyncFd`.
        let timer =
            unsafe { AsyncFd::register_with_interest(Raw(timer), Interest::READABLE) }.map_err(io::Error::from)?;
        Ok(Self { timer, set: None })
    }

    /// Rings at this instant of the system's clock, however that is stepped meanwhile; at once where it has passed.
    ///
    /// # Errors
    /// Never for an instant that a clock can show.
    pub fn set_at(&mut self, at: Option<Stamp>) -> io::Result<()> {
        if self.set == at {
            return Ok(());
        }
        self.set = at;
        match at {
            // An instant of zero would disarm it.
            Some(at) => {
                let at = Expiration::OneShot(TimeSpec::from_duration(Duration::from_nanos(at.0.max(1).unsigned_abs())));
                self.timer.get_ref().0.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            }
            None => self.timer.get_ref().0.unset()?,
        }
        Ok(())
    }

    /// Rings after this time.
    ///
    /// # Errors
    /// Never for a time that a clock can count.
    pub fn set_in(&mut self, after: Duration) -> io::Result<()> {
        self.set = None;
        let after = after.max(Duration::from_nanos(1));
        Ok(self
            .timer
            .get_ref()
            .0
            .set(Expiration::OneShot(TimeSpec::from_duration(after)), TimerSetTimeFlags::empty())?)
    }

    /// Ready once each time it rings; never while it is not set. May be dropped and called again.
    ///
    /// # Errors
    /// When the descriptor cannot be waited for.
    pub async fn ring(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            // Setting it anew takes back a ring that nobody has heard: then there is nothing to read.
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

    use super::Alarm;
    use crate::model::time::Stamp;
    use crate::pipeline::clock::Clock;

    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn it_rings_once_and_not_before_its_instant() {
        let (mut alarm, clock) = (Alarm::new().unwrap(), Clock::new());
        let at = Stamp(clock.now().0 + 3_000_000);
        alarm.set_at(Some(at)).unwrap();
        timeout(LONG, alarm.ring()).await.unwrap().unwrap();
        assert!(clock.now() >= at);
        assert!(timeout(Duration::from_millis(20), alarm.ring()).await.is_err());
    }

    #[tokio::test]
    async fn an_instant_that_has_passed_rings_at_once_and_again_when_it_is_set_again() {
        let mut alarm = Alarm::new().unwrap();
        for _ in 0..2 {
            alarm.set_at(Some(Stamp(1))).unwrap();
            timeout(LONG, alarm.ring()).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn one_that_is_set_anew_or_taken_back_does_not_ring_for_the_old_instant() {
        let mut alarm = Alarm::new().unwrap();
        alarm.set_in(Duration::from_millis(1)).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        alarm.set_in(LONG).unwrap();
        assert!(timeout(Duration::from_millis(20), alarm.ring()).await.is_err());
        alarm.set_at(Some(Stamp(1))).unwrap();
        alarm.set_at(None).unwrap();
        assert!(timeout(Duration::from_millis(20), alarm.ring()).await.is_err());
    }
}
