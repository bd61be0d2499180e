//! Which containers there are and which of them run, told by whoever knows first: the kernel of an end, Docker of a start.
//!
//! Bound: the world's own bound of containers; the lowest go first.

use std::collections::BTreeMap;

use crate::model::event::DockerAction;
use crate::model::ids::ContainerId;
use crate::model::time::{Nanos, Stamp};

use crate::engine::world::containers::Container;

const CONTAINERS: usize = 4_096;
/// Docker's `State.StartedAt` lies a little before its `start` event, and a restart loop's starts at least 350 ms apart.
const SAME_START: Nanos = Nanos::from_millis(250);

#[derive(Clone, Debug, Default)]
struct Life {
    up: bool,
    /// Was it ever seen running?
    ran: bool,
    started: Option<Stamp>,
    down: Option<Stamp>,
}

#[derive(Debug, Default)]
pub(super) struct ContainerStates {
    lives: BTreeMap<ContainerId, Life>,
    dirty: bool,
}

impl ContainerStates {
    /// Something changed that gauges depend on.
    pub(super) fn mark_dirty(&mut self) {
        self.dirty = true;
    }

    /// Did anything change since the last call?
    pub(super) fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// A container that was not removed.
    pub(super) fn is_there(&self, id: &ContainerId) -> bool {
        self.lives.contains_key(id)
    }

    pub(super) fn is_up(&self, id: &ContainerId) -> bool {
        self.lives.get(id).is_some_and(|life| life.up)
    }

    /// While it was watched.
    pub(super) fn has_run(&self, id: &ContainerId) -> bool {
        self.lives.get(id).is_some_and(|life| life.ran)
    }

    pub(super) fn down(&mut self, id: &ContainerId, at: Stamp) {
        if let Some(life) = self.lives.get_mut(id)
            && life.started.is_none_or(|started| started <= at)
        {
            life.up = false;
            life.down = life.down.max(Some(at));
        }
        self.mark_dirty();
    }

    /// Docker said something of a container (`action`), or it was inspected. Returns whether it was started again.
    pub(super) fn told(&mut self, container: &Container, action: Option<(Stamp, &DockerAction)>) -> bool {
        self.mark_dirty();
        let id = &container.info.id;
        if matches!(action, Some((_, DockerAction::Destroy))) {
            self.lives.remove(id);
            return false;
        }
        let known = self.lives.contains_key(id);
        let life = self.lives.entry(id.clone()).or_default();
        let mut again = false;
        match action {
            Some((at, DockerAction::Start)) => again = life.start(at, known),
            Some((at, DockerAction::Die { .. })) => {
                life.up = false;
                life.down = life.down.max(Some(at));
            }
            Some(_) => {}
            None => {
                if let Some(started) = container.info.started_at {
                    again = life.start(started, known);
                }
                // An inspection may have been read before the end that is known already.
                let stale = life.down.is_some_and(|down| life.started.is_none_or(|started| started <= down));
                life.up = container.info.running && !stale;
            }
        }
        life.ran |= life.up;
        while self.lives.len() > CONTAINERS {
            self.lives.pop_first();
        }
        again
    }

    /// A full listing: what is not in it was removed.
    pub(super) fn listed(&mut self, there: &[ContainerId]) {
        let there: std::collections::BTreeSet<&ContainerId> = there.iter().collect();
        self.lives.retain(|id, _| there.contains(id));
        self.mark_dirty();
    }
}

impl Life {
    /// Returns whether it is a start that follows another one.
    fn start(&mut self, at: Stamp, known: bool) -> bool {
        if self.started.is_some_and(|started| at.since(started) < SAME_START) {
            // Known already, or an preexisting one.
            self.up |= self.down.is_none_or(|down| down < at);
            return false;
        }
        let again = known && self.started.is_some();
        self.started = Some(at);
        self.up = self.down.is_none_or(|down| down < at);
        again
    }
}
