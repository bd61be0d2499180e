//! Terminations of containers: one [`Termination`] from the first signal that requests it, or from the exit, until the
//! container, or its successor, listens again on all of its ports.
//!
//! Bound: [`PER_CONTAINER`] terminations of each container. When reached, the oldest is evicted if it has recovered. In
//! a crash loop, one from the middle is evicted instead: incidents refer to the first ones, and new failures to the
//! latest.

use std::collections::BTreeMap;

use crate::model::event::{ContainerInfo, ExitStatus, RecordedEnd};
use crate::model::ids::{ContainerId, Pid};
use crate::model::time::{Nanos, Stamp};

/// As many as the lines of a timeline.
const PER_CONTAINER: usize = 200;
/// A request without an exit is ignored after this time. It is long because `docker stop` may have a long grace period.
const REQUEST_WINDOW: Nanos = Nanos::from_secs(300);
/// Docker's `die` follows the exit within 50 ms, 185 ms on a loaded machine.
const DIE_DELAY: Nanos = Nanos::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TerminationId(pub u64);

#[derive(Clone, Debug)]
pub struct Termination {
    pub id: TerminationId,
    pub container: ContainerId,
    /// The container's main process.
    pub pid: Option<Pid>,
    /// The signal that requested it.
    pub requested: Option<(Stamp, String)>,
    pub exit: Option<ObservedExit>,
    pub die: Option<Die>,
    /// Docker's record of an end before the monitor started.
    pub recorded: Option<Recorded>,
    /// The worker whose exit caused the termination.
    pub root: Option<Pid>,
    /// When the container, or its successor, served again.
    pub recovered: Option<Stamp>,
    /// The previous termination of a crash loop, from which the container had not recovered.
    pub previous: Option<TerminationId>,
    /// When the engine received its last fact.
    pub seen: Stamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedExit {
    pub at: Stamp,
    pub status: ExitStatus,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Die {
    pub at: Stamp,
    pub exit_code: Option<i64>,
}

/// The end of a container's last run in Docker's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub end: RecordedEnd,
    pub exit_code: Option<i64>,
}

impl Termination {
    /// When it began.
    #[must_use]
    pub fn since(&self) -> Stamp {
        let requested = self.requested.as_ref().map(|(at, _)| *at);
        requested.or(self.down()).unwrap_or(self.seen)
    }

    /// When the container was down.
    #[must_use]
    pub fn down(&self) -> Option<Stamp> {
        let observed = self.exit.as_ref().map(|exit| exit.at);
        let recorded = || self.recorded.map(|recorded| recorded.end.at);
        observed.or_else(recorded).or(self.die.as_ref().map(|die| die.at))
    }

    pub(super) fn covers(&self, at: Stamp) -> bool {
        if self.since() > at || self.recovered.is_some_and(|recovered| recovered <= at) {
            return false;
        }
        self.down().is_some() || at.since(self.since()) <= REQUEST_WINDOW
    }
}

#[derive(Debug, Default)]
pub struct Terminations {
    all: BTreeMap<TerminationId, Termination>,
    by_container: BTreeMap<ContainerId, Vec<TerminationId>>,
    next: u64,
}

impl Terminations {
    #[must_use]
    pub fn get(&self, id: TerminationId) -> Option<&Termination> {
        self.all.get(&id)
    }

    /// The termination in progress at an instant; the latest, if several.
    #[must_use]
    pub fn current(&self, container: &ContainerId, at: Stamp) -> Option<&Termination> {
        self.of_container(container).rev().find(|termination| termination.covers(at))
    }

    pub fn of_container(&self, container: &ContainerId) -> impl DoubleEndedIterator<Item = &Termination> {
        self.by_container.get(container).into_iter().flatten().filter_map(|id| self.all.get(id))
    }

    /// Terminations of containers that have not recovered.
    pub fn down(&self) -> impl Iterator<Item = &Termination> {
        self.all.values().filter(|termination| termination.down().is_some() && termination.recovered.is_none())
    }

    pub(super) fn request(&mut self, at: Stamp, seen: Stamp, container: &ContainerId, pid: Pid, signal: &str) {
        if let Some(requested) = self.requested(container) {
            requested.seen = seen;
            return;
        }
        let termination = self.begin(container, seen);
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
        let existing = match self.latest(container) {
            // A killed init exits first, and the kernel then kills the rest of its namespace: one termination, of the
            // child.
            Some(termination) if init.is_some() && termination.pid == init && is_near(termination, at) => {
                Some(termination.id)
            }
            // Docker's `die` arrived first.
            Some(termination)
                if termination.exit.is_none()
                    && (termination.down().is_none() || is_near(termination, at))
                    && termination.recorded.is_none_or(|recorded| at <= recorded.end.at) =>
            {
                Some(termination.id)
            }
            Some(_) | None => None,
        };
        let termination = match existing.and_then(|id| self.all.get_mut(&id)) {
            Some(termination) => termination,
            None => self.begin(container, seen),
        };
        termination.pid = Some(pid);
        termination.exit = Some(ObservedExit { at, status: status.clone() });
        termination.seen = seen;
        termination.id
    }

    /// Records Docker's `die`. It belongs to the exit that was observed since the container last `started`.
    pub(super) fn docker_die(
        &mut self,
        at: Stamp,
        seen: Stamp,
        container: &ContainerId,
        code: Option<i64>,
        started: Option<Stamp>,
    ) -> TerminationId {
        // However late: an engine that hung reports it seconds after the exit.
        let is_of_run = |exit: &ObservedExit| started.is_none_or(|started| started <= exit.at);
        let existing = match self.latest(container) {
            Some(termination)
                if termination.die.is_none()
                    && (termination.recorded.is_none() || is_near(termination, at))
                    && termination.exit.as_ref().is_none_or(|exit| is_of_run(exit) || is_near(termination, at)) =>
            {
                Some(termination.id)
            }
            Some(_) | None => None,
        };
        let termination = match existing.and_then(|id| self.all.get_mut(&id)) {
            Some(termination) => termination,
            None => self.begin(container, seen),
        };
        termination.die = Some(Die { at, exit_code: code });
        termination.seen = seen;
        termination.id
    }

    /// Docker's record of an end that came before the monitor, unless a fact of the same end is known already.
    pub(super) fn recorded(&mut self, seen: Stamp, info: &ContainerInfo, end: RecordedEnd) -> Option<TerminationId> {
        let is_known = |known: &Termination| known.down().is_none_or(|down| down >= end.at) || is_near(known, end.at);
        if self.latest(&info.id).is_some_and(is_known) {
            return None;
        }
        let termination = self.begin(&info.id, seen);
        termination.recorded = Some(Recorded { end, exit_code: info.exit_code });
        Some(termination.id)
    }

    /// The container serves again.
    pub(super) fn mark_recovered(&mut self, at: Stamp, id: TerminationId) {
        if let Some(termination) = self.all.get_mut(&id) {
            termination.recovered = Some(at);
        }
    }

    pub(in crate::engine) fn set_root(&mut self, id: TerminationId, worker: Pid) {
        if let Some(termination) = self.all.get_mut(&id) {
            termination.root = Some(worker);
        }
    }

    fn latest(&self, container: &ContainerId) -> Option<&Termination> {
        self.of_container(container).next_back()
    }

    /// A termination that was requested, without an exit yet.
    fn requested(&mut self, container: &ContainerId) -> Option<&mut Termination> {
        let id = self.latest(container).filter(|termination| termination.down().is_none())?.id;
        self.all.get_mut(&id)
    }

    fn begin(&mut self, container: &ContainerId, seen: Stamp) -> &mut Termination {
        let unrecovered = self
            .latest(container)
            .filter(|termination| termination.down().is_some() && termination.recovered.is_none());
        let previous = unrecovered.map(|termination| termination.id);
        self.next += 1;
        let id = TerminationId(self.next);
        let ids = self.by_container.entry(container.clone()).or_default();
        ids.push(id);
        if ids.len() > PER_CONTAINER {
            let is_unrecovered =
                ids.first().and_then(|oldest| self.all.get(oldest)).is_some_and(|oldest| oldest.recovered.is_none());
            self.all.remove(&ids.remove(if is_unrecovered { PER_CONTAINER / 2 } else { 0 }));
        }
        self.all.entry(id).or_insert(Termination {
            id,
            container: container.clone(),
            pid: None,
            requested: None,
            exit: None,
            die: None,
            recorded: None,
            root: None,
            recovered: None,
            previous,
            seen,
        })
    }

    pub(super) fn evict(&mut self, container: &ContainerId) {
        for id in self.by_container.remove(container).unwrap_or_default() {
            self.all.remove(&id);
        }
    }
}

fn is_near(termination: &Termination, at: Stamp) -> bool {
    termination.down().is_some_and(|down| at.since(down).0.abs() <= DIE_DELAY.0)
}
