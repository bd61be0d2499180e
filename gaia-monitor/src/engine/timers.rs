//! Timers of the engine. A timer belongs to a case, an expected exit, a lookup, a story or the statistics; each [`Timer`] has at
//! most one deadline.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::ids::Pid;
use crate::model::time::Stamp;

use crate::engine::types::ids::{CaseId, StoryId};
use crate::engine::world::dns::lookups::LookupId;

/// The identity of a timer. Timers with equal deadlines fire in the order of the variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A case may be published, revised, settled or closed.
    Case(CaseId),
    /// The logs of a case are requested once more.
    Logs(CaseId),
    /// Recovery of terminated containers is checked: one without ports has recovered when it runs.
    RecoverySweep,
    /// A process closed sockets while it exited, and its exit is overdue.
    ExitOverdue(Pid),
    /// The response to a lookup is overdue.
    LookupOverdue(LookupId),
    /// A story may be over.
    Story(StoryId),
    /// A client failure has kept its cause long enough to be counted.
    Count,
}

/// All set timers by deadline. Bounded by their owners: open cases, awaited exits, lookups and stories.
#[derive(Debug, Default)]
pub struct TimerQueue {
    by_deadline: BTreeSet<(Stamp, Timer)>,
    deadlines: BTreeMap<Timer, Stamp>,
}

impl TimerQueue {
    /// Sets or moves a timer; `None` cancels it.
    pub fn set(&mut self, timer: Timer, at: Option<Stamp>) {
        if let Some(old) = self.deadlines.remove(&timer) {
            self.by_deadline.remove(&(old, timer));
        }
        if let Some(at) = at {
            self.deadlines.insert(timer, at);
            self.by_deadline.insert((at, timer));
        }
    }

    /// Removes the earliest timer that is due at `now`, and returns it with its deadline.
    pub fn pop(&mut self, now: Stamp) -> Option<(Stamp, Timer)> {
        let first = self.by_deadline.first().copied().filter(|(at, _)| *at <= now)?;
        self.by_deadline.remove(&first);
        self.deadlines.remove(&first.1);
        Some(first)
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next(&self) -> Option<Stamp> {
        self.by_deadline.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::{Timer, TimerQueue};
    use crate::model::ids::Pid;
    use crate::model::time::Stamp;

    #[test]
    fn fires_once_at_the_new_deadline_when_moved() {
        let mut timers = TimerQueue::default();
        let timer = Timer::ExitOverdue(Pid(1));
        timers.set(timer, Some(Stamp(10)));
        timers.set(timer, Some(Stamp(20)));
        assert_eq!(timers.pop(Stamp(15)), None);
        assert_eq!(timers.pop(Stamp(25)), Some((Stamp(20), timer)));
        assert_eq!(timers.next(), None);
    }
}
