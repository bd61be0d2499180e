//! The only reader of clocks. The kernel stamps its records with CLOCK_BOOTTIME; all other sources use UTC.

use std::sync::atomic::{AtomicI64, Ordering};

use nix::time::{ClockId, clock_gettime};

use crate::model::time::Stamp;

/// Converts boot time to UTC. [`Clock::anchor`] measures the offset between both clocks repeatedly, because NTP slews and
/// steps the system clock but not boot time.
#[derive(Debug)]
pub struct Clock {
    /// UTC minus boot time, in nanoseconds.
    offset: AtomicI64,
}

impl Clock {
    #[must_use]
    pub fn new() -> Self {
        let clock = Self { offset: AtomicI64::new(0) };
        clock.anchor();
        clock
    }

    /// Measures the offset three times, and keeps the measurement with the closest boot-time readings.
    pub fn anchor(&self) {
        let tries = (0..3).map(|_| {
            let before = read(ClockId::CLOCK_BOOTTIME);
            let utc = read(ClockId::CLOCK_REALTIME);
            let after = read(ClockId::CLOCK_BOOTTIME);
            (after - before, utc - (before + (after - before) / 2))
        });
        if let Some((_, offset)) = tries.min() {
            self.offset.store(offset, Ordering::Relaxed);
        }
    }

    /// The UTC instant of a kernel record's boot time (nanoseconds).
    #[must_use]
    pub fn stamp_of_boot(&self, boot: u64) -> Stamp {
        let boot = i64::try_from(boot).unwrap_or(i64::MAX);
        Stamp(boot.saturating_add(self.offset.load(Ordering::Relaxed)))
    }

    #[must_use]
    pub fn now(&self) -> Stamp {
        Stamp(read(ClockId::CLOCK_REALTIME))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

fn read(clock: ClockId) -> i64 {
    // Both clocks exist on every supported kernel. A failure would read as the epoch, which every check would reject.
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}
