//! `backlog_overflow`: a listener's accept queue is full, and the kernel drops further SYNs.
//!
//! Opens when: a connect without a response met a full queue, or the kernel's counters of its namespace grew by packets
//! that the probe did not observe. Closes when: it settles (it has no condition).
//! Stays silent when: the SYN got through after a retransmission.
//! Moment: the first SYN, not its retransmission.
//! Distinguished from: `packet_dropped` by the listener, which the packet reached.

use crate::engine::context::Context;
use crate::engine::failures::table::{Failure, Symptom};
use crate::engine::incidents::case::Case;
use crate::engine::types::cause::{Attribution, CaseKey};
use crate::engine::types::evidence::Evidence;
use crate::engine::types::verdict::{Judgement, Verdict};
use crate::engine::world::World;
use crate::engine::world::network::drops::QueueCounts;
use crate::engine::world::tcp::endpoint::Endpoint;
use crate::model::ids::ContainerId;
use crate::model::incident::{Alternative, CauseKind, Confidence, MomentFact};

use super::{Cause, Requirements, Situation, Step, against, awaited, base_verdict, packet_filter, port_text};

/// A connection whose handshake the server never completed.
pub const STEP: Step = Step { name: "accept queue", attribute };
/// The same, only for a SYN without a response.
pub const OF_SYN: Step = Step { name: "accept queue (SYN only)", attribute: of_syn };

pub struct AcceptQueueCause;

fn attribute(ctx: Context, situation: &Situation) -> Option<Attribution> {
    let failure = situation.failure;
    let id = failure.route.container.clone()?;
    // The server's endpoint exists only once the handshake is complete.
    let endpoint = connecting(ctx.world, failure).filter(|endpoint| endpoint.peer.is_none())?;
    let observed = ctx.world.overflowed(endpoint, Some(&id), failure.at())?;
    let evidence = Evidence::AcceptQueue { since: endpoint.opened, observed };
    Some(Attribution::to(CaseKey::AcceptQueue(id), evidence, "the accept queue was full"))
}

fn of_syn(ctx: Context, situation: &Situation) -> Option<Attribution> {
    (situation.failure.symptom == Symptom::SynUnanswered).then(|| attribute(ctx, situation))?
}

/// The endpoint that sends the SYN to the container: docker-proxy's, if there is one.
fn connecting<'a>(world: &'a World, failure: &Failure) -> Option<&'a Endpoint> {
    let client = world.sockets.get(failure.route.client)?;
    let proxy = failure.route.proxy.as_ref();
    let leg = proxy.and_then(|proxy| proxy.backend_leg).and_then(|cookie| world.sockets.get(cookie));
    Some(leg.unwrap_or(client))
}

/// What the kernel itself had counted of dropped handshakes, one of which may have been this one.
#[must_use]
pub fn counted(world: &World, failure: &Failure) -> Option<QueueCounts> {
    let is_full_queue = matches!(failure.evidence, Evidence::AcceptQueue { .. });
    let may_be = is_full_queue || failure.symptom == Symptom::SynUnanswered;
    let endpoint = connecting(world, failure).filter(|_| may_be)?;
    world.counted_of(endpoint, failure.route.container.as_ref(), failure.at())
}

impl Cause for AcceptQueueCause {
    fn kinds(&self) -> &'static [CauseKind] {
        &[CauseKind::BacklogOverflow]
    }

    fn subject<'a>(&self, _world: &'a World, key: &'a CaseKey) -> Option<&'a ContainerId> {
        if let CaseKey::AcceptQueue(id) = key { Some(id) } else { None }
    }

    fn verdict(&self, ctx: Context, case: &Case) -> Verdict {
        let base = base_verdict(ctx, case, CauseKind::BacklogOverflow, self.subject(ctx.world, &case.key));
        let queued = || {
            ctx.failures_of(case).filter_map(|failure| match &failure.evidence {
                Evidence::AcceptQueue { since, observed } => Some((*since, *observed)),
                _ => None,
            })
        };
        let at = queued().map(|(since, _)| since).min().unwrap_or(base.at);
        let observed = queued().any(|(_, observed)| observed);
        let confidence = if observed { Confidence::Certain } else { Confidence::Likely };
        Verdict { at, fact: MomentFact::SynUnanswered, confidence, ..base }
    }

    fn summary(&self, ctx: Context, case: &Case, _verdict: &Verdict) -> String {
        let port = port_text(ctx, case);
        format!("its accept queue on {port} is full, and the kernel drops further SYNs")
    }

    fn alternatives(&self, _ctx: Context, _case: &Case, _verdict: &Verdict) -> Vec<Alternative> {
        vec![against(packet_filter::DROPPED, "the packets reached the listener")]
    }

    fn is_awaited(&self, ctx: Context, case: &Case, _judgement: &Judgement) -> bool {
        self.subject(ctx.world, &case.key).is_some_and(|subject| awaited::waits_on(ctx, subject))
    }

    fn requirements(&self) -> Requirements {
        Requirements { framing: false, connection_events: true, interfaces: false }
    }

    /// The kernel's own counter is no record that a full ring could lose.
    fn confidence_without(&self, ctx: Context, case: &Case) -> Confidence {
        let docker_lost = case.losses.keys().any(|stage| stage.starts_with("docker."));
        let counted = |failure: &Failure| counted(ctx.world, failure).is_some_and(|counted| counted.overflows > 0);
        let is_counted = !docker_lost && ctx.failures_of(case).any(counted);
        if is_counted { Confidence::Likely } else { Confidence::Possible }
    }
}
