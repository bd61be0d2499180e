//! `packet_dropped`, `packet_rejected`: a packet filter, or the kernel, kept packets from their destination.
//!
//! A dropped packet alone breaks nothing, because TCP retransmits it: it counts only if nothing got through afterwards.
//! Evidence of that: the client received no new byte since, its own bytes stayed unacknowledged, or the last
//! retransmission was dropped as well. A refusal is a filter's if the kernel sent none in its own name.
//!
//! Opens when: a failure met such a drop, or a RST or ICMP error that no endpoint and no closed port sent.
//! Closes when: traffic passes for 1 s ([`PASSES_FOR`]), or the container goes down.
//! Stays silent when: the dropped packets got through later.
//! Moment: the first packet of an affected connection that was dropped.
//! Distinguished from: `server_slow` by the drop; `not_listening` and `app_aborted` by the missing RST of the kernel.

use crate::engine::context::Context;
use crate::engine::failures::table::{Failure, Symptom};
use crate::engine::incidents::case::Case;
use crate::engine::report::packets;
use crate::engine::types::cause::{Attribution, CaseKey};
use crate::engine::types::evidence::{DropEvidence, Evidence, PacketFilter};
use crate::engine::types::verdict::{Judgement, Verdict};
use crate::engine::world::World;
use crate::engine::world::network::drops::Dropped;
use crate::engine::world::tcp::endpoint::Endpoint;
use crate::model::event::TcpState;
use crate::model::ids::ContainerId;
use crate::model::incident::{Alternative, CauseKind, Condition, ConditionKind, Confidence, MomentFact};
use crate::model::time::{Nanos, Stamp};

use super::{
    Cause, Requirements, Situation, Step, against, application, awaited, base_verdict, closed_port, lasting,
    terminated_after,
};

/// A packet that is retransmitted and dropped immediately is dropped before its retransmission is recorded.
const IMMEDIATELY: Nanos = Nanos(200_000);
/// A filter's own RST and the packet that it responds to are microseconds apart; a loaded machine takes its time.
const RESPONDS_WITHIN: Nanos = Nanos::from_millis(100);
/// A rule may let handshakes through and nothing else: only what passes for this long has passed.
pub const PASSES_FOR: Nanos = Nanos::from_secs(1);

/// Drops and rejections on the path.
pub const STEP: Step = Step { name: "packet filter", attribute };

pub(super) const DROPPED: CauseKind = CauseKind::PacketDropped;

pub struct PacketFilterCause;

fn attribute(ctx: Context, situation: &Situation) -> Option<Attribution> {
    let failure = situation.failure;
    let evidence = evidence(ctx.world, failure, situation.backend_leg)?;
    let verb = if evidence.filter.rejects { "rejected" } else { "dropped" };
    let reason = match &evidence.filter.place {
        Some((_, reason)) => format!("its packets were {verb} on the way ({reason})"),
        None => "it was refused, and no socket and no closed port sent the refusal".to_owned(),
    };
    let container = failure.route.container.clone().or_else(|| failure.client_container.clone());
    let key = CaseKey::PacketFilter { container, filter: evidence.filter.clone() };
    Some(Attribution::to(key, Evidence::Drop(evidence), reason))
}

fn evidence(world: &World, failure: &Failure, leg: Option<&Endpoint>) -> Option<DropEvidence> {
    let client = world.sockets.get(failure.route.client)?;
    let endpoints = || std::iter::once(client).chain(leg);
    match failure.symptom {
        Symptom::Refused | Symptom::Unreachable => refused(world, failure, client),
        Symptom::SynUnanswered => {
            let packets = dropped_packets(world, failure, client);
            drop_evidence(world, failure, client, (packets.last()?, false), &packets)
        }
        Symptom::Silence | Symptom::TimedOut => endpoints().find_map(|endpoint| silent(world, failure, endpoint)),
        Symptom::Fin | Symptom::Reset | Symptom::ResetAfterFin => match leg.filter(|leg| leg.established.is_none()) {
            Some(leg) => refused(world, failure, leg),
            None => endpoints().find_map(|endpoint| reset(world, failure, endpoint)),
        },
        Symptom::Malformed
        | Symptom::NameRefused
        | Symptom::NameUnanswered
        | Symptom::NotSent
        | Symptom::Cancelled
        | Symptom::ClientDied => None,
    }
}

fn dropped_packets<'a>(world: &'a World, failure: &Failure, endpoint: &Endpoint) -> Vec<&'a Dropped> {
    world.dropped_of(endpoint, failure.route.container.as_ref(), failure.at())
}

/// A refused connect: by a filter, unless the kernel refused it for a closed port.
fn refused(world: &World, failure: &Failure, endpoint: &Endpoint) -> Option<DropEvidence> {
    if world.sockets.hit_closed_port(endpoint.socket.cookie) {
        return None;
    }
    let packets = dropped_packets(world, failure, endpoint);
    if let Some(last) = packets.last() {
        // A connect without any response ends by the kernel's own timeout.
        let rejected = endpoint.errno.as_deref() != Some("ETIMEDOUT");
        return drop_evidence(world, failure, endpoint, (last, rejected), &packets);
    }
    let container = failure.route.container.as_ref().and_then(|id| world.containers.get(id));
    let port = failure.route.address.port();
    let listens = container.is_some_and(|container| container.listening.contains_key(&port));
    let by_reset = endpoint.errno.as_deref() == Some("ECONNREFUSED");
    (listens && by_reset).then(|| rejection_alone(failure))
}

/// A RST that reached one of the endpoints and that its peer did not send.
fn reset(world: &World, failure: &Failure, endpoint: &Endpoint) -> Option<DropEvidence> {
    let server = world.sockets.peer(endpoint.socket.cookie)?;
    let packets = dropped_packets(world, failure, endpoint);
    let near = |at: Stamp| {
        let near = |dropped: &&&Dropped| dropped.is_filters() && at.since(dropped.at).0.abs() <= RESPONDS_WITHIN.0;
        packets.iter().rev().find(near).copied()
    };
    // The server receives the RST first if its own packets are the ones that are rejected.
    if let Some((at, _)) = server.rst_in.filter(|_| endpoint.rst_out.is_none() && endpoint.close.is_none())
        && let Some(dropped) = near(at)
    {
        return drop_evidence(world, failure, endpoint, (dropped, true), &packets);
    }
    let (at, _) = endpoint.rst_in?;
    let sent =
        server.close.is_some() || server.rst_out.is_some() || world.sockets.hit_closed_port(endpoint.socket.cookie);
    if sent {
        return None;
    }
    match near(at) {
        Some(dropped) => drop_evidence(world, failure, endpoint, (dropped, true), &packets),
        None => (server.ended.is_none() && server.state == TcpState::Established).then(|| rejection_alone(failure)),
    }
}

/// A connection on which nothing arrived any more, because of a drop.
fn silent(world: &World, failure: &Failure, endpoint: &Endpoint) -> Option<DropEvidence> {
    let packets = dropped_packets(world, failure, endpoint);
    let last = packets.last()?;
    if endpoint.established.is_none() {
        return drop_evidence(world, failure, endpoint, (last, false), &packets);
    }
    let peer = world.sockets.peer(endpoint.socket.cookie);
    let to_client = |dropped: &&&Dropped| dropped.destination == endpoint.socket.local;
    let response = packets.iter().rev().find(|dropped| to_client(dropped) && dropped.payload).copied();
    let request = packets.iter().rev().find(|dropped| !to_client(dropped)).copied();
    let nothing_since = |dropped: &Dropped| endpoint.last_received.is_none_or(|received| received < dropped.at);
    // The sender's last attempt, if there was another one, met the same drop. Attempts after the client's timeout prove
    // nothing: the filter may have been lifted by then.
    let same_drop = |last: Stamp, dropped: &Dropped| last.minus(IMMEDIATELY) <= dropped.at || last > failure.at();
    let last_attempt = |sender: Option<&Endpoint>, dropped: &Dropped| {
        sender.and_then(|sender| sender.retransmits).is_none_or(|retransmits| same_drop(retransmits.last, dropped))
    };
    let lost_response = response.filter(|dropped| nothing_since(dropped) && last_attempt(peer, dropped));
    let sent = packets.iter().rev().find(|dropped| !to_client(dropped) && dropped.payload).copied();
    let lost_bytes = sent.filter(|dropped| endpoint.is_unacknowledged(dropped.at));
    let lost_bytes = lost_bytes.or((endpoint.unacknowledged > 0).then_some(*last));
    // Lost acknowledgements: the server retransmits what the client has long received.
    let lost_acknowledgement = request.filter(|dropped| {
        let retransmits = peer.and_then(|peer| peer.retransmits);
        let repeated = retransmits.is_some_and(|retransmits| {
            packets.first().is_some_and(|first| retransmits.last > first.at) && same_drop(retransmits.last, dropped)
        });
        let unsent = endpoint.close.is_none() && dropped.payload && last_attempt(Some(endpoint), dropped);
        repeated || unsent
    });
    let dropped = lost_response.or(lost_bytes).or(lost_acknowledgement)?;
    drop_evidence(world, failure, endpoint, (dropped, was_reset(world, endpoint)), &packets)
}

/// `rejected`: the client, or its server, received a refusal.
fn drop_evidence(
    world: &World,
    failure: &Failure,
    endpoint: &Endpoint,
    (deciding, rejected): (&Dropped, bool),
    packets: &[&Dropped],
) -> Option<DropEvidence> {
    let alike = |dropped: &&&Dropped| dropped.netns == deciding.netns && dropped.reason == deciding.reason;
    // What was dropped before this request, and got through in the end, is unrelated.
    let since = if failure.symptom == Symptom::Silence { failure.begun } else { endpoint.opened };
    let first = packets.iter().filter(alike).find(|dropped| dropped.at >= since);
    let errors = world.refused_of(endpoint, failure.route.container.as_ref(), failure.at());
    let icmp = errors.iter().find(|error| error.netns == deciding.netns).map(|error| error.code);
    Some(DropEvidence {
        filter: PacketFilter {
            rejects: deciding.is_filters() && (rejected || icmp.is_some()),
            place: Some((deciding.netns, deciding.reason.clone())),
        },
        hook: Some(deciding.hook),
        icmp,
        first: first.map_or(deciding.at, |dropped| dropped.at),
    })
}

/// Whether the server's endpoint received a RST that its client did not send.
fn was_reset(world: &World, endpoint: &Endpoint) -> bool {
    let server = world.sockets.peer(endpoint.socket.cookie);
    let Some((at, _)) = server.and_then(|server| server.rst_in) else { return false };
    endpoint.rst_out.is_none() && endpoint.close.as_ref().is_none_or(|close| close.at > at)
}

/// Only the refusal was observed.
fn rejection_alone(failure: &Failure) -> DropEvidence {
    let filter = PacketFilter { rejects: true, place: None };
    DropEvidence { filter, hook: None, icmp: None, first: failure.at() }
}

fn parts(key: &CaseKey) -> Option<(Option<&ContainerId>, &PacketFilter)> {
    if let CaseKey::PacketFilter { container, filter } = key { Some((container.as_ref(), filter)) } else { None }
}

/// The filter of a case rejects: a RST that arrives may be the filter's own.
#[must_use]
pub fn rejects(case: &Case) -> bool {
    parts(&case.key).is_some_and(|(_, filter)| filter.rejects)
}

#[must_use]
pub fn is_case(case: &Case) -> bool {
    parts(&case.key).is_some()
}

impl Cause for PacketFilterCause {
    fn kinds(&self) -> &'static [CauseKind] {
        &[CauseKind::PacketDropped, CauseKind::PacketRejected]
    }

    fn subject<'a>(&self, _world: &'a World, key: &'a CaseKey) -> Option<&'a ContainerId> {
        parts(key)?.0
    }

    fn verdict(&self, ctx: Context, case: &Case) -> Verdict {
        let kind = if rejects(case) { CauseKind::PacketRejected } else { CauseKind::PacketDropped };
        let base = base_verdict(ctx, case, kind, self.subject(ctx.world, &case.key));
        let drops = || {
            ctx.failures_of(case).filter_map(|failure| match &failure.evidence {
                Evidence::Drop(evidence) => Some(evidence),
                _ => None,
            })
        };
        let at = drops().map(|evidence| evidence.first).min().unwrap_or(base.at);
        let observed = drops().any(|evidence| evidence.filter.place.is_some());
        let confidence = if observed { Confidence::Certain } else { Confidence::Likely };
        Verdict { at, fact: MomentFact::PacketFiltered, confidence, ..base }
    }

    fn summary(&self, ctx: Context, case: &Case, _verdict: &Verdict) -> String {
        packets::summary(ctx, case)
    }

    fn alternatives(&self, _ctx: Context, case: &Case, _verdict: &Verdict) -> Vec<Alternative> {
        if rejects(case) {
            return vec![
                against(closed_port::NOT_LISTENING, "the kernel sent no RST for a closed port"),
                against(application::APP_ABORTED, "no socket sent the RST"),
            ];
        }
        let sentence = "packets of the connection were dropped, and none got through afterwards";
        vec![against(application::SERVER_SLOW, sentence)]
    }

    fn condition(&self, ctx: Context, case: &Case, verdict: &Verdict) -> Option<Condition> {
        let (container, _) = parts(&case.key)?;
        let until = case.passed.or_else(|| terminated_after(ctx, container?, verdict.at));
        lasting(ConditionKind::Filtered, verdict.at, until)
    }

    fn is_awaited(&self, ctx: Context, case: &Case, judgement: &Judgement) -> bool {
        let subject = self.subject(ctx.world, &case.key).filter(|_| !judgement.is_over());
        subject.is_some_and(|subject| awaited::waits_on(ctx, subject))
    }

    /// A drop is certain whatever progress the exchange had made.
    fn requirements(&self) -> Requirements {
        Requirements { framing: false, connection_events: true, interfaces: false }
    }
}
