//! The parties of a followed request: its client with policy and fallback, and the servers that it asks.

use crate::engine::context::Context;
use crate::engine::failures::table::Failure;
use crate::engine::failures::{record, retry_policy};
use crate::model::ids::{ContainerId, Cookie, Pid};
use crate::model::incident::Party;
use crate::model::time::Stamp;

use super::followed::{Destination, FollowedRequest, ServerKey, TrackedAttempt};

/// A request that has met its first trouble.
pub fn followed(
    ctx: Context,
    pid: Pid,
    client: Party,
    client_container: Option<ContainerId>,
    attempt: TrackedAttempt,
) -> FollowedRequest {
    let world = ctx.world;
    let label = retry_policy::service_label(world, client_container.as_ref());
    let server = attempt.to.container.as_ref();
    let policy = ctx.settings.policy.of(&label, &retry_policy::service_label(world, server)).clone();
    let primary = server.and_then(|id| world.containers.get(id));
    let candidate = primary.and_then(|primary| world.candidate_of(primary, client_container.as_ref()));
    FollowedRequest {
        pid,
        client,
        client_container,
        policy,
        primary: attempt.to.clone(),
        candidate: candidate.and_then(|id| server_key(ctx, &id)),
        attempts: vec![attempt],
        repeat: None,
        rivals: false,
        ambiguous: false,
        early_fallback: false,
        dues: Vec::new(),
        maintenance: false,
    }
}

pub fn is_in_scope(ctx: Context, request: &FollowedRequest) -> bool {
    ctx.any_in_scope([request.client_container.as_ref(), request.primary.container.as_ref()])
}

pub fn server_key(ctx: Context, container: &ContainerId) -> Option<ServerKey> {
    let info = &ctx.world.containers.get(container)?.info;
    Some(ServerKey(format!("{}/{}", info.project.as_deref().unwrap_or_default(), info.service_label())))
}

/// The server of a client's connection.
pub fn destination(ctx: Context, client: Cookie, at: Stamp) -> Option<Destination> {
    let route = ctx.world.route(client, at)?;
    let serving = route.server.and_then(|cookie| ctx.world.sockets.get(cookie));
    let task = serving.and_then(|endpoint| endpoint.owner.as_ref());
    let party = record::party(ctx.world, route.container.as_ref(), route.address, task);
    let key = route.container.as_ref().and_then(|id| server_key(ctx, id));
    let key = key.unwrap_or_else(|| ServerKey(route.address.to_string()));
    Some(Destination { key, container: route.container, party })
}

/// The server that the client of a failure connected to: where another one behind it failed, the entry names that one.
pub fn asked(ctx: Context, failure: &Failure) -> Party {
    let entry = &failure.entry;
    match entry.via.as_ref().filter(|via| via.container.is_some()) {
        Some(via) => {
            let party = record::party(ctx.world, failure.route.container.as_ref(), failure.route.address, None);
            Party { pid: via.pid, comm: via.comm.clone(), ..party }
        }
        None => entry.server.clone(),
    }
}
