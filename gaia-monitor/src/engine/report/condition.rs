//! What lasts remote_peer the moment, and whether it is over.

use crate::engine::incidents::case::Case;
use crate::engine::types::cause::CaseKey;
use crate::engine::world::containers::Container;
use crate::model::ids::ContainerId;
use crate::model::incident::{Condition, ConditionKind};
use crate::model::time::{Stamp, Utc};

use crate::engine::report::incident::Sheet;
use crate::engine::report::verdict::Verdict;

pub fn of(sheet: &Sheet, case: &Case, verdict: &Verdict) -> Option<Condition> {
    let condition = |kind, since: Stamp, until: Option<Stamp>| {
        let until = until.map(|until| Utc(until.max(since)));
        Some(Condition { kind, since: Utc(since), until })
    };
    let container = verdict.container.as_ref().and_then(|id| sheet.world.containers.get(id));
    match &case.key {
        CaseKey::Termination(_) => {
            let last = case.terminations.last().and_then(|id| sheet.world.terminations.get(*id));
            condition(ConditionKind::ContainerDown, verdict.at, last.and_then(|termination| termination.recovered))
        }
        CaseKey::Paused(id, since) => {
            let period = container.and_then(|container| container.pauses.iter().find(|period| period.since == *since));
            let until = period.and_then(|period| period.until).or_else(|| terminated(sheet, id, *since));
            condition(ConditionKind::Paused, *since, until)
        }
        CaseKey::Outage(id) => {
            let outage = sheet.world.interfaces.outages.get(*id)?;
            let ended = outage.container.as_ref().and_then(|id| terminated(sheet, id, verdict.at));
            let kind = if outage.docker.is_some() { ConditionKind::Detached } else { ConditionKind::LinkDown };
            condition(kind, verdict.at, outage.mended().or(ended))
        }
        CaseKey::NotListening(id, port) | CaseKey::Backend(id, port) => {
            let back = container.and_then(|container| container.listening.get(port).copied());
            let back = back.filter(|back| *back >= verdict.at).or_else(|| terminated(sheet, id, verdict.at));
            condition(ConditionKind::NotListening, verdict.at, back)
        }
        CaseKey::NameGone(..) => {
            let back =
                sheet.names_of(case).into_iter().filter_map(|name| sheet.world.names.back(name, verdict.at)).min();
            condition(ConditionKind::NameGone, verdict.at, back)
        }
        CaseKey::Workers(Some(id), _) => {
            let closed = container.and_then(|container| port_closed(container, verdict.at))?;
            let until = closed.or_else(|| terminated(sheet, id, verdict.at));
            condition(ConditionKind::NotListening, verdict.at, until)
        }
        CaseKey::Filtered(id, _) => {
            let passed = case.passed.or_else(|| terminated(sheet, id.as_ref()?, verdict.at));
            condition(ConditionKind::Filtered, verdict.at, passed)
        }
        CaseKey::Workers(None, _) | CaseKey::Backlog(_) | CaseKey::Process(..) | CaseKey::Client(..) => None,
    }
}

/// Did a port close with the worker? `Some(until)`: yes, and until when.
fn port_closed(container: &Container, at: Stamp) -> Option<Option<Stamp>> {
    let closed = container.listeners_closed.is_some_and(|closed| closed >= at);
    if !closed {
        return None;
    }
    let missing = container.ports.keys().any(|port| !container.listening.contains_key(port));
    if missing {
        return Some(None);
    }
    Some(container.listening.values().copied().filter(|since| *since >= at).max())
}

fn terminated(sheet: &Sheet, id: &ContainerId, from: Stamp) -> Option<Stamp> {
    sheet.world.terminations.of_container(id).filter_map(|termination| termination.down()).find(|down| *down >= from)
}
