//! `network_disconnected`, `link_down`: a container, or a bridge with everything behind it, could not be reached.
//!
//! Opens when: a connection attempt, a request or a lookup fails while an interface between client and server, or the
//! bridge, is down or gone. Docker's event makes it `network_disconnected`; without one it is `link_down`.
//! Closes when: the interface is back, or its container goes down.
//! Stays silent when: the outage broke nothing; both endpoints are in one container, or on loopback.
//! Moment: removal of the interface, or its going down; Docker's `disconnect` where the removal was not observed.
//! Distinguished from: a termination, which also removes the interface, by the container that still runs.

use std::net::IpAddr;

use crate::engine::context::Context;
use crate::engine::failures::table::{Failure, Symptom};
use crate::engine::incidents::case::Case;
use crate::engine::types::cause::{Attribution, CaseKey};
use crate::engine::types::evidence::Evidence;
use crate::engine::types::verdict::{Judgement, Verdict};
use crate::engine::world::World;
use crate::engine::world::network::interfaces::Fault;
use crate::engine::world::network::outages::{self, OutageId};
use crate::model::ids::ContainerId;
use crate::model::incident::{Alternative, CauseKind, Condition, ConditionKind, Confidence, MomentFact};
use crate::model::time::{Nanos, Stamp};

use super::{
    Cause, LOSS_SHADOW, Requirements, Severity, Situation, Step, against, application, awaited, base_verdict, lasting,
    terminated_after, unknown,
};

/// The path between client and server.
pub const OF_CONNECTION: Step = Step { name: "outage", attribute: of_connection };
/// The same, only for a connection that the kernel timed out.
pub const OF_TIMEOUT: Step = Step { name: "outage (kernel timeout only)", attribute: of_timeout };
/// The path from docker-proxy to the container.
pub const OF_BACKEND: Step = Step { name: "outage", attribute: of_backend };
/// The network on which the name is known.
pub const OF_LOOKUP: Step = Step { name: "outage of that container or of the client", attribute: of_lookup };

pub(super) const DISCONNECTED: CauseKind = CauseKind::NetworkDisconnected;

/// A bridge releases its ports shortly before it is deleted (0.2 ms measured).
const PORT_RELEASE: Nanos = Nanos::from_secs(1);

pub struct OutageCause;

fn to(outage: &outages::Outage) -> Attribution {
    let reason = format!("the path was cut at {}", outage.name);
    Attribution::to(CaseKey::Outage(outage.id), Evidence::None, reason)
}

fn of_connection(ctx: Context, situation: &Situation) -> Option<Attribution> {
    let failure = situation.failure;
    let received = ctx.world.sockets.get(failure.route.client).and_then(|endpoint| endpoint.last_received);
    let client = failure.client_container.clone().zip(failure.entry.client.ip);
    let endpoints: Vec<_> = server(failure).into_iter().chain(client).collect();
    let stalled = Stalled { begun: failure.begun, at: failure.at(), received };
    between(ctx.world, &endpoints, stalled).map(to)
}

fn of_timeout(ctx: Context, situation: &Situation) -> Option<Attribution> {
    (situation.failure.symptom == Symptom::TimedOut).then(|| of_connection(ctx, situation))?
}

fn of_backend(ctx: Context, situation: &Situation) -> Option<Attribution> {
    let begun = situation.backend_leg.map_or(situation.at, |leg| leg.opened);
    let endpoints: Vec<_> = server(situation.failure).into_iter().collect();
    between(ctx.world, &endpoints, Stalled { begun, at: situation.at, received: None }).map(to)
}

fn server(failure: &Failure) -> Option<(ContainerId, IpAddr)> {
    failure.route.container.clone().map(|id| (id, failure.route.address.ip()))
}

fn of_lookup(ctx: Context, situation: &Situation) -> Option<Attribution> {
    let failure = situation.failure;
    let (id, client) = (failure.route.container.as_ref()?, failure.client_container.as_ref()?);
    let name = failure.name.as_deref().unwrap_or_default();
    ctx.world.cut_off(name, id, client, situation.at).map(to)
}

/// An exchange or a connect without a response.
#[derive(Clone, Copy, Debug)]
struct Stalled {
    /// Its first byte, or its SYN.
    begun: Stamp,
    /// When the client timed out, or now.
    at: Stamp,
    /// When the client last received data.
    received: Option<Stamp>,
}

/// The outage that explains why an exchange stalled, the earliest of its endpoints. `endpoints`: their containers, each
/// with the address in use. Traffic within one container needs no interface.
fn between<'a>(world: &'a World, endpoints: &[(ContainerId, IpAddr)], stalled: Stalled) -> Option<&'a outages::Outage> {
    if let [(first, _), (second, _)] = endpoints
        && first == second
    {
        return None;
    }
    let mut matching: Vec<&outages::Outage> = Vec::new();
    for (id, ip) in endpoints.iter().filter(|(_, ip)| !ip.is_loopback()) {
        let Some(container) = world.containers.get(id) else { continue };
        let bridge = container.info.netns.and_then(|netns| world.interfaces.bridge_of(netns, *ip));
        let explains = |outage: &&outages::Outage| outage.explains(stalled.begun, stalled.at, stalled.received);
        matching.extend(world.interfaces.outages.all().filter(explains).filter(|outage| match &outage.container {
            None => outage.place.is_some() && outage.place == bridge,
            Some(_) => outage.cuts_off(container, *ip),
        }));
    }
    let bridges: Vec<Stamp> =
        matching.iter().filter(|outage| outage.container.is_none()).map(|outage| outage.since()).collect();
    matching.retain(|outage| {
        let is_simultaneous = |bridge: &Stamp| bridge.since(outage.since()).0.abs() <= PORT_RELEASE.0;
        outage.fault != Fault::OffBridge || !bridges.iter().any(is_simultaneous)
    });
    matching.into_iter().min_by_key(|outage| (outage.since(), outage.id))
}

fn find<'a>(world: &'a World, key: &CaseKey) -> Option<&'a outages::Outage> {
    if let CaseKey::Outage(id) = key { world.interfaces.outages.get(*id) } else { None }
}

/// A client waits because of this outage.
fn cuts_off_a_client(ctx: Context, outage: OutageId) -> bool {
    awaited::waiting_clients(ctx).any(|endpoint| {
        let client = ctx.world.containers.of_socket(&endpoint.socket, endpoint.opened);
        let route = ctx.world.route(endpoint.socket.cookie, endpoint.opened);
        let server = route.and_then(|route| Some((route.container?, route.address.ip())));
        let client = client.map(|id| (id, endpoint.socket.local.ip()));
        let endpoints: Vec<_> = server.into_iter().chain(client).collect();
        let begun = endpoint.http.begun_at.unwrap_or(endpoint.opened);
        let stalled = Stalled { begun, at: ctx.world.now, received: endpoint.last_received };
        between(ctx.world, &endpoints, stalled).is_some_and(|found| found.id == outage)
    })
}

impl Cause for OutageCause {
    fn kinds(&self) -> &'static [CauseKind] {
        &[CauseKind::NetworkDisconnected, CauseKind::LinkDown]
    }

    fn subject<'a>(&self, world: &'a World, key: &'a CaseKey) -> Option<&'a ContainerId> {
        find(world, key)?.container.as_ref()
    }

    /// The summary names the bridge itself.
    fn subject_without_container(&self) -> &'static str {
        ""
    }

    fn verdict(&self, ctx: Context, case: &Case) -> Verdict {
        let Some(outage) = find(ctx.world, &case.key) else {
            return base_verdict(ctx, case, unknown::KIND, None);
        };
        let (kind, fact, at) = match (outage.docker, outage.removed) {
            (Some(_), Some(removed)) => (CauseKind::NetworkDisconnected, MomentFact::LinkRemoved, removed),
            (Some(event), None) => (CauseKind::NetworkDisconnected, MomentFact::DockerDisconnect, event),
            (None, _) => (CauseKind::LinkDown, MomentFact::LinkDown, outage.since()),
        };
        // It was down already when its namespace was read: when it went down is not known.
        let confidence = if outage.found { Confidence::Likely } else { Confidence::Certain };
        Verdict { at, fact, confidence, ..base_verdict(ctx, case, kind, outage.container.as_ref()) }
    }

    fn summary(&self, ctx: Context, case: &Case, _verdict: &Verdict) -> String {
        let Some(outage) = find(ctx.world, &case.key) else { return "unreachable".to_owned() };
        let network = outage.network.as_ref().map_or_else(String::new, |network| format!(" {network}"));
        if outage.docker.is_some() {
            return format!("detached from its network{network}");
        }
        let (what, link) = (fault_text(outage.fault), &outage.name);
        match outage.container {
            Some(_) => format!("interface {link} {what} without a Docker request"),
            None => format!("bridge {link} {what}, which cuts off the containers behind it"),
        }
    }

    fn alternatives(&self, _ctx: Context, _case: &Case, verdict: &Verdict) -> Vec<Alternative> {
        let unreachable = against(application::SERVER_SLOW, "no packet could reach it");
        let other = match verdict.kind {
            CauseKind::NetworkDisconnected => against(CauseKind::LinkDown, "Docker reported the disconnect"),
            CauseKind::LinkDown => against(CauseKind::NetworkDisconnected, "Docker reported no disconnect"),
            _ => return Vec::new(),
        };
        vec![unreachable, other]
    }

    fn condition(&self, ctx: Context, case: &Case, verdict: &Verdict) -> Option<Condition> {
        let outage = find(ctx.world, &case.key)?;
        let ended = outage.container.as_ref().and_then(|id| terminated_after(ctx, id, verdict.at));
        let kind = if outage.docker.is_some() { ConditionKind::Detached } else { ConditionKind::LinkDown };
        lasting(kind, verdict.at, outage.restored().or(ended))
    }

    fn is_awaited(&self, ctx: Context, case: &Case, judgement: &Judgement) -> bool {
        let outage = find(ctx.world, &case.key).filter(|_| !judgement.is_over());
        outage.is_some_and(|outage| cuts_off_a_client(ctx, outage.id))
    }

    fn severity(&self, kind: CauseKind) -> Severity {
        if kind == CauseKind::NetworkDisconnected { Severity::Warning } else { Severity::Error }
    }

    fn is_event(&self) -> bool {
        true
    }

    fn evidence_since(&self, ctx: Context, key: &CaseKey, opened: Stamp, _begun: Stamp) -> Stamp {
        find(ctx.world, key).map_or(opened, |outage| outage.since()).minus(LOSS_SHADOW)
    }

    fn requirements(&self) -> Requirements {
        Requirements { interfaces: true, ..Requirements::default() }
    }
}

fn fault_text(fault: Fault) -> &'static str {
    match fault {
        Fault::Down => "went down",
        Fault::NoCarrier => "lost its carrier",
        Fault::OffBridge => "was taken off its bridge",
        Fault::Removed => "was removed",
    }
}
