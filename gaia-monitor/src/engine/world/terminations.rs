//! How containers go down: one [`Termination`] from the first signal that asks for it, or from the exit, until the
//! container, or its successor, listens again on every port that it listened on.
//!
//! Bound: [`PER_CONTAINER`] for each container. What is over goes first; of a crash loop the first ones stay, which its
//! incidents are told from, and the latest, which connections meet.

use std::collections::BTreeMap;

use crate::model::event::ExitStatus;
use crate::model::ids::{ContainerId, Pid};
use crate::model::time::{Nanos, Stamp};

/// Terminations kept for each container: as many as the lines of a timeline.
const PER_CONTAINER: usize = 200;
/// A signal that a process handles is forgotten after this time; a `docker stop` may have a long grace, so it is long.
const ASKED_FOR: Nanos = Nanos::from_secs(300);
/// Docker's `die` follows the exit within 50 ms, 185 ms on a loaded machine.
const DIE_FOLLOWS: Nanos = Nanos::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TerminationId(pub u64);

#[derive(Clone, Debug)]
pub struct Termination {
    pub id: TerminationId,
    pub container: ContainerId,
    /// The process that stands for the container.
    pub pid: Option<Pid>,
    /// The signal under way that opened it.
    pub requested: Option<(Stamp, String)>,
    pub exit: Option<Exit>,
    pub die: Option<Die>,
    /// A worker whose death took the container along.
    pub root: Option<Pid>,
    /// It, or its successor, serves again.
    pub recovered: Option<Stamp>,
    /// The termination before it in a crash loop: the container had not listened again.
    pub previous: Option<TerminationId>,
    /// When the engine learned of its last fact.
    pub seen: Stamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub at: Stamp,
    pub status: ExitStatus,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Die {
    pub at: Stamp,
    pub exit_code: Option<i64>,
}

impl Termination {
    /// When it began.
    #[must_use]
    pub fn since(&self) -> Stamp {
        let asked = self.requested.as_ref().map(|(at, _)| *at);
        asked.or(self.exit.as_ref().map(|exit| exit.at)).or(self.die.as_ref().map(|die| die.at)).unwrap_or(self.seen)
    }

    /// When the container was down.
    #[must_use]
    pub fn down(&self) -> Option<Stamp> {
        self.exit.as_ref().map(|exit| exit.at).or(self.die.as_ref().map(|die| die.at))
    }

    fn covers(&self, at: Stamp) -> bool {
        if self.since() > at || self.recovered.is_some_and(|over| over <= at) {
            return false;
        }
        self.down().is_some() || at.since(self.since()) <= ASKED_FOR
    }
}

#[derive(Debug, Default)]
pub struct Terminations {
    all: BTreeMap<TerminationId, Termination>,
    of: BTreeMap<ContainerId, Vec<TerminationId>>,
    next: u64,
}

impl Terminations {
    #[must_use]
    pub fn get(&self, id: TerminationId) -> Option<&Termination> {
        self.all.get(&id)
    }

    /// The termination that a fact about this container at this instant belongs to; the latest, if several.
    #[must_use]
    pub fn current(&self, container: &ContainerId, at: Stamp) -> Option<&Termination> {
        self.of_container(container).rev().find(|termination| termination.covers(at))
    }

    pub fn of_container(&self, container: &ContainerId) -> impl DoubleEndedIterator<Item = &Termination> {
        self.of.get(container).into_iter().flatten().filter_map(|id| self.all.get(id))
    }

    /// Containers that are down and have not come back.
    pub fn down(&self) -> impl Iterator<Item = &Termination> {
        self.all.values().filter(|termination| termination.down().is_some() && termination.recovered.is_none())
    }

    pub(super) fn asked(&mut self, at: Stamp, seen: Stamp, container: &ContainerId, pid: Pid, signal: &str) {
        if let Some(open) = self.under_way(container) {
            open.seen = seen;
            return;
        }
        let termination = self.open(container, seen);
        termination.pid = Some(pid);
        termination.requested = Some((at, signal.to_owned()));
    }

    /// `init`: the init whose only child this is.
    pub(super) fn exited(
        &mut self,
        at: Stamp,
        seen: Stamp,
        container: &ContainerId,
        pid: Pid,
        init: Option<Pid>,
        status: &ExitStatus,
    ) -> TerminationId {
        let known = match self.latest(container) {
            // A killed init ends first, and the kernel ends the rest of its namespace with it: one end, the child's.
            Some(termination) if init.is_some() && termination.pid == init && near(termination, at) => {
                Some(termination.id)
            }
            // Docker's word came first.
            Some(termination)
                if termination.exit.is_none() && (termination.down().is_none() || near(termination, at)) =>
            {
                Some(termination.id)
            }
            Some(_) | None => None,
        };
        let termination = match known.and_then(|id| self.all.get_mut(&id)) {
            Some(termination) => termination,
            None => self.open(container, seen),
        };
        termination.pid = Some(pid);
        termination.exit = Some(Exit { at, status: status.clone() });
        termination.seen = seen;
        termination.id
    }

    pub(super) fn died(&mut self, at: Stamp, seen: Stamp, container: &ContainerId, code: Option<i64>) -> TerminationId {
        let known = match self.latest(container) {
            Some(termination) if termination.die.is_none() && (termination.exit.is_none() || near(termination, at)) => {
                Some(termination.id)
            }
            Some(_) | None => None,
        };
        let termination = match known.and_then(|id| self.all.get_mut(&id)) {
            Some(termination) => termination,
            None => self.open(container, seen),
        };
        termination.die = Some(Die { at, exit_code: code });
        termination.seen = seen;
        termination.id
    }

    /// The container serves again.
    pub(super) fn over(&mut self, at: Stamp, id: TerminationId) {
        if let Some(termination) = self.all.get_mut(&id) {
            termination.recovered = Some(at);
        }
    }

    pub(super) fn root(&mut self, id: TerminationId, worker: Pid) {
        if let Some(termination) = self.all.get_mut(&id) {
            termination.root = Some(worker);
        }
    }

    fn latest(&self, container: &ContainerId) -> Option<&Termination> {
        self.of_container(container).next_back()
    }

    /// A termination that was asked for and has not been seen to end.
    fn under_way(&mut self, container: &ContainerId) -> Option<&mut Termination> {
        let id = self.latest(container).filter(|termination| termination.down().is_none())?.id;
        self.all.get_mut(&id)
    }

    fn open(&mut self, container: &ContainerId, seen: Stamp) -> &mut Termination {
        let before = self
            .latest(container)
            .filter(|termination| termination.down().is_some() && termination.recovered.is_none());
        let previous = before.map(|termination| termination.id);
        self.next += 1;
        let id = TerminationId(self.next);
        let of = self.of.entry(container.clone()).or_default();
        of.push(id);
        if of.len() > PER_CONTAINER {
            let lasts =
                of.first().and_then(|oldest| self.all.get(oldest)).is_some_and(|oldest| oldest.recovered.is_none());
            self.all.remove(&of.remove(if lasts { PER_CONTAINER / 2 } else { 0 }));
        }
        self.all.entry(id).or_insert(Termination {
            id,
            container: container.clone(),
            pid: None,
            requested: None,
            exit: None,
            die: None,
            root: None,
            recovered: None,
            previous,
            seen,
        })
    }

    pub(super) fn forget(&mut self, container: &ContainerId) {
        for id in self.of.remove(container).unwrap_or_default() {
            self.all.remove(&id);
        }
    }
}

fn near(termination: &Termination, at: Stamp) -> bool {
    termination.down().is_some_and(|down| at.since(down).0.abs() <= DIE_FOLLOWS.0)
}
