//! Chains: a live server breaks a response, or gives none, because a connection or lookup of its own failed.
//!
//! Attributes when: between the first byte of the request and the close (or the client's timeout), a connection or lookup
//! of the same process to another process failed, in another container or over loopback, or a descendant died (see
//! `causes/descendant`). A failed connection moves the failure to its own case; a failed lookup makes it `dns_gone`; a
//! descendant's death makes it `worker_died`. Of several the latest is used; different causes among them make it
//! ambiguous.
//! Stays silent when: the request began after the upstream failure.

use crate::engine::context::Context;
use crate::engine::failures::table::{Failure, Failures};
use crate::engine::types::cause::Attribution;
use crate::engine::types::evidence::Evidence;
use crate::model::ids::Pid;
use crate::model::time::Stamp;

use super::{Row, Situation, Step, descendant, dns};

/// Failures that are searched for the upstream failure, the latest first.
const SEARCHED: usize = 1_024;

/// A failure of the server itself, upstream.
pub const STEP: Step = Step { name: "upstream failure", attribute };

fn attribute(ctx: Context, situation: &Situation) -> Option<Attribution> {
    let failure = situation.failure;
    let (pid, until) = match (situation.row, situation.close) {
        (Row::ClosedByLiveTask, Some(close)) => (close.task.pid, close.at),
        _ => {
            failure.route.container.as_ref()?;
            (situation.server?.owner.as_ref()?.pid, situation.at)
        }
    };
    let mut upstream = failures_of(ctx.failures, failure, pid, until);
    let latest = upstream.next();
    let same_case = latest.is_none_or(|latest| upstream.all(|other| other.case == latest.case));
    let child = descendant::latest(ctx, situation, pid, until);
    let unambiguous = same_case && (latest.is_none() || child.is_none());
    match (latest, child) {
        (None, None) => None,
        (Some(latest), Some(child)) if child.at < latest.at() => Some(of_upstream(ctx, latest, unambiguous)),
        (Some(latest), None) => Some(of_upstream(ctx, latest, unambiguous)),
        (_, Some(child)) => Some(child.attribution(ctx, unambiguous)),
    }
}

fn of_upstream(ctx: Context, latest: &Failure, unambiguous: bool) -> Attribution {
    if latest.is_lookup() {
        return dns::of_own_lookup(ctx, latest);
    }
    let case = latest.case.and_then(|case| ctx.cases.get(case));
    let evidence = Evidence::Upstream { failure: latest.id, unambiguous };
    let reason = "the server's own connection to another process had failed before";
    match case {
        Some(case) => Attribution::to(case.key.clone(), evidence, reason),
        None => Attribution::ignored("its upstream failure belongs to a closed incident"),
    }
}

/// Failures of a server process itself, to another process, between the first byte of a request and `until`; the latest
/// first.
pub(super) fn failures_of<'a>(
    failures: &'a Failures,
    failure: &'a Failure,
    server: Pid,
    until: Stamp,
) -> impl Iterator<Item = &'a Failure> {
    failures.latest().take(SEARCHED).filter(move |own| {
        let meanwhile = own.at() >= failure.begun && own.at() <= until;
        let of_server = own.id != failure.id && own.client_pid == Some(server) && own.is_error();
        // In its own container, over loopback, it is another process or a port on which none listened.
        let to_another = own.route.container != failure.route.container || own.entry.server.pid != Some(server);
        of_server && meanwhile && own.case.is_some() && to_another
    })
}
