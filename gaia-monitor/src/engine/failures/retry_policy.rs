//! Retry policies: whether a client's own code retries an error class, and the label by which policies and metrics know
//! the client.

use crate::engine::world::World;
use crate::model::ids::{ContainerId, Cookie};
use crate::model::incident::{EXTERNAL, HOST, HttpxClass};
use crate::model::settings::Policy;

/// Whether the policy of a client retries a class. `service`: the label of the client, see [`client_label`].
#[must_use]
pub fn retries(policy: &Policy, service: &str, class: HttpxClass) -> bool {
    policy.services.get(service).unwrap_or(&policy.default).contains(&class)
}

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
