//! What lasts beyond the moment, and whether it is over.

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
        CaseKey::Demise(_) => {
            let last = case.demises.last().and_then(|id| sheet.world.demises.get(*id));
            condition(ConditionKind::ContainerDown, verdict.at, last.and_then(|demise| demise.over))
        }
        CaseKey::Paused(id, since) => {
            let spell = container.and_then(|container| container.pauses.iter().find(|spell| spell.since == *since));
            let until = spell.and_then(|spell| spell.until).or_else(|| went_down(sheet, id, *since));
            condition(ConditionKind::Paused, *since, until)
        }
        CaseKey::Outage(id) => {
            let outage = sheet.world.links.outages.get(*id)?;
            let ended = outage.container.as_ref().and_then(|id| went_down(sheet, id, verdict.at));
            let kind = if outage.docker.is_some() { ConditionKind::Detached } else { ConditionKind::LinkDown };
            condition(kind, verdict.at, outage.mended().or(ended))
        }
        CaseKey::NotListening(id, port) | CaseKey::Backend(id, port) => {
            let back = container.and_then(|container| container.listening.get(port).copied());
            let back = back.filter(|back| *back >= verdict.at).or_else(|| went_down(sheet, id, verdict.at));
            condition(ConditionKind::NotListening, verdict.at, back)
        }
        CaseKey::NameGone(..) => {
            let back =
                sheet.names_of(case).into_iter().filter_map(|name| sheet.world.names.back(name, verdict.at)).min();
            condition(ConditionKind::NameGone, verdict.at, back)
        }
        CaseKey::Workers(Some(id), _) => {
            let closed = container.and_then(|container| port_closed(container, verdict.at))?;
            let until = closed.or_else(|| went_down(sheet, id, verdict.at));
            condition(ConditionKind::NotListening, verdict.at, until)
        }
        CaseKey::Filtered(id, _) => {
            let passed = case.passed.or_else(|| went_down(sheet, id.as_ref()?, verdict.at));
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

fn went_down(sheet: &Sheet, id: &ContainerId, from: Stamp) -> Option<Stamp> {
    sheet.world.demises.of_container(id).filter_map(|demise| demise.down()).find(|down| *down >= from)
}
