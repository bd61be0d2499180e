//! Would this client's own code retry the error? By class alone.

use crate::model::ids::{ContainerId, Cookie};
use crate::model::incident::{EXTERNAL, HOST, HttpxClass};

use crate::engine::world::World;
use crate::model::settings::Policy;

/// `service` is what [`caller`] says.
#[must_use]
pub fn retried(policy: &Policy, service: &str, class: HttpxClass) -> bool {
    policy.services.get(service).unwrap_or(&policy.default).contains(&class)
}

/// What policies and metrics call an end of a connection.
#[must_use]
pub fn client_name(world: &World, container: Option<&ContainerId>) -> String {
    let container = container.and_then(|id| world.containers.get(id));
    container.map_or_else(|| HOST.to_owned(), |container| container.service_or_name().to_owned())
}

/// What they call a client: [`client_name`], or `external` on another host.
#[must_use]
pub fn caller(world: &World, client: Cookie, container: Option<&ContainerId>) -> String {
    if client.is_outside() { EXTERNAL.to_owned() } else { client_name(world, container) }
}
