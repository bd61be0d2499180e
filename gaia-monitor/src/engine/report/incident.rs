//! One revision of an incident: the judgement of its case as a line.

use std::cmp::Reverse;

use crate::engine::causes::{self, client, termination};
use crate::engine::context::Context;
use crate::engine::failures::table::Failure;
use crate::engine::incidents::case::Case;
use crate::engine::report::timeline;
use crate::engine::types::verdict::{Judgement, Verdict};
use crate::model::ids::{ContainerId, IncidentId};
use crate::model::incident::{Affected, Cause, ConditionKind, Incident, Moment, Role, SCHEMA, State, Subject, name_of};
use crate::model::time::{Stamp, Utc};

/// Entries of `affected` that are written out.
const AFFECTED: usize = 100;

#[must_use]
pub fn revision(ctx: Context, case: &Case, state: State, judgement: &Judgement) -> Incident {
    let cause = causes::of(&case.key);
    let Judgement { verdict, condition, .. } = judgement;
    let published = case.published.as_ref();
    let behind = termination::behind(ctx, case, verdict).and_then(|behind| behind.published.as_ref());
    let (timeline, timeline_left_out) = timeline::of(ctx, case, verdict);
    Incident {
        schema: SCHEMA.to_owned(),
        id: published.map_or_else(|| new_id(ctx, verdict, case.opened), |published| published.id.clone()),
        revision: published.map_or(1, |published| published.revision.saturating_add(1)),
        state,
        merged_into: None,
        cause: Cause {
            kind: verdict.kind,
            summary: summary(ctx, case, cause, verdict),
            confidence: verdict.confidence,
            signal: verdict.signal.clone(),
            exit_code: verdict.exit_code,
            how: verdict.how,
            sender: verdict.sender.clone(),
            caused_by: behind.map(|behind| behind.id.clone()).or_else(|| case.caused_by.clone()),
            crash: verdict.crash.clone(),
            limit: verdict.limit,
        },
        moment: Moment { at: Utc(verdict.at), fact: verdict.fact },
        failover_of: failover_of(ctx, case, verdict),
        condition: *condition,
        deaths: verdict.deaths,
        affected: affected(ctx, case),
        affected_total: case.by_class.values().sum(),
        affected_by_class: case.by_class.clone(),
        alternatives: cause.alternatives(ctx, case, verdict),
        timeline,
        timeline_left_out,
        lost_events: case.losses.iter().map(|(stage, (_, count))| (stage.clone(), *count)).collect(),
        subject: subject(ctx, case, verdict),
    }
}

fn summary(ctx: Context, case: &Case, cause: &dyn causes::Cause, verdict: &Verdict) -> String {
    let container = verdict.container.as_ref().and_then(|id| ctx.world.containers.get(id));
    let subject = match container {
        Some(container) => format!("{}: ", container.info.name),
        None => cause.subject_without_container().to_owned(),
    };
    let deaths = if verdict.deaths > 1 { format!("; {} times in all", verdict.deaths) } else { String::new() };
    format!("{subject}{}{deaths}", cause.summary(ctx, case, verdict))
}

fn affected(ctx: Context, case: &Case) -> Vec<Affected> {
    let entry = |failure: &Failure| Affected { confidence: failure.confidence(), ..failure.entry.clone() };
    ctx.entries_of(case).take(AFFECTED).map(entry).collect()
}

fn subject(ctx: Context, case: &Case, verdict: &Verdict) -> Subject {
    let container = verdict.container.as_ref().and_then(|id| ctx.world.containers.get(id));
    let info = container.map(|container| &container.info);
    Subject {
        container: info.map(|info| info.name.clone()),
        container_id: info.map(|info| info.id.clone()),
        image: info.map(|info| info.image.clone()),
        project: info.and_then(|info| info.project.clone()),
        service: info.and_then(|info| info.service.clone()),
        role: container.map_or(Role::None, |container| ctx.world.role_of(container)),
        health: case.health.clone(),
        started_at: container.and_then(|container| container.started_before(verdict.at)).map(Utc),
        pid: verdict.pid,
        comm: verdict.comm.clone(),
    }
}

/// The incident of the primary that the subject stands by for, if it was open at the moment: a later one was no failover,
/// and one that has ended by now was.
fn failover_of(ctx: Context, case: &Case, verdict: &Verdict) -> Option<IncidentId> {
    if let Some(known) = case.published.as_ref().and_then(|published| published.failover_of.clone()) {
        return Some(known);
    }
    let candidate = ctx.world.containers.get(verdict.container.as_ref()?)?;
    let of_primary = |other: &Case| {
        let published = other.published.as_ref()?;
        let primary = ctx.world.containers.get(published.subject.container_id.as_ref()?)?;
        let is_pair = primary.info.id != candidate.info.id && ctx.world.is_pair(primary, candidate);
        let fits = is_pair && other.opened <= verdict.at && published.cause.kind != client::KIND;
        let lasting = published.condition.filter(|condition| condition.until.is_none());
        let rank = match lasting.map(|condition| condition.kind) {
            Some(ConditionKind::ContainerDown) => 0,
            Some(_) => 1,
            None if published.state == State::Open => 2,
            None => return None,
        };
        fits.then(|| (rank, Reverse(other.opened), published.id.clone()))
    };
    ctx.cases.open().filter_map(of_primary).min().map(|(_, _, id)| id)
}

/// The id of what opened the incident. Two facts of one instant may open two with the same cause and subject.
fn new_id(ctx: Context, verdict: &Verdict, opened: Stamp) -> IncidentId {
    let mut ids = (0..).map(|number| incident_id(verdict, opened, number));
    ids.find(|id| !ctx.cases.has_published(id)).unwrap_or_else(|| incident_id(verdict, opened, 0))
}

/// FNV-1a over what opened the incident: the same facts give the same id in every replay.
fn incident_id(verdict: &Verdict, opened: Stamp, number: u32) -> IncidentId {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let container = verdict.container.as_ref().map_or("", |ContainerId(id)| id.as_str());
    let pid = verdict.pid.map_or(0, |pid| pid.0);
    let number = if number == 0 { String::new() } else { format!("/{number}") };
    let text = format!("{}/{container}/{pid}/{}{number}", name_of(&verdict.kind), opened.0);
    let hash = text.bytes().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    IncidentId(format!("inc-{hash:016x}"))
}
