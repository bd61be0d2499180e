//! `unknown`: a failure that nothing observed explains.
//!
//! Opens when: no other cause applies and the server is on this host; or the server is outside this host and a plain HTTP
//! response was outstanding when the connection ended.
//! Closes when: it settles (it has no condition).
//! Stays silent when: the server is outside this host otherwise.
//! Moment: the client's error.

use crate::engine::context::Context;
use crate::engine::failures::table::{Failure, Symptom};
use crate::engine::incidents::case::Case;
use crate::engine::types::cause::{Attribution, CaseKey};
use crate::engine::types::evidence::Evidence;
use crate::engine::types::verdict::Verdict;
use crate::engine::world::World;
use crate::model::ids::ContainerId;
use crate::model::incident::{Alternative, CauseKind, Confidence};
use crate::model::time::Nanos;

use super::{Cause, Requirements, Situation, Step, against, application, base_verdict, process_of, process_text};

/// Nothing responded at the address.
pub const NO_RESPONSE: Step = Step { name: "unknown", attribute: no_response };
/// The server's endpoint was not observed.
pub const SERVER_NOT_SEEN: Step = Step { name: "unknown", attribute: server_not_seen };
/// A dying task closed, and its exit was not observed.
pub const EXIT_NOT_SEEN: Step = Step { name: "unknown", attribute: exit_not_seen };
/// The client received the end, and the server's endpoint had not closed.
pub const NOT_CLOSED: Step = Step { name: "unknown", attribute: not_closed };

/// connect() failed before a packet left: nothing but the client took part.
pub const NOT_SENT: Step = Step { name: "unknown", attribute: not_sent };

/// The sentence for people.
pub(super) const SUMMARY: &str = "the cause of the broken connection could not be shown";

pub(super) const KIND: CauseKind = CauseKind::Unknown;

pub struct UnknownCause;

pub(super) fn attribution(container: Option<ContainerId>, reason: &str) -> Attribution {
    Attribution::to(CaseKey::Process { container, pid: None, kind: KIND }, Evidence::None, reason)
}

fn container(situation: &Situation) -> Option<ContainerId> {
    situation.failure.route.container.clone()
}

fn no_response(_ctx: Context, situation: &Situation) -> Option<Attribution> {
    let container = container(situation)?;
    Some(attribution(Some(container), "nothing responded at the address, and nothing observed explains it"))
}

fn not_sent(_ctx: Context, situation: &Situation) -> Option<Attribution> {
    let failure = situation.failure;
    let key = CaseKey::Process { container: failure.client_container.clone(), pid: failure.client_pid, kind: KIND };
    Some(Attribution::to(key, Evidence::None, "the client's connect() failed before a packet left"))
}

fn server_not_seen(ctx: Context, situation: &Situation) -> Option<Attribution> {
    if let Some(container) = container(situation) {
        return Some(attribution(Some(container), "the server's endpoint of the connection was not observed"));
    }
    let unanswered = without_response(ctx.world, situation.failure);
    unanswered.then(|| attribution(None, "a server outside this host sent no byte of the outstanding response"))
}

fn exit_not_seen(_ctx: Context, situation: &Situation) -> Option<Attribution> {
    let reason = "the server's process closed while dying, and its exit was not observed";
    Some(attribution(container(situation), reason))
}

fn not_closed(_ctx: Context, situation: &Situation) -> Option<Attribution> {
    let reason = "the client received the end, and the server's endpoint had not closed";
    Some(attribution(container(situation), reason))
}

/// A plain HTTP request was sent and nothing has arrived since: a response was outstanding, wherever the server is.
fn without_response(world: &World, failure: &Failure) -> bool {
    let Some(endpoint) = world.sockets.get(failure.route.client) else { return false };
    let begun = endpoint.http.begun_at;
    let silent = begun.is_some_and(|begun| endpoint.last_received.is_none_or(|received| received < begun));
    !endpoint.http.opaque && silent
}

impl Cause for UnknownCause {
    fn kinds(&self) -> &'static [CauseKind] {
        &[KIND]
    }

    fn subject<'a>(&self, _world: &'a World, key: &'a CaseKey) -> Option<&'a ContainerId> {
        process_of(key).0
    }

    fn verdict(&self, ctx: Context, case: &Case) -> Verdict {
        let base = base_verdict(ctx, case, KIND, self.subject(ctx.world, &case.key));
        // Only an attempt that failed before a packet left is about a process: the client's.
        let pid = process_of(&case.key).1.or(base.pid);
        Verdict { confidence: Confidence::Possible, pid, comm: pid.and_then(|pid| ctx.comm(pid)), ..base }
    }

    fn summary(&self, ctx: Context, case: &Case, verdict: &Verdict) -> String {
        let Some(first) = ctx.failures_of(case).next().filter(|failure| failure.symptom == Symptom::NotSent) else {
            return SUMMARY.to_owned();
        };
        let (process, address) = (process_text(verdict), first.route.address);
        match first.entry.client_error.errno.as_deref() {
            Some(errno) => format!("connect() of {process} to {address} failed with {errno}, and no packet was sent"),
            None => format!("connect() of {process} to {address} failed, and no packet was sent"),
        }
    }

    fn alternatives(&self, ctx: Context, case: &Case, _verdict: &Verdict) -> Vec<Alternative> {
        let is_unseen = |failure: &Failure| failure.route.server.is_none() && failure.symptom != Symptom::NotSent;
        let unseen = ctx.failures_of(case).next().is_some_and(is_unseen);
        let sentence = "no close of the server's endpoint was observed";
        if unseen { vec![against(application::APP_CLOSED, sentence)] } else { Vec::new() }
    }

    fn max_gap(&self) -> Option<Nanos> {
        Some(application::GAP)
    }

    fn requirements(&self) -> Requirements {
        Requirements { connection_events: true, ..Requirements::default() }
    }
}
