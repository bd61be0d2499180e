//! Failed attempts that another address of the same name made good: a client that fails at one address and is accepted at
//! the next has lost nothing (RFC 8305; anyio, curl, browsers, and loops over getaddrinfo's results).
//!
//! Two addresses are of one name if one lookup of the process gave both, or if one container has both in different
//! families. An accepted connect makes good the latest attempt at each other address. An attempt that its client gives up
//! after another address has accepted is the same in the other order.
//!
//! Without the lookup, an attempt at another container stays a failure: a fallback has another name.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::engine::context::Context;
use crate::engine::failures::table::{Failure, Symptom};
use crate::engine::types::ids::{CaseId, FailureId};
use crate::engine::world::World;
use crate::engine::world::tcp::endpoint::{Endpoint, Side};
use crate::model::ids::{Cookie, Pid};
use crate::model::time::{Nanos, Stamp};

/// Failures that are compared, the latest first.
const COMPARED: usize = 100;
/// The next address is tried immediately after a failure, and accepts within this time. What comes later is another attempt:
/// a server that is back does not undo what it refused.
pub const NEXT_ATTEMPT: Nanos = Nanos::from_millis(200);

/// The failed attempts, each with its case, that the connect of `client`, accepted at `at`, makes good.
#[must_use]
pub fn made_good(ctx: Context, at: Stamp, client: Cookie) -> Vec<(FailureId, Option<CaseId>)> {
    let Some(endpoint) = ctx.world.sockets.get(client) else { return Vec::new() };
    let Some(pid) = endpoint.owner.as_ref().map(|task| task.pid) else { return Vec::new() };
    let recent = |failure: &&Failure| {
        let before = failure.at() <= at && at.since(failure.at()) <= NEXT_ATTEMPT;
        before && failure.client_pid == Some(pid) && is_attempt(failure)
    };
    let mut recent = ctx.failures.latest().take(COMPARED).filter(recent).peekable();
    if recent.peek().is_none() {
        return Vec::new();
    }
    let container = ctx.world.route(client, at).and_then(|route| route.container);
    let mut addresses = BTreeSet::new();
    let good = recent.filter(|failure| {
        let failed = requested(ctx.world, failure);
        let accepted = endpoint.socket.remote;
        let other_family = failed.is_ipv4() != accepted.is_ipv4();
        let same_container = container.is_some() && other_family && failure.route.container == container;
        // A closed incident has been reported for good.
        let is_open = failure.case.is_none_or(|case| ctx.cases.get(case).is_some());
        let same_name = failed != accepted && failed.port() == accepted.port();
        let same_name = same_name && (same_container || is_one_name(ctx.world, pid, failed, accepted));
        same_name && is_open && addresses.insert(failed)
    });
    good.map(|failure| (failure.id, failure.case)).collect()
}

/// Whether a client gives up its connect because another address of the name has accepted.
#[must_use]
pub fn has_won_elsewhere(world: &World, at: Stamp, client: Cookie) -> bool {
    let Some(given_up) = world.sockets.get(client) else { return false };
    let Some(pid) = given_up.owner.as_ref().map(|task| task.pid) else { return false };
    let is_winner = |other: &&Endpoint| {
        let own = other.side == Side::Client && other.owner.as_ref().is_some_and(|task| task.pid == pid);
        let (one, two) = (given_up.socket.remote, other.socket.remote);
        let accepted = other.established.filter(|accepted| *accepted >= given_up.opened);
        let recent = accepted.is_some_and(|accepted| at.since(accepted) <= NEXT_ATTEMPT);
        own && recent && one != two && one.port() == two.port() && is_one_name(world, pid, one, two)
    };
    world.sockets.open().any(|other| is_winner(&other))
}

/// Whether the next address of its name may still make a failure good.
#[must_use]
pub fn may_be_made_good(ctx: Context, failure: &Failure) -> bool {
    let Some(pid) = failure.client_pid.filter(|_| is_attempt(failure)) else { return false };
    let waits = ctx.world.now.since(failure.seen) <= NEXT_ATTEMPT;
    waits && ctx.world.lookups.has_other_address(pid, requested(ctx.world, failure).ip())
}

/// A connect that failed.
#[must_use]
pub fn is_attempt(failure: &Failure) -> bool {
    matches!(failure.symptom, Symptom::Refused | Symptom::Unreachable | Symptom::SynUnanswered)
}

fn is_one_name(world: &World, pid: Pid, one: SocketAddr, other: SocketAddr) -> bool {
    world.lookups.gave_both(pid, one.ip(), other.ip())
}

/// The address that the client connected to.
#[must_use]
pub fn requested(world: &World, failure: &Failure) -> SocketAddr {
    world.sockets.get(failure.route.client).map_or(failure.route.address, |endpoint| endpoint.socket.remote)
}
