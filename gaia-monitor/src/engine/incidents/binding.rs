//! Which failure belongs to which case. A failure moves when it is attributed to another cause.

use crate::engine::causes;
use crate::engine::failures::table::Failures;
use crate::engine::types::ids::{CaseId, FailureId};
use crate::engine::world::World;
use crate::model::incident::{Confidence, HttpxClass};
use crate::model::time::Stamp;

use super::case::Cases;

/// Binds a failure to a case, and takes it from the one before. Returns whether it is an error that has to be counted.
pub fn bind(failures: &mut Failures, cases: &mut Cases, id: FailureId, to: CaseId, now: Stamp) -> bool {
    let Some(failure) = failures.get(id) else { return false };
    if failure.case == Some(to) {
        return false;
    }
    let (at, class) = (failure.at(), failure.entry.client_error.httpx);
    let is_sure = !failure.foreign && failure.confidence() != Confidence::Possible;
    let counted = (class != HttpxClass::None && is_sure).then_some(class);
    unbind(failures, cases, id);
    let left = failures.get(id).and_then(|failure| failure.previous_case).filter(|left| *left != to);
    if let Some(left) = left.and_then(|left| cases.get_mut(left)) {
        left.moved_to = Some(to);
    }
    failures.change(id, |failure| (failure.case, failure.counted) = (Some(to), counted));
    if let Some(case) = cases.get_mut(to) {
        case.add(at, id, counted, now);
        case.last_fact = now;
        case.latest = case.latest.max(at);
        case.dirty = true;
    }
    counted.is_some()
}

/// Servers of a container that was not known when its first process died have their names now.
pub fn name_servers(failures: &mut Failures, world: &World, cases: &Cases, id: CaseId) {
    let Some(case) = cases.get(id) else { return };
    let Some(subject) = causes::of(&case.key).subject(world, &case.key) else { return };
    let Some(container) = world.containers.get(subject) else { return };
    for (_, failure) in &case.failures {
        failures.change(*failure, |failure| {
            if failure.route.container.is_none() && failure.entry.server.container.is_none() {
                failure.entry.server.container = Some(container.info.name.clone());
                failure.entry.server.service.clone_from(&container.info.service);
                failure.route.container = Some(subject.clone());
            }
        });
    }
}

/// Takes a failure from its case.
pub fn unbind(failures: &mut Failures, cases: &mut Cases, id: FailureId) {
    let Some(failure) = failures.get(id) else { return };
    if let Some(case) = failure.case.and_then(|case| cases.get_mut(case)) {
        case.take(failure.at(), id, failure.counted);
        case.dirty = true;
    }
    failures.change(id, |failure| {
        failure.previous_case = failure.case.take().or(failure.previous_case);
        failure.counted = None;
    });
}
