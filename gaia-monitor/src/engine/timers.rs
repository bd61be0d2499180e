//! The engine's alarms. An alarm belongs to a case, an expected exit, a look-up or the tally, and each owner has one at
//! most.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::ids::Pid;
use crate::model::time::Stamp;

use crate::engine::incidents::case::CaseId;
use crate::engine::world::dns::lookups::InquiryId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// A case may be told, revised, settled or closed.
    Case(CaseId),
    /// The logs of a case are asked for once more.
    Logs(CaseId),
    /// Containers that are down are looked at: one without ports comes back by running.
    Round,
    /// A process closed sockets while dying, and its exit should have been seen by now.
    ExitOverdue(Pid),
    /// A look-up should have been answered by now.
    LookUpOverdue(InquiryId),
    /// A broken connection has had its cause long enough to be counted.
    Count,
}

/// Bounded by its owners: open cases, awaited exits and look-ups.
#[derive(Debug, Default)]
pub struct Agenda {
    due: BTreeSet<(Stamp, Alarm)>,
    set: BTreeMap<Alarm, Stamp>,
}

impl Agenda {
    /// Sets or moves the owner's alarm; `None` takes it away.
    pub fn set(&mut self, alarm: Alarm, at: Option<Stamp>) {
        if let Some(old) = self.set.remove(&alarm) {
            self.due.remove(&(old, alarm));
        }
        if let Some(at) = at {
            self.set.insert(alarm, at);
            self.due.insert((at, alarm));
        }
    }

    /// Takes the earliest alarm that is due at `now`, with its own deadline.
    pub fn pop(&mut self, now: Stamp) -> Option<(Stamp, Alarm)> {
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
    use super::{Agenda, Alarm};
    use crate::model::ids::Pid;
    use crate::model::time::Stamp;

    #[test]
    fn a_moved_alarm_fires_once_at_its_new_time() {
        let mut agenda = Agenda::default();
        let alarm = Alarm::ExitOverdue(Pid(1));
        agenda.set(alarm, Some(Stamp(10)));
        agenda.set(alarm, Some(Stamp(20)));
        assert_eq!(agenda.pop(Stamp(15)), None);
        assert_eq!(agenda.pop(Stamp(25)), Some((Stamp(20), alarm)));
        assert_eq!(agenda.next(), None);
    }
}
