//! `not_listening`, `backend_unreachable`: the container runs and its port is closed, directly or behind docker-proxy.
//!
//! Opens when: a connect is refused by the kernel, and no termination, pause, filter or dying process explains it.
//! Closes when: the port listens, or the container goes down.
//! Stays silent when: the client is accepted at another address of the name (see `failures/happy_eyeballs`).
//! Moment: the first refused SYN affected.
//! Distinguished from: terminations and `worker_died` by the process, which has not ended; `packet_rejected` by the
//! kernel's RST for a closed port.

use crate::engine::context::Context;
use crate::engine::incidents::case::Case;
use crate::engine::types::cause::{Attribution, CaseKey};
use crate::engine::types::evidence::Evidence;
use crate::engine::types::verdict::Verdict;
use crate::engine::world::World;
use crate::model::ids::ContainerId;
use crate::model::incident::{Alternative, CauseKind, Condition, ConditionKind, MomentFact};
use crate::model::time::Stamp;

use super::{
    Cause, LOSS_SHADOW, Severity, Situation, Step, against, application, base_verdict, lasting, port_text,
    terminated_after, termination,
};

/// The container's own port.
pub const REFUSED: Step = Step { name: "not listening", attribute: refused };
/// docker-proxy accepted, and its own connect failed.
pub const BEHIND_PROXY: Step = Step { name: "backend unreachable", attribute: behind_proxy };

pub(super) const NOT_LISTENING: CauseKind = CauseKind::NotListening;

pub struct ClosedPortCause;

fn refused(_ctx: Context, situation: &Situation) -> Option<Attribution> {
    let (container, port) = address(situation)?;
    let reason = "the container runs and its port is closed";
    Some(Attribution::to(CaseKey::ClosedPort { container, port }, Evidence::None, reason))
}

fn behind_proxy(_ctx: Context, situation: &Situation) -> Option<Attribution> {
    let (container, port) = address(situation)?;
    let reason = "docker-proxy accepted, and nothing listened behind it";
    Some(Attribution::to(CaseKey::Backend { container, port }, Evidence::None, reason))
}

fn address(situation: &Situation) -> Option<(ContainerId, u16)> {
    let route = &situation.failure.route;
    Some((route.container.clone()?, route.address.port()))
}

fn parts(key: &CaseKey) -> Option<(&ContainerId, u16)> {
    match key {
        CaseKey::ClosedPort { container, port } | CaseKey::Backend { container, port } => Some((container, *port)),
        _ => None,
    }
}

fn is_backend(key: &CaseKey) -> bool {
    matches!(key, CaseKey::Backend { .. })
}

impl Cause for ClosedPortCause {
    fn kinds(&self) -> &'static [CauseKind] {
        &[CauseKind::NotListening, CauseKind::BackendUnreachable]
    }

    fn subject<'a>(&self, _world: &'a World, key: &'a CaseKey) -> Option<&'a ContainerId> {
        parts(key).map(|(container, _)| container)
    }

    fn verdict(&self, ctx: Context, case: &Case) -> Verdict {
        let container = self.subject(ctx.world, &case.key);
        if !is_backend(&case.key) {
            let base = base_verdict(ctx, case, CauseKind::NotListening, container);
            return Verdict { fact: MomentFact::Refused, ..base };
        }
        let base = base_verdict(ctx, case, CauseKind::BackendUnreachable, container);
        let proxy = ctx.failures_of(case).next().and_then(|failure| failure.route.proxy.as_ref());
        let leg = proxy.and_then(|proxy| proxy.backend_leg).and_then(|cookie| ctx.world.sockets.get(cookie));
        let at = leg.and_then(|leg| leg.ended).unwrap_or(base.at);
        Verdict { at, fact: MomentFact::Refused, ..base }
    }

    fn summary(&self, ctx: Context, case: &Case, _verdict: &Verdict) -> String {
        let port = port_text(ctx, case);
        let container = parts(&case.key).and_then(|(id, port)| Some((ctx.world.containers.get(id)?, port)));
        let loopback = container.and_then(|(container, port)| container.loopback_listener(port));
        if let Some(local) = loopback {
            let accepted =
                if is_backend(&case.key) { "docker-proxy accepted the connection, and " } else { "running, " };
            return format!("{accepted}listening on {local} only, which nothing outside its namespace reaches");
        }
        if is_backend(&case.key) {
            return format!("docker-proxy accepted the connection, and nothing listens on {port} behind it");
        }
        let when = if listened_before(ctx, case) { "no longer" } else { "not yet" };
        format!("running, {when} listening on {port}")
    }

    fn alternatives(&self, _ctx: Context, case: &Case, _verdict: &Verdict) -> Vec<Alternative> {
        if is_backend(&case.key) {
            return vec![against(application::APP_CLOSED, "the connection never reached a process of the container")];
        }
        vec![against(termination::EXITED, "no serving process had ended since the container's start")]
    }

    fn condition(&self, ctx: Context, case: &Case, verdict: &Verdict) -> Option<Condition> {
        let (id, port) = parts(&case.key)?;
        let container = ctx.world.containers.get(id);
        let open = container.and_then(|container| container.listening.get(&port).copied());
        let until = open.filter(|open| *open >= verdict.at).or_else(|| terminated_after(ctx, id, verdict.at));
        lasting(ConditionKind::NotListening, verdict.at, until)
    }

    fn severity(&self, kind: CauseKind) -> Severity {
        if kind == CauseKind::NotListening { Severity::Warning } else { Severity::Error }
    }

    /// The port may have been opened, and closed by a death, at any time since it was last observed to close.
    fn evidence_since(&self, ctx: Context, key: &CaseKey, opened: Stamp, _begun: Stamp) -> Stamp {
        let container = parts(key).and_then(|(id, _)| ctx.world.containers.get(id));
        let closed = container.and_then(|it| it.listeners_closed.or(it.starts.back().copied()));
        closed.map_or(opened, |closed| closed.min(opened)).minus(LOSS_SHADOW)
    }
}

/// Whether the port has been open since the container's last start.
fn listened_before(ctx: Context, case: &Case) -> bool {
    let Some((id, port)) = parts(&case.key) else { return false };
    let Some(container) = ctx.world.containers.get(id) else { return false };
    let closed = container.listeners_closed.filter(|_| container.ports.contains_key(&port));
    closed.is_some_and(|closed| {
        closed <= case.opened && container.started_before(closed) == container.started_before(case.opened)
    })
}
