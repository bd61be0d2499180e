//! Refusals that another address of the same name made good: a client that is refused at one address family and accepted
//! at the other has lost nothing (RFC 8305; anyio, curl, browsers, and loops over getaddrinfo's results).
//!
//! Joined by order: a refused connect, and a later one of the same process to the same port of the same container over
//! the other family. An accepted connect makes good one refusal, the latest.

use crate::engine::context::Context;
use crate::engine::failures::table::{Failure, Symptom};
use crate::engine::types::ids::{CaseId, FailureId};
use crate::model::ids::Cookie;
use crate::model::time::{Nanos, Stamp};

/// Failures that are compared, the latest first.
const COMPARED: usize = 100;
/// The next address is tried immediately after a refusal, and 250 ms after the first at the latest (RFC 8305, 5). What
/// comes later is another attempt: a server that is back does not undo what it refused.
const NEXT_ATTEMPT: Nanos = Nanos::from_millis(300);

/// The refusal, and its open case, that the connect of `client`, accepted at `at`, makes good.
#[must_use]
pub fn refusal_made_good(ctx: Context, at: Stamp, client: Cookie) -> Option<(FailureId, CaseId)> {
    let endpoint = ctx.world.sockets.get(client)?;
    let pid = endpoint.owner.as_ref()?.pid;
    let same_process = |failure: &&Failure| {
        let other_family = failure.route.address.is_ipv4() != endpoint.socket.remote.is_ipv4();
        failure.symptom == Symptom::Refused && failure.client_pid == Some(pid) && other_family
    };
    let mut refused = ctx.failures.latest().take(COMPARED).filter(same_process).peekable();
    refused.peek()?;
    let route = ctx.world.route(client, at).filter(|route| route.container.is_some())?;
    let failure = refused.find(|failure| {
        let same_port = failure.route.address.port() == route.address.port();
        let next = failure.at() <= endpoint.opened && endpoint.opened.since(failure.at()) <= NEXT_ATTEMPT;
        failure.route.container == route.container && same_port && next
    })?;
    // A closed incident has been reported for good.
    let case = failure.case.filter(|case| ctx.cases.get(*case).is_some())?;
    Some((failure.id, case))
}
