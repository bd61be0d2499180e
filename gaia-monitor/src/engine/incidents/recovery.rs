//! When a container is back.
//!
//! Opens nothing. Closes when: the container, or its successor by name or Compose service, listens on every port that its
//! last long run listened on; one without ports, when it has run for [`RUNS_FOR`] and its health check, if it has one,
//! passes. Stays silent while a port is missing.

use crate::engine::world::World;
use crate::engine::world::containers::Container;
use crate::engine::world::terminations::{Termination, TerminationId};
use crate::model::ids::ContainerId;
use crate::model::time::{Nanos, Stamp};

/// A container without ports is back when it has run for this long.
const RUNS_FOR: Nanos = Nanos::from_secs(10);

/// Terminations that end because `id` listens on one more port.
#[must_use]
pub fn listening(world: &World, id: &ContainerId) -> Vec<TerminationId> {
    let Some(successor) = world.containers.get(id) else { return Vec::new() };
    let is_back = |termination: &&Termination| {
        let Some(down) = termination.down() else { return false };
        let Some(terminated) = world.containers.get(&termination.container) else { return false };
        let listens = |port: &u16| successor.listening.get(port).is_some_and(|since| *since > down);
        successor.succeeds(terminated)
            && !terminated.needed_ports.is_empty()
            && terminated.needed_ports.iter().all(listens)
    };
    world.terminations.down().filter(is_back).map(|termination| termination.id).collect()
}

/// Terminations of containers without ports whose successor has run long enough, each with the instant.
#[must_use]
pub fn running(world: &World, now: Stamp) -> Vec<(TerminationId, Stamp)> {
    let back = |termination: &Termination| {
        let terminated = world.containers.get(&termination.container).filter(|it| it.needed_ports.is_empty())?;
        let down = termination.down()?;
        let is_healthy = |health: &Option<String>| health.as_deref().is_none_or(|health| health == "healthy");
        let is_up = |it: &&Container| it.info.running && it.down.is_none() && is_healthy(&it.info.health);
        let successors = world.containers.all().filter(is_up).filter(|it| it.succeeds(terminated));
        let started = successors.filter_map(|it| it.starts.back().copied()).filter(|start| *start > down).min()?;
        (now.since(started) >= RUNS_FOR).then(|| (termination.id, started.plus(RUNS_FOR)))
    };
    world.terminations.down().filter_map(back).collect()
}
