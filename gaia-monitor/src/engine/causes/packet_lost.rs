//! `packet_lost`: a client's packets never reached their server, and nothing that was observed explains it.
//!
//! Opens when: a SYN, or the bytes of a request, were retransmitted at least once and stayed unacknowledged to the end,
//! and the server is on this host: an MTU black hole, a broken virtual link. Closes when: it settles (it has no condition).
//! Stays silent when: the packets were acknowledged after a retransmission.
//! Moment: the first packet that was never acknowledged.
//! Distinguished from: `server_slow` by the acknowledgement, which the kernel sends for a process that does not read;
//! `packet_dropped`, `link_down` and `backlog_overflow` by what was observed of them.

use crate::engine::context::Context;
use crate::engine::failures::table::Symptom;
use crate::engine::incidents::case::Case;
use crate::engine::types::cause::{Attribution, CaseKey};
use crate::engine::types::evidence::Evidence;
use crate::engine::types::verdict::Verdict;
use crate::engine::world::World;
use crate::engine::world::tcp::endpoint::Endpoint;
use crate::model::ids::ContainerId;
use crate::model::incident::{Alternative, CauseKind, Confidence, MomentFact};
use crate::model::time::{Nanos, Stamp};

use super::{
    Cause, Requirements, Situation, Step, against, application, base_verdict, packet_filter, port_text, process_of,
};

/// The request, or the SYN.
pub const STEP: Step = Step { name: "packet lost", attribute };
/// Only a SYN without a response.
pub const OF_SYN: Step = Step { name: "packet lost (SYN only)", attribute: of_syn };

const KIND: CauseKind = CauseKind::PacketLost;
/// A first retransmission so long after the request began is of a later packet: the kernel's first timeout is far shorter.
const FIRST_TIMEOUT: Nanos = Nanos::from_secs(1);
/// A retransmission and the packet that it sends are recorded within this time; new data that leaves later shows that an
/// acknowledgement arrived.
const SAME_PACKET: Nanos = Nanos::from_millis(10);

pub struct PacketLostCause;

fn attribute(ctx: Context, situation: &Situation) -> Option<Attribution> {
    let failure = situation.failure;
    let container = failure.route.container.clone()?;
    let sender = situation.backend_leg.or_else(|| ctx.world.sockets.get(failure.route.client))?;
    let (since, retransmits) = lost(sender, failure.begun)?;
    let evidence = Evidence::Unacknowledged { since, retransmits };
    let reason = "the client's packets were retransmitted and never acknowledged";
    let key = CaseKey::Process { container: Some(container), pid: None, kind: KIND };
    Some(Attribution::to(key, evidence, reason))
}

fn of_syn(ctx: Context, situation: &Situation) -> Option<Attribution> {
    (situation.failure.symptom == Symptom::SynUnanswered).then(|| attribute(ctx, situation))?
}

/// Since when nothing that an endpoint sent was acknowledged, and the number of its retransmissions. `begun`: first byte of
/// the request.
fn lost(sender: &Endpoint, begun: Stamp) -> Option<(Stamp, u32)> {
    let retransmits = sender.retransmits?;
    if sender.established.is_none() {
        return Some((sender.opened, retransmits.count));
    }
    let sent_since = sender.last_sent.is_some_and(|sent| sent.since(retransmits.last) > SAME_PACKET);
    if sender.unacknowledged == 0 || sent_since || retransmits.last < begun {
        return None;
    }
    let is_first = retransmits.first >= begun && retransmits.first.since(begun) <= FIRST_TIMEOUT;
    Some((if is_first { begun } else { retransmits.first.max(begun) }, retransmits.count))
}

impl Cause for PacketLostCause {
    fn kinds(&self) -> &'static [CauseKind] {
        &[KIND]
    }

    fn subject<'a>(&self, _world: &'a World, key: &'a CaseKey) -> Option<&'a ContainerId> {
        process_of(key).0
    }

    fn verdict(&self, ctx: Context, case: &Case) -> Verdict {
        let base = base_verdict(ctx, case, KIND, self.subject(ctx.world, &case.key));
        let since = |symptom: fn(Symptom) -> bool| {
            let failures = ctx.failures_of(case).filter(move |failure| symptom(failure.symptom));
            let since = failures.filter_map(|failure| match failure.evidence {
                Evidence::Unacknowledged { since, .. } => Some(since),
                _ => None,
            });
            since.min()
        };
        let of_syn = since(|symptom| symptom == Symptom::SynUnanswered);
        let of_data = since(|symptom| symptom != Symptom::SynUnanswered);
        let (at, fact) = match (of_syn, of_data) {
            (Some(syn), data) if data.is_none_or(|data| syn <= data) => (syn, MomentFact::SynUnanswered),
            (_, Some(data)) => (data, MomentFact::Unacknowledged),
            (_, None) => (base.at, MomentFact::Unacknowledged),
        };
        Verdict { at, fact, confidence: Confidence::Likely, ..base }
    }

    fn summary(&self, ctx: Context, case: &Case, verdict: &Verdict) -> String {
        let retransmits = ctx.failures_of(case).filter_map(|failure| match failure.evidence {
            Evidence::Unacknowledged { retransmits, .. } => Some(retransmits),
            _ => None,
        });
        let count = retransmits.fold(0_u32, u32::saturating_add);
        let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
        let (port, what) =
            (port_text(ctx, case), if verdict.fact == MomentFact::SynUnanswered { "SYN" } else { "request" });
        format!("packets to its {port} were retransmitted {times} and never acknowledged: the {what} did not reach it")
    }

    fn alternatives(&self, _ctx: Context, _case: &Case, verdict: &Verdict) -> Vec<Alternative> {
        let dropped = against(packet_filter::DROPPED, "no drop of these packets was observed");
        if verdict.fact == MomentFact::SynUnanswered {
            return vec![dropped];
        }
        let slow = against(application::SERVER_SLOW, "its kernel had not acknowledged the request");
        vec![slow, dropped]
    }

    fn max_gap(&self) -> Option<Nanos> {
        Some(application::GAP)
    }

    fn requirements(&self) -> Requirements {
        Requirements { framing: false, connection_events: true, interfaces: false }
    }
}
