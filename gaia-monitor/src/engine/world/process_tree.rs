//! Relations between processes: descent, ends, and processes that still serve.
//!
//! Parents are those at the fork: a process that was adopted by an init later still descends from its own parent.

use crate::engine::world::processes::{Process, Processes};
use crate::model::ids::{CgroupId, Pid};
use crate::model::time::Stamp;

/// Generations that are walked: deeper trees do not occur, and a reused pid must not make a loop.
const GENERATIONS: usize = 32;

impl Process {
    /// Since when it is dead or certain to die: its exit, or the fatal signal before it (a core may be written in
    /// between).
    #[must_use]
    pub fn doomed(&self) -> Option<Stamp> {
        let exit = self.exit.as_ref().map(|exit| exit.at);
        let killed = self.signals.iter().find(|seen| seen.delivered && seen.signal == "SIGKILL").map(|seen| seen.at);
        let crashed = self.crash.as_ref().map(|(at, _)| *at);
        [exit, killed, crashed].into_iter().flatten().min()
    }
}

impl Processes {
    /// Whether a process is a descendant of another one; none is its own.
    #[must_use]
    pub fn descends_from(&self, pid: Pid, ancestor: Pid) -> bool {
        self.ancestors(pid).any(|parent| parent == ancestor)
    }

    /// The parents of a process, the nearest first.
    pub fn ancestors(&self, pid: Pid) -> impl Iterator<Item = Pid> {
        let parent = |pid: &Pid| self.get(*pid).map(|process| process.parent);
        std::iter::successors(Some(pid), parent).skip(1).take(GENERATIONS)
    }

    /// Descendants of a process that ended in a period, in no particular order.
    pub fn ended_descendants(&self, ancestor: Pid, from: Stamp, until: Stamp) -> impl Iterator<Item = &Process> {
        let ended = self.exited_between(from, until);
        ended.filter(move |process| self.descends_from(process.pid, ancestor))
    }

    /// Living descendants of a process that were there at an instant.
    pub fn heirs(&self, ancestor: Pid, at: Stamp) -> impl Iterator<Item = &Process> {
        self.all().filter(move |process| {
            let was_there = process.started.is_none_or(|started| started <= at);
            was_there && process.doomed().is_none_or(|end| end > at) && self.descends_from(process.pid, ancestor)
        })
    }

    /// Whether its parent started it after another child, which had accepted connections, had ended: it was to accept
    /// them next.
    #[must_use]
    pub fn replaced_an_acceptor(&self, pid: Pid) -> bool {
        let Some(process) = self.get(pid).filter(|process| !process.entered) else { return false };
        let ended_before = |other: &Process| {
            let end = other.exit.as_ref().map(|exit| exit.at);
            end.zip(process.started).is_some_and(|(end, started)| end <= started)
        };
        let siblings = self.all().filter(|other| other.parent == process.parent && other.cgroup == process.cgroup);
        siblings.filter(|other| other.pid != pid && other.accepts).any(ended_before)
    }

    /// Whether another living process of the cgroup has accepted connections.
    #[must_use]
    pub fn others_accept(&self, cgroup: CgroupId, pid: Pid) -> bool {
        self.all().any(|other| other.accepts && other.cgroup == cgroup && other.pid != pid && other.doomed().is_none())
    }
}
