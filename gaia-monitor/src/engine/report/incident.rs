//! From a case to the incident line: everything is read anew from the world, so that a revision says what is known
//! now, and nothing of an earlier one lingers.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::ids::{ContainerId, IncidentId};
use crate::model::incident::{
    Affected, Cause, CauseKind, Condition, ConditionKind, How, HttpxClass, Incident, Moment, Role, SCHEMA, State,
    Subject, name_of,
};
use crate::model::time::{Stamp, Utc};

use crate::engine::failures::table::{Break, Breaks};
use crate::engine::incidents::case::{Case, Cases};
pub use crate::engine::report::timeline::BEGAN;
use crate::engine::report::verdict::Verdict;
use crate::engine::report::{alternatives, condition, summary, timeline, verdict};
use crate::engine::types::cause::CaseKey;
use crate::engine::world::World;
use crate::model::settings::Settings;

/// Entries of `affected` that are written out.
const AFFECTED: usize = 100;

/// What a draft is made from.
#[derive(Clone, Copy, Debug)]
pub struct Sheet<'a> {
    pub world: &'a World,
    pub breaks: &'a Breaks,
    pub cases: &'a Cases,
    pub settings: &'a Settings,
}

impl Sheet<'_> {
    /// The broken connections of a case, in order.
    pub fn breaks_of(&self, case: &Case) -> impl Iterator<Item = &Break> {
        case.breaks.iter().filter_map(|(_, id)| self.breaks.get(*id))
    }

    /// What had failed the servers themselves before they broke its connections.
    pub fn roots_of(&self, case: &Case) -> impl Iterator<Item = &Break> {
        self.breaks_of(case).filter_map(|found| self.breaks.get(found.root?))
    }

    /// The names whose look-ups failed.
    #[must_use]
    pub fn names_of(&self, case: &Case) -> BTreeSet<&str> {
        self.breaks_of(case).chain(self.roots_of(case)).filter_map(|found| found.name.as_deref()).collect()
    }

    /// The case of what removed the name, where a server's own look-up failed by it, or of what else had failed a server
    /// that then died by itself.
    #[must_use]
    pub fn behind(&self, case: &Case) -> Option<&Case> {
        let behind = self.cases.get(self.roots_of(case).next()?.case?)?;
        let is_a_death = matches!(case.key, CaseKey::Termination(_) | CaseKey::Workers(..));
        // What is behind a death was there before it; two that wait for each other are behind neither.
        let comes_of_it = !is_a_death || (behind.id < case.id && self.is_by_itself(case));
        (behind.id != case.id && comes_of_it).then_some(behind)
    }

    /// A death that nobody else asked for.
    fn is_by_itself(&self, case: &Case) -> bool {
        let verdict = verdict::of(self, case);
        matches!(verdict.kind, CauseKind::ProcessCrashed | CauseKind::ProcessExited)
            || matches!(verdict.how, Some(How::ProcessCrashed | How::ProcessExited))
    }

    #[must_use]
    pub fn draft(&self, case: &Case, state: State) -> Incident {
        let verdict = verdict::of(self, case);
        let subject = self.subject(&verdict, case);
        let id = case.told.as_ref().map_or_else(|| incident_id(&verdict, case.opened), |told| told.id.clone());
        let condition = condition::of(self, case, &verdict);
        let (timeline, timeline_left_out) = timeline::of(self, case, &verdict);
        let behind = self.behind(case).and_then(|behind| behind.told.as_ref()).map(|told| told.id.clone());
        let because = behind.or_else(|| case.because.clone());
        Incident {
            schema: SCHEMA.to_owned(),
            id,
            revision: case.told.as_ref().map_or(1, |told| told.revision.saturating_add(1)),
            state,
            merged_into: None,
            cause: Cause {
                kind: verdict.kind,
                summary: summary::summary(self, case, &verdict, &subject),
                confidence: verdict.confidence,
                signal: verdict.signal.clone(),
                exit_code: verdict.exit_code,
                how: verdict.how,
                sender: verdict.sender.clone(),
                because,
            },
            moment: Moment { at: Utc(verdict.at), fact: verdict.fact },
            failover_of: self.failover_of(case, &verdict),
            condition,
            deaths: verdict.deaths,
            affected: self.affected(case),
            affected_total: case.broken.iter().filter(|(class, _)| **class != HttpxClass::None).map(|(_, n)| n).sum(),
            affected_by_class: by_class(&case.broken),
            alternatives: alternatives::of(self, case, &verdict),
            timeline,
            timeline_left_out,
            lost_events: case.losses.iter().map(|(stage, (_, count))| (stage.clone(), *count)).collect(),
            subject,
        }
    }

    /// Is what lasts over? A case without a condition has nothing that lasts.
    #[must_use]
    pub fn is_over(&self, case: &Case) -> bool {
        let verdict = verdict::of(self, case);
        condition::of(self, case, &verdict).is_none_or(|condition: Condition| condition.until.is_some())
    }

    fn affected(&self, case: &Case) -> Vec<Affected> {
        self.breaks_of(case).take(AFFECTED).map(|found| found.entry.clone()).collect()
    }

    fn subject(&self, verdict: &Verdict, case: &Case) -> Subject {
        let container = verdict.container.as_ref().and_then(|id| self.world.containers.get(id));
        Subject {
            container: container.map(|container| container.info.name.clone()),
            container_id: container.map(|container| container.info.id.clone()),
            image: container.map(|container| container.info.image.clone()),
            project: container.and_then(|container| container.info.project.clone()),
            service: container.and_then(|container| container.info.service.clone()),
            role: container.map_or(Role::None, |container| self.world.role_of(container)),
            health: case.health.clone(),
            started_at: container.and_then(|container| container.started_before(verdict.at)).map(Utc),
            pid: verdict.pid,
            comm: verdict.comm.clone(),
        }
    }

    /// The open incident of the primary that the subject stands by for, as it was at the moment: what came later on was
    /// no failover, and what is over by now was one.
    fn failover_of(&self, case: &Case, verdict: &Verdict) -> Option<IncidentId> {
        if let Some(known) = case.told.as_ref().and_then(|told| told.failover_of.clone()) {
            return Some(known);
        }
        let candidate = self.world.containers.get(verdict.container.as_ref()?)?;
        let of_primary = |other: &Case| {
            let told = other.told.as_ref()?;
            let primary = self.world.containers.get(told.subject.container_id.as_ref()?)?;
            let is_pair = primary.info.id != candidate.info.id && self.world.is_pair(primary, candidate);
            let fits = is_pair && other.opened <= verdict.at && told.cause.kind != CauseKind::ClientCancelled;
            let lasts = told.condition.filter(|condition| condition.until.is_none()).map(|condition| condition.kind);
            let rank = match lasts {
                Some(ConditionKind::ContainerDown) => 0,
                Some(_) => 1,
                None if told.state == State::Open => 2,
                None => return None,
            };
            fits.then(|| (rank, std::cmp::Reverse(other.opened), told.id.clone()))
        };
        self.cases.open().filter_map(of_primary).min().map(|(_, _, id)| id)
    }
}

fn by_class(broken: &BTreeMap<HttpxClass, u64>) -> BTreeMap<HttpxClass, u64> {
    broken.iter().filter(|(class, _)| **class != HttpxClass::None).map(|(class, count)| (*class, *count)).collect()
}

/// FNV-1a over what opened the incident: the same facts give the same id in every replay.
fn incident_id(verdict: &Verdict, opened: Stamp) -> IncidentId {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let container = verdict.container.as_ref().map_or("", |ContainerId(id)| id.as_str());
    let pid = verdict.pid.map_or(0, |pid| pid.0);
    let text = format!("{}/{container}/{pid}/{}", name_of(&verdict.kind), opened.0);
    let hash = text.bytes().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    IncidentId(format!("inc-{hash:016x}"))
}
