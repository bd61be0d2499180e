//! The labels by which retry policies and metrics know clients and servers.

use crate::engine::world::World;
use crate::model::ids::{ContainerId, Cookie};
use crate::model::incident::{EXTERNAL, HOST};

/// The label of an endpoint: the service of its container, or `host`.
#[must_use]
pub fn service_label(world: &World, container: Option<&ContainerId>) -> String {
    let container = container.and_then(|id| world.containers.get(id));
    container.map_or_else(|| HOST.to_owned(), |container| container.info.service_label().to_owned())
}

/// The label of a client: [`service_label`], or `external` on another host.
#[must_use]
pub fn client_label(world: &World, client: Cookie, container: Option<&ContainerId>) -> String {
    if client.is_outside() { EXTERNAL.to_owned() } else { service_label(world, container) }
}
