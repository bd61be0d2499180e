//! Traffic that passes where packets were filtered, and packets that are dropped again: which open cases it concerns.
//!
//! Traffic that passes ends the condition `filtered`: a connect of an affected client to the same server that is accepted,
//! or, on an affected connection itself, a FIN or RST that arrives at its server. A drop after that shows that the filter
//! is still in place.

use std::net::SocketAddr;

use crate::engine::causes::packet_filter;
use crate::engine::context::Context;
use crate::engine::failures::table::Failure;
use crate::engine::types::ids::CaseId;
use crate::model::ids::{ContainerId, Cookie};
use crate::model::time::Stamp;

use super::case::Case;

/// Failures of a case that are compared with the traffic, the first ones.
const COMPARED: usize = 100;

/// Cases whose filter had let traffic pass and drops packets between these addresses again.
#[must_use]
pub fn dropping_again(ctx: Context, source: SocketAddr, destination: SocketAddr) -> Vec<CaseId> {
    let between = |failure: &Failure| {
        let ends = [source.ip(), destination.ip()];
        let client = failure.entry.client.ip;
        client.is_some_and(|client| ends.contains(&client)) && ends.contains(&failure.route.address.ip())
    };
    filtered_cases(ctx, |case| case.passed.is_some(), between)
}

/// Cases whose filter lets the connect of `client`, accepted at `at`, pass.
#[must_use]
pub fn passed_by_connect(ctx: Context, at: Stamp, client: Cookie) -> Vec<CaseId> {
    if !ctx.cases.open().any(packet_filter::is_case) {
        return Vec::new();
    }
    let world = ctx.world;
    let Some((endpoint, route)) = world.sockets.get(client).zip(world.route(client, at)) else { return Vec::new() };
    let (remote, netns, leg) = (endpoint.socket.remote, endpoint.socket.netns, world.is_proxy_leg(client));
    let container: Option<ContainerId> = world.container_of_endpoint(client);
    let alike = |failure: &Failure| {
        let same_server = match &failure.route.container {
            Some(id) => route.container.as_ref() == Some(id) && route.address.port() == failure.route.address.port(),
            None => failure.route.address == remote,
        };
        let same_client = match &failure.client_container {
            Some(id) => container.as_ref() == Some(id),
            None => world.sockets.get(failure.route.client).is_some_and(|own| own.socket.netns == netns),
        };
        same_server && if failure.route.proxy.is_some() { leg } else { same_client }
    };
    filtered_cases(ctx, |case| case.passed.is_none(), alike)
}

/// The case whose filter let a FIN or RST pass to this server's endpoint.
#[must_use]
pub fn passed_by_close(ctx: Context, at: Stamp, server: Cookie) -> Option<CaseId> {
    let sockets = &ctx.world.sockets;
    let client = sockets.get(server)?.peer?;
    let failure = ctx.failures.of_client(client)?;
    let case = ctx.cases.get(failure.case?).filter(|case| packet_filter::is_case(case))?;
    let responses_only = sockets.get(client).is_some_and(|endpoint| {
        let packets = ctx.world.dropped_of(endpoint, failure.route.container.as_ref(), at);
        packets.last().is_some_and(|last| last.destination == endpoint.socket.local)
    });
    // If only responses are dropped, what the client sends proves nothing, except its RST to one that arrived.
    let by_reset = sockets.get(server).is_some_and(|endpoint| endpoint.rst_in.is_some());
    let own_reset = sockets.get(client).and_then(|endpoint| endpoint.close.as_ref()).is_some_and(|close| close.reset);
    if packet_filter::rejects(case) || (responses_only && (!by_reset || own_reset)) {
        return None;
    }
    Some(case.id)
}

fn filtered_cases(ctx: Context, wanted: impl Fn(&Case) -> bool, alike: impl Fn(&Failure) -> bool) -> Vec<CaseId> {
    let open = ctx.cases.open().filter(|case| packet_filter::is_case(case) && wanted(case));
    let of = |case: &&Case| ctx.failures_of(case).take(COMPARED).any(&alike);
    open.filter(of).map(|case| case.id).collect()
}
