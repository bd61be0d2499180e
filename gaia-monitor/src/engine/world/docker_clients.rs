//! Processes that used the Docker engine's socket: who may have requested an operation.
//!
//! Bound: [`USES_CAP`] uses, of the last [`BEFORE`]; when reached, the oldest is evicted, and an operation whose second
//! before is not complete has no requester.

use std::collections::VecDeque;

use crate::model::event::Process;
use crate::model::time::{Nanos, Stamp};

/// A request is executed within milliseconds; a second covers a loaded machine.
const BEFORE: Nanos = Nanos::from_secs(1);
/// One process leaves at most 50 a second.
const USES_CAP: usize = 1_024;

#[derive(Debug, Default)]
pub struct DockerClients {
    uses: VecDeque<(Stamp, Process)>,
    /// Instant of the last use that was evicted before its time.
    evicted: Option<Stamp>,
}

impl DockerClients {
    pub(super) fn used(&mut self, at: Stamp, process: &Process) {
        while self.uses.front().is_some_and(|(first, _)| at.since(*first) > BEFORE) {
            self.uses.pop_front();
        }
        self.uses.push_back((at, process.clone()));
        if self.uses.len() > USES_CAP {
            self.evicted = self.uses.pop_front().map(|(first, _)| first);
        }
    }

    /// The only process that used the socket in the second before an instant; `None` if there was none or another.
    #[must_use]
    pub fn sole_before(&self, at: Stamp) -> Option<&Process> {
        let from = at.minus(BEFORE);
        if self.evicted.is_some_and(|evicted| evicted >= from) {
            return None;
        }
        let mut recent = self.uses.iter().filter(|(used, _)| *used >= from && *used <= at).map(|(_, process)| process);
        // The latest: an exec changes the name.
        let last = recent.next_back()?;
        recent.all(|other| other.pid == last.pid).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::{DockerClients, USES_CAP};
    use crate::model::event::Process;
    use crate::model::ids::{CgroupId, NetnsId, Pid};
    use crate::model::time::{Nanos, Stamp};

    fn process(pid: u32) -> Process {
        Process {
            pid: Pid(pid),
            ns_pid: pid,
            ns_level: 0,
            cgroup: CgroupId(1),
            netns: NetnsId(1),
            comm: "docker".to_owned(),
        }
    }

    fn at(millis: i64) -> Stamp {
        Stamp(0).plus(Nanos::from_millis(10_000 + millis))
    }

    fn sole(uses: &[(i64, u32)], millis: i64) -> Option<u32> {
        let mut clients = DockerClients::default();
        for (used, pid) in uses {
            clients.used(at(*used), &process(*pid));
        }
        clients.sole_before(at(millis)).map(|process| process.pid.0)
    }

    #[test]
    fn names_the_process_when_it_was_the_only_one_in_the_second_before() {
        assert_eq!(sole(&[(0, 7), (20, 7)], 500), Some(7));
        assert_eq!(sole(&[(0, 8), (500, 7)], 1_200), Some(7), "the other one was earlier");
        assert_eq!(sole(&[(0, 7), (300, 8)], 200), Some(7), "the other one was later");
    }

    #[test]
    fn names_none_when_there_were_two_or_none() {
        assert_eq!(sole(&[(0, 7), (100, 8)], 500), None);
        assert_eq!(sole(&[(0, 7)], 1_500), None);
        assert_eq!(sole(&[], 0), None);
    }

    #[test]
    fn names_none_when_uses_of_that_second_were_evicted() {
        let mut clients = DockerClients::default();
        clients.used(at(0), &process(8));
        for _ in 0..USES_CAP {
            clients.used(at(1), &process(7));
        }
        assert!(clients.sole_before(at(500)).is_none());
        assert_eq!(clients.sole_before(at(1_001)).map(|process| process.pid), Some(Pid(7)));
    }
}
