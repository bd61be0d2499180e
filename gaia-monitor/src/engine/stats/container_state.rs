//! Known containers and whether each is running, from the source that reports first: the kernel an exit, Docker a
//! start.
//!
//! Bound: the world's own bound of containers; beyond it the lowest ids are evicted.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::event::DockerAction;
use crate::model::ids::ContainerId;
use crate::model::time::{Nanos, Stamp};

use crate::engine::world::containers::Container;

const CONTAINERS: usize = 4_096;
/// Docker's `State.StartedAt` is slightly before its `start` event, while the starts of a restart loop are at least 350
/// ms apart.
const SAME_START: Nanos = Nanos::from_millis(250);

#[derive(Debug, Default)]
pub(super) struct ContainerStates {
    by_id: BTreeMap<ContainerId, State>,
    dirty: bool,
}

#[derive(Clone, Debug, Default)]
struct State {
    up: bool,
    /// The container was observed running at least once.
    has_run: bool,
    started: Option<Stamp>,
    down: Option<Stamp>,
}

impl ContainerStates {
    /// Records that something changed on which gauges depend.
    pub(super) fn mark_dirty(&mut self) {
        self.dirty = true;
    }

    /// Whether anything changed since the last call.
    pub(super) fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// Whether the container exists: it was reported and not removed.
    pub(super) fn is_there(&self, id: &ContainerId) -> bool {
        self.by_id.contains_key(id)
    }

    pub(super) fn is_up(&self, id: &ContainerId) -> bool {
        self.by_id.get(id).is_some_and(|state| state.up)
    }

    /// Whether the container was running at any time while it was observed.
    pub(super) fn has_run(&self, id: &ContainerId) -> bool {
        self.by_id.get(id).is_some_and(|state| state.has_run)
    }

    /// Records an exit that the kernel reported.
    pub(super) fn down(&mut self, id: &ContainerId, at: Stamp) {
        if let Some(state) = self.by_id.get_mut(id)
            && state.started.is_none_or(|started| started <= at)
        {
            state.stop(at);
        }
        self.mark_dirty();
    }

    /// Records an event of Docker (`action`) or an inspection (`None`). Returns whether it is a restart.
    pub(super) fn update(&mut self, container: &Container, action: Option<(Stamp, &DockerAction)>) -> bool {
        self.mark_dirty();
        let id = &container.info.id;
        if matches!(action, Some((_, DockerAction::Destroy))) {
            self.by_id.remove(id);
            return false;
        }
        let known = self.by_id.contains_key(id);
        let state = self.by_id.entry(id.clone()).or_default();
        let mut restarted = false;
        match action {
            Some((at, DockerAction::Start)) => restarted = state.start(at, known),
            Some((at, DockerAction::Die { .. })) => state.stop(at),
            Some(_) => {}
            None => {
                if let Some(started) = container.info.started_at {
                    restarted = state.start(started, known);
                }
                // The inspection may be older than an exit that is already known.
                let stale = state.down.is_some_and(|down| state.started.is_none_or(|started| started <= down));
                state.up = container.info.running && !stale;
            }
        }
        state.has_run |= state.up;
        while self.by_id.len() > CONTAINERS {
            self.by_id.pop_first();
        }
        restarted
    }

    /// Removes the containers that are missing in a full listing.
    pub(super) fn listed(&mut self, listed: &[ContainerId]) {
        let listed: BTreeSet<&ContainerId> = listed.iter().collect();
        self.by_id.retain(|id, _| listed.contains(id));
        self.mark_dirty();
    }
}

impl State {
    /// Returns whether an earlier start was known, so that this one is a restart.
    fn start(&mut self, at: Stamp, known: bool) -> bool {
        let after_exit = self.down.is_none_or(|down| down < at);
        if self.started.is_some_and(|started| at.since(started) < SAME_START) {
            // The same start from another source, or an older one.
            self.up |= after_exit;
            return false;
        }
        let restarted = known && self.started.is_some();
        self.started = Some(at);
        self.up = after_exit;
        restarted
    }

    fn stop(&mut self, at: Stamp) {
        self.up = false;
        self.down = self.down.max(Some(at));
    }
}
