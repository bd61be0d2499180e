//! Data that is requested besides the events: logs, a victim's memory, the path of a core file; and the failure that a
//! line of a client's log belongs to.
//!
//! Log lines open, move and delay nothing: they appear in the next revision, or in none if there is none.

use crate::engine::causes::exit::CRASH;
use crate::engine::context::Context;
use crate::engine::effect::{Effect, Request};
use crate::engine::failures::table::{Failure, Failures};
use crate::engine::types::ids::FailureId;
use crate::engine::types::verdict::Judgement;
use crate::engine::world::World;
use crate::engine::world::logs::Line;
use crate::model::event::ExitStatus;
use crate::model::ids::{ContainerId, Pid};
use crate::model::time::{Nanos, Stamp};

use super::case::Case;

/// Logs are read from so long before the moment: a crash message comes right before it, the last line of a quiet server
/// may be older.
const LEAD: Nanos = Nanos::from_secs(10);
/// Logs are requested again so long after the last fact: before the verdict settles, and late enough for what clients
/// write about it.
const AGAIN: Nanos = Nanos::from_millis(500);
/// The least time between two requests of one case, by their number.
const INTERVAL: Nanos = Nanos::from_millis(500);
const LONG_INTERVAL: Nanos = Nanos::from_secs(60);
const MANY: u32 = 10;
/// A signal that dumps a core is followed by the dump immediately.
const DUMPS_WITHIN: Nanos = Nanos::from_secs(1);
/// Clients whose logs are requested at a time.
const CLIENTS: usize = 16;
/// A client logs an error after it has received it; both facts carry the same clock, so an earlier line is another's.
const BEFORE: Nanos = Nanos::from_millis(50);
/// From the error to the line: an exception takes 17 ms at most, 270 ms on a loaded machine, and Docker its own time.
const AFTER: Nanos = Nanos::from_secs(2);
/// Failures that one line is compared with, the latest first.
const COMPARED: usize = 2_000;

/// When the logs of a case are requested.
#[derive(Clone, Copy, Debug)]
pub struct LogPlan {
    pub now: bool,
    /// The number of Docker's `die` events known by then.
    pub dies: usize,
    pub again: Option<Stamp>,
}

/// `None`: the case is not published, or logs are not read at all.
#[must_use]
pub fn plan(ctx: Context, case: &Case) -> Option<LogPlan> {
    case.published.as_ref().filter(|_| ctx.settings.logs.lines > 0)?;
    let has_die = |id| ctx.world.terminations.get(id).is_some_and(|termination| termination.die.is_some());
    let dies = case.terminations.iter().filter(|id| has_die(**id)).count();
    let requests = case.log_requests;
    let rested = requests.at.is_none_or(|at| ctx.world.now.since(at) >= INTERVAL);
    let new_die = dies > requests.dies && (rested || requests.count < MANY);
    let again = (requests.after != Some(case.last_fact)).then(|| {
        let interval = if requests.count < MANY { INTERVAL } else { LONG_INTERVAL };
        let due = case.last_fact.plus(AGAIN);
        // Ignore the first request: retry what it missed before the verdict settles.
        let rested = requests.after.and(requests.at).map(|at| at.plus(interval));
        rested.map_or(due, |rested| due.max(rested))
    });
    Some(LogPlan { now: requests.at.is_none() || new_die, dies, again })
}

/// The subject's log, and those of the clients that failed.
#[must_use]
pub fn log_request(ctx: Context, case: &Case, judgement: &Judgement) -> Option<Request> {
    let verdict = &judgement.verdict;
    let since = case.log_requests.at.unwrap_or(verdict.at.min(case.opened)).minus(LEAD);
    let mut clients: Vec<ContainerId> = Vec::new();
    for client in ctx.entries_of(case).filter_map(|failure| failure.client_container.as_ref()) {
        if clients.len() < CLIENTS && !clients.contains(client) {
            clients.push(client.clone());
        }
    }
    let subject = verdict.container.clone();
    (subject.is_some() || !clients.is_empty()).then_some(Request::Logs { subject, clients, since })
}

/// The memory of an OOM victim's container is read immediately: it is returned within milliseconds.
#[must_use]
pub fn memory_request(world: &World, victim: Pid) -> Option<Effect> {
    let container = world.container_of(victim)?;
    Some(Effect::Enrich(Request::Memory { container, victim }))
}

/// The path of a core file is read while the process still exists, and at the latest when it has dumped one.
#[must_use]
pub fn core_request(world: &World, pid: Pid) -> Option<Effect> {
    let process = world.processes.get(pid).filter(|process| process.core.is_none())?;
    let has_dumped = |status: &ExitStatus| matches!(status, ExitStatus::Signal { core: true, .. });
    let is_crashing = process.signals.back().is_some_and(|seen| {
        let own = seen.sender.as_ref().is_none_or(|sender| sender.pid == pid);
        let recent = seen.at >= world.now.minus(DUMPS_WITHIN);
        own && seen.delivered && recent && CRASH.contains(&seen.signal.as_str())
    });
    let wanted = process.exit.as_ref().map_or(is_crashing, |exit| has_dumped(&exit.status));
    world.container_of(pid).filter(|_| wanted)?;
    Some(Effect::Enrich(Request::Core { pid }))
}

/// The failure of this client that a log line fits best, and the error that the line names.
#[must_use]
pub fn failure_of_line(failures: &Failures, container: &ContainerId, line: &Line) -> Option<(FailureId, &'static str)> {
    if line.named().is_empty() {
        return None;
    }
    let of_client = failures.latest().take(COMPARED);
    let of_client = of_client.filter(|failure| failure.client_container.as_ref() == Some(container));
    let best = of_client.filter_map(|failure| Some((fitness(failure, line)?, failure.id))).min();
    best.map(|(fitness, id)| (id, fitness.name))
}

/// How well a line fits a failure, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fitness {
    /// It names another server, or none.
    other_server: bool,
    /// It names the class that the same packets allow, not the one that was reported.
    other_class: bool,
    distance: Nanos,
    /// The error that the line names.
    name: &'static str,
}

fn fitness(failure: &Failure, line: &Line) -> Option<Fitness> {
    let after = line.at.since(failure.at());
    if !failure.is_error() || !failure.has_room_for_log_line() || after < Nanos(-BEFORE.0) || after > AFTER {
        return None;
    }
    let error = &failure.entry.client_error;
    let of_class = |class| line.named().into_iter().find(|named| named.classes.contains(&class));
    let exact = of_class(error.httpx);
    let named = exact.or_else(|| error.also_possible.and_then(of_class))?;
    let server = &failure.entry.server;
    let names = [server.container.as_deref(), server.service.as_deref(), failure.name.as_deref()];
    let address = failure.route.address.to_string();
    let mentioned = names.into_iter().flatten().chain([address.as_str()]).any(|name| mentions(&line.text, name));
    let distance = Nanos(after.0.abs());
    Some(Fitness { other_server: !mentioned, other_class: exact.is_none(), distance, name: named.name })
}

/// A host name within a line: `gaia-core` is not `gaia-core-candidate`.
fn mentions(text: &str, name: &str) -> bool {
    let part = |character: char| character.is_alphanumeric() || character == '-' || character == '_';
    !name.is_empty()
        && text.match_indices(name).any(|(at, _)| {
            let before = text.get(..at).and_then(|before| before.chars().next_back());
            let after = text.get(at + name.len()..).and_then(|after| after.chars().next());
            !before.is_some_and(part) && !after.is_some_and(part)
        })
}

#[cfg(test)]
mod tests {
    use super::mentions;

    #[test]
    fn finds_names_only_as_a_whole() {
        assert!(mentions("POST http://gaia-core:6415/process", "gaia-core"));
        assert!(!mentions("POST http://gaia-core-candidate:6415/", "gaia-core"));
        assert!(!mentions("anything", ""));
    }
}
