//! When a container is back.
//!
//! Opens nothing. Closes when: the container, or its successor by name or Compose service, listens on every port that
//! it listened on; one that never listened, when it has run for [`RUNS_FOR`]. Stays silent while a port is missing.

use crate::engine::world::World;
use crate::engine::world::terminations::{Termination, TerminationId};
use crate::model::ids::ContainerId;
use crate::model::time::{Nanos, Stamp};

/// A container without ports is back when it has run for this long.
pub const RUNS_FOR: Nanos = Nanos::from_secs(10);

/// The terminations that end because `id` listens on one more port.
#[must_use]
pub fn listening(world: &World, id: &ContainerId) -> Vec<TerminationId> {
    let Some(risen) = world.containers.get(id) else { return Vec::new() };
    let back = |termination: &&Termination| {
        let Some(fallen) = world.containers.get(&termination.container) else { return false };
        risen.succeeds(fallen)
            && !fallen.ports.is_empty()
            && fallen.ports.keys().all(|port| {
                let since = risen.listening.get(port);
                since.is_some_and(|since| termination.down().is_some_and(|down| *since > down))
            })
    };
    world.terminations.down().filter(back).map(|termination| termination.id).collect()
}

/// The terminations of containers without ports whose successor has run long enough, each with the instant.
#[must_use]
pub fn running(world: &World, now: Stamp) -> Vec<(TerminationId, Stamp)> {
    let mut back = Vec::new();
    for termination in world.terminations.down() {
        let Some(fallen) = world.containers.get(&termination.container).filter(|fallen| fallen.ports.is_empty()) else {
            continue;
        };
        let Some(down) = termination.down() else { continue };
        let risen = world.containers.all().filter(|risen| risen.info.running && risen.succeeds(fallen));
        let started = risen.filter_map(|risen| risen.starts.back().copied()).filter(|start| *start > down).min();
        if let Some(started) = started.filter(|started| now.since(*started) >= RUNS_FOR) {
            back.push((termination.id, started.plus(RUNS_FOR)));
        }
    }
    back
}
