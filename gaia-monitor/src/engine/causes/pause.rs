//! `container_paused`: Docker's pause, or SIGSTOP to the first process.
//!
//! Opens when: a connection attempt, a request or a lookup fails while its server's container is paused, or a pause lay
//! within the client's silence.
//! Closes when: unpause or SIGCONT, or the container goes down.
//! Stays silent when: the pause broke nothing.
//! Moment: Docker's `pause`; the signal.
//! Distinguished from: `server_slow` by the pause.

use crate::engine::context::Context;
use crate::engine::incidents::case::Case;
use crate::engine::types::cause::{Attribution, CaseKey};
use crate::engine::types::evidence::Evidence;
use crate::engine::types::verdict::{Judgement, Verdict};
use crate::engine::world::World;
use crate::engine::world::container::Period;
use crate::model::ids::ContainerId;
use crate::model::incident::{CauseKind, Condition, ConditionKind, MomentFact, Via};
use crate::model::time::Stamp;

use super::termination::by_text;
use super::{Cause, LOSS_SHADOW, Severity, Situation, Step, awaited, base_verdict, exit, lasting, terminated_after};

/// The server's container was paused when the client failed.
pub const AT_FAILURE: Step = Step { name: "pause", attribute: at_failure };
/// The pause ended before the client timed out.
pub const DURING_SILENCE: Step = Step { name: "a pause during the silence", attribute: during_silence };

pub(super) const PAUSED: CauseKind = CauseKind::ContainerPaused;

pub struct PauseCause;

fn to(id: &ContainerId, period: &Period, reason: &str) -> Attribution {
    Attribution::to(CaseKey::Paused { container: id.clone(), since: period.since }, Evidence::None, reason)
}

fn at_failure(ctx: Context, situation: &Situation) -> Option<Attribution> {
    let id = situation.failure.route.container.as_ref()?;
    let period = ctx.world.containers.get(id)?.paused_at(situation.at)?;
    Some(to(id, period, "the container was paused"))
}

fn during_silence(ctx: Context, situation: &Situation) -> Option<Attribution> {
    let failure = situation.failure;
    let id = failure.route.container.as_ref()?;
    let during =
        |period: &&Period| period.since <= situation.at && period.until.is_none_or(|until| until > failure.begun);
    let period = ctx.world.containers.get(id)?.pauses.iter().rev().find(during)?;
    Some(to(id, period, "the container was paused during the silence"))
}

fn parts(key: &CaseKey) -> Option<(&ContainerId, Stamp)> {
    if let CaseKey::Paused { container, since } = key { Some((container, *since)) } else { None }
}

fn period<'a>(ctx: Context<'a>, id: &ContainerId, since: Stamp) -> Option<&'a Period> {
    ctx.world.containers.get(id)?.pauses.iter().find(|period| period.since == since)
}

impl Cause for PauseCause {
    fn kinds(&self) -> &'static [CauseKind] {
        &[PAUSED]
    }

    fn subject<'a>(&self, _world: &'a World, key: &'a CaseKey) -> Option<&'a ContainerId> {
        parts(key).map(|(container, _)| container)
    }

    fn verdict(&self, ctx: Context, case: &Case) -> Verdict {
        let Some((id, since)) = parts(&case.key) else {
            return base_verdict(ctx, case, PAUSED, None);
        };
        let base = base_verdict(ctx, case, PAUSED, Some(id));
        let signal = period(ctx, id, since).and_then(|period| period.what.clone());
        let by_signal = signal.is_some();
        let process = base.pid.and_then(|pid| ctx.world.processes.get(pid));
        let stop = process.and_then(|process| process.signals.iter().find(|seen| seen.at == since));
        let sender = stop.filter(|_| by_signal).and_then(|seen| {
            let docker = exit::sent_by_docker(ctx.world.containers.get(id), seen);
            exit::sender_of(ctx.world, seen, docker.then_some(Via::DockerKill))
        });
        let fact = if by_signal { MomentFact::Signal } else { MomentFact::DockerPause };
        Verdict { at: since, fact, signal, sender, ..base }
    }

    fn summary(&self, _ctx: Context, _case: &Case, verdict: &Verdict) -> String {
        match &verdict.signal {
            Some(signal) => format!("suspended by {signal}{}", by_text(verdict)),
            None => "paused; its processes are frozen".to_owned(),
        }
    }

    fn condition(&self, ctx: Context, case: &Case, _verdict: &Verdict) -> Option<Condition> {
        let (id, since) = parts(&case.key)?;
        let until = period(ctx, id, since).and_then(|period| period.until);
        lasting(ConditionKind::Paused, since, until.or_else(|| terminated_after(ctx, id, since)))
    }

    fn is_awaited(&self, ctx: Context, case: &Case, judgement: &Judgement) -> bool {
        let subject = parts(&case.key).filter(|_| !judgement.is_over());
        subject.is_some_and(|(subject, _)| awaited::waits_on(ctx, subject))
    }

    fn severity(&self, _kind: CauseKind) -> Severity {
        Severity::Warning
    }

    fn is_event(&self) -> bool {
        true
    }

    fn evidence_since(&self, _ctx: Context, key: &CaseKey, opened: Stamp, _begun: Stamp) -> Stamp {
        parts(key).map_or(opened, |(_, since)| since).minus(LOSS_SHADOW)
    }
}
