//! The engine's alarms. An timer belongs to a case, an expected exit, a look-up or the stats, and each owner has one at
//! most.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::ids::Pid;
use crate::model::time::Stamp;

use crate::engine::types::ids::CaseId;
use crate::engine::world::dns::lookups::LookupId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A case may be told, revised, settled or closed.
    Case(CaseId),
    /// The logs of a case are asked for once more.
    Logs(CaseId),
    /// Containers that are down are looked at: one without ports comes back by running.
    RecoverySweep,
    /// A process closed sockets while dying, and its exit should have been seen by now.
    ExitOverdue(Pid),
    /// A look-up should have been answered by now.
    LookupOverdue(LookupId),
    /// A broken connection has had its cause long enough to be counted.
    Count,
}

/// Bounded by its owners: open cases, awaited exits and look-ups.
#[derive(Debug, Default)]
pub struct TimerQueue {
    due: BTreeSet<(Stamp, Timer)>,
    set: BTreeMap<Timer, Stamp>,
}

impl TimerQueue {
    /// Sets or moves the owner's timer; `None` takes it away.
    pub fn set(&mut self, timer: Timer, at: Option<Stamp>) {
        if let Some(old) = self.set.remove(&timer) {
            self.due.remove(&(old, timer));
        }
        if let Some(at) = at {
            self.set.insert(timer, at);
            self.due.insert((at, timer));
        }
    }

    /// Takes the earliest timer that is due at `now`, with its own deadline.
    pub fn pop(&mut self, now: Stamp) -> Option<(Stamp, Timer)> {
        let first = self.due.first().copied().filter(|(at, _)| *at <= now)?;
        self.due.remove(&first);
        self.set.remove(&first.1);
        Some(first)
    }

    #[must_use]
    pub fn next(&self) -> Option<Stamp> {
        self.due.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::{Timer, TimerQueue};
    use crate::model::ids::Pid;
    use crate::model::time::Stamp;

    #[test]
    fn a_moved_alarm_fires_once_at_its_new_time() {
        let mut timers = TimerQueue::default();
        let timer = Timer::ExitOverdue(Pid(1));
        timers.set(timer, Some(Stamp(10)));
        timers.set(timer, Some(Stamp(20)));
        assert_eq!(timers.pop(Stamp(15)), None);
        assert_eq!(timers.pop(Stamp(25)), Some((Stamp(20), timer)));
        assert_eq!(timers.next(), None);
    }
}
