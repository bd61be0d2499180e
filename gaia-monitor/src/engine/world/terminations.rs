//! How containers go down: one [`Demise`] from the first signal that asks for it, or from the exit, until the
//! container, or its successor, listens again on every port that it listened on.
//!
//! Bound: [`PER_CONTAINER`] for each container. What is over goes first; of a crash loop the first ones stay, which its
//! incidents are told from, and the latest, which connections meet.

use std::collections::BTreeMap;

use crate::model::event::ExitStatus;
use crate::model::ids::{ContainerId, Pid};
use crate::model::time::{Nanos, Stamp};

/// Demises kept for each container: as many as the lines of a timeline.
const PER_CONTAINER: usize = 200;
/// A signal that a process handles is forgotten after this time; a `docker stop` may have a long grace, so it is long.
const ASKED_FOR: Nanos = Nanos::from_secs(300);
/// Docker's `die` follows the exit within 50 ms, 185 ms on a loaded machine.
const DIE_FOLLOWS: Nanos = Nanos::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DemiseId(pub u64);

#[derive(Clone, Debug)]
pub struct Demise {
    pub id: DemiseId,
    pub container: ContainerId,
    /// The process that stands for the container.
    pub pid: Option<Pid>,
    /// The signal under way that opened it.
    pub asked: Option<(Stamp, String)>,
    pub exit: Option<Exit>,
    pub die: Option<Die>,
    /// A worker whose death took the container along.
    pub root: Option<Pid>,
    /// It, or its successor, serves again.
    pub over: Option<Stamp>,
    /// The demise before it in a crash loop: the container had not listened again.
    pub after: Option<DemiseId>,
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

impl Demise {
    /// When it began.
    #[must_use]
    pub fn since(&self) -> Stamp {
        let asked = self.asked.as_ref().map(|(at, _)| *at);
        asked.or(self.exit.as_ref().map(|exit| exit.at)).or(self.die.as_ref().map(|die| die.at)).unwrap_or(self.seen)
    }

    /// When the container was down.
    #[must_use]
    pub fn down(&self) -> Option<Stamp> {
        self.exit.as_ref().map(|exit| exit.at).or(self.die.as_ref().map(|die| die.at))
    }

    fn covers(&self, at: Stamp) -> bool {
        if self.since() > at || self.over.is_some_and(|over| over <= at) {
            return false;
        }
        self.down().is_some() || at.since(self.since()) <= ASKED_FOR
    }
}

#[derive(Debug, Default)]
pub struct Demises {
    all: BTreeMap<DemiseId, Demise>,
    of: BTreeMap<ContainerId, Vec<DemiseId>>,
    next: u64,
}

impl Demises {
    #[must_use]
    pub fn get(&self, id: DemiseId) -> Option<&Demise> {
        self.all.get(&id)
    }

    /// The demise that a fact about this container at this instant belongs to; the latest, if several.
    #[must_use]
    pub fn current(&self, container: &ContainerId, at: Stamp) -> Option<&Demise> {
        self.of_container(container).rev().find(|demise| demise.covers(at))
    }

    pub fn of_container(&self, container: &ContainerId) -> impl DoubleEndedIterator<Item = &Demise> {
        self.of.get(container).into_iter().flatten().filter_map(|id| self.all.get(id))
    }

    /// Containers that are down and have not come back.
    pub fn down(&self) -> impl Iterator<Item = &Demise> {
        self.all.values().filter(|demise| demise.down().is_some() && demise.over.is_none())
    }

    pub(super) fn asked(&mut self, at: Stamp, seen: Stamp, container: &ContainerId, pid: Pid, signal: &str) {
        if let Some(open) = self.under_way(container) {
            open.seen = seen;
            return;
        }
        let demise = self.open(container, seen);
        demise.pid = Some(pid);
        demise.asked = Some((at, signal.to_owned()));
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
    ) -> DemiseId {
        let known = match self.latest(container) {
            // A killed init ends first, and the kernel ends the rest of its namespace with it: one end, the child's.
            Some(demise) if init.is_some() && demise.pid == init && near(demise, at) => Some(demise.id),
            // Docker's word came first.
            Some(demise) if demise.exit.is_none() && (demise.down().is_none() || near(demise, at)) => Some(demise.id),
            Some(_) | None => None,
        };
        let demise = match known.and_then(|id| self.all.get_mut(&id)) {
            Some(demise) => demise,
            None => self.open(container, seen),
        };
        demise.pid = Some(pid);
        demise.exit = Some(Exit { at, status: status.clone() });
        demise.seen = seen;
        demise.id
    }

    pub(super) fn died(&mut self, at: Stamp, seen: Stamp, container: &ContainerId, code: Option<i64>) -> DemiseId {
        let known = match self.latest(container) {
            Some(demise) if demise.die.is_none() && (demise.exit.is_none() || near(demise, at)) => Some(demise.id),
            Some(_) | None => None,
        };
        let demise = match known.and_then(|id| self.all.get_mut(&id)) {
            Some(demise) => demise,
            None => self.open(container, seen),
        };
        demise.die = Some(Die { at, exit_code: code });
        demise.seen = seen;
        demise.id
    }

    /// The container serves again.
    pub(super) fn over(&mut self, at: Stamp, id: DemiseId) {
        if let Some(demise) = self.all.get_mut(&id) {
            demise.over = Some(at);
        }
    }

    pub(super) fn root(&mut self, id: DemiseId, worker: Pid) {
        if let Some(demise) = self.all.get_mut(&id) {
            demise.root = Some(worker);
        }
    }

    fn latest(&self, container: &ContainerId) -> Option<&Demise> {
        self.of_container(container).next_back()
    }

    /// A demise that was asked for and has not been seen to end.
    fn under_way(&mut self, container: &ContainerId) -> Option<&mut Demise> {
        let id = self.latest(container).filter(|demise| demise.down().is_none())?.id;
        self.all.get_mut(&id)
    }

    fn open(&mut self, container: &ContainerId, seen: Stamp) -> &mut Demise {
        let before = self.latest(container).filter(|demise| demise.down().is_some() && demise.over.is_none());
        let after = before.map(|demise| demise.id);
        self.next += 1;
        let id = DemiseId(self.next);
        let of = self.of.entry(container.clone()).or_default();
        of.push(id);
        if of.len() > PER_CONTAINER {
            let lasts = of.first().and_then(|oldest| self.all.get(oldest)).is_some_and(|oldest| oldest.over.is_none());
            self.all.remove(&of.remove(if lasts { PER_CONTAINER / 2 } else { 0 }));
        }
        self.all.entry(id).or_insert(Demise {
            id,
            container: container.clone(),
            pid: None,
            asked: None,
            exit: None,
            die: None,
            root: None,
            over: None,
            after,
            seen,
        })
    }

    pub(super) fn forget(&mut self, container: &ContainerId) {
        for id in self.of.remove(container).unwrap_or_default() {
            self.all.remove(&id);
        }
    }
}

fn near(demise: &Demise, at: Stamp) -> bool {
    demise.down().is_some_and(|down| at.since(down).0.abs() <= DIE_FOLLOWS.0)
}
