//! What the engine asks for beside the facts that come by themselves: logs, a victim's memory, where a core goes. And
//! to which broken connection a line of a client's log belongs.
//!
//! Log lines open, move and delay nothing: they stand in the next revision, or, where none comes any more, in none.

use crate::model::event::{ExitStatus, LogsUnread};
use crate::model::ids::{ContainerId, Pid};
use crate::model::time::Nanos;

use crate::engine::Engine;
use crate::engine::causes::exit::CRASH;
use crate::engine::effect::{Counted, Effect, Wanted};
use crate::engine::failures::retry_policy;
use crate::engine::failures::table::Break;
use crate::engine::incidents::case::{CaseId, Heard};
use crate::engine::report::{log_lines, verdict};
use crate::engine::timers::Timer;
use crate::engine::world::Change;
use crate::engine::world::logs::Line;

/// Logs are read from so long before the moment: a crash's own words come right before it, a quiet server's last line
/// may be preexisting.
const LEAD: Nanos = Nanos::from_secs(10);
/// They are asked for again so long after the last fact: before the verdict stands, and long enough for what clients
/// write about it.
const ASK_AGAIN: Nanos = Nanos::from_millis(500);
/// The least time between two queries of one case, by how many there were.
const PAUSE: Nanos = Nanos::from_millis(500);
const LONG_PAUSE: Nanos = Nanos::from_secs(60);
const OFTEN: u32 = 10;
/// A signal that dumps a core is followed by the dump at once.
const STRUCK: Nanos = Nanos::from_secs(1);
/// Clients whose logs are asked for at once.
const CLIENTS: usize = 16;

/// A client writes of an error after it has it; clocks of both facts are the same, so that a line before it is another's.
const BEFORE: Nanos = Nanos::from_millis(50);
/// From the error to the line: an exception takes 17 ms at most, 270 ms on a loaded machine, and Docker its own time.
const AFTER: Nanos = Nanos::from_secs(2);
/// Broken connections that one line is compared with, the latest first.
const COMPARED: usize = 2_000;

impl Engine {
    /// Asks for the logs of a case that has been told: at once, whenever Docker's `die` comes, and later for the rest.
    pub(in crate::engine) fn listen(&mut self, id: CaseId, effects: &mut Vec<Effect>) {
        if self.settings.logs.lines == 0 {
            return;
        }
        let Some(case) = self.cases.get(id).filter(|case| case.told.is_some()) else { return };
        let die = |id| self.world.terminations.get(id).is_some_and(|termination| termination.die.is_some());
        let dies = case.terminations.iter().filter(|id| die(**id)).count();
        let (heard, last_fact) = (case.heard, case.last_fact);
        let soon = heard.at.is_none_or(|at| self.world.now.since(at) >= PAUSE);
        if heard.at.is_none() || (dies > heard.dies && (soon || heard.times < OFTEN)) {
            self.ask(id, Heard { dies, ..heard }, effects);
        }
        if heard.after != Some(last_fact) {
            let pause = if heard.times < OFTEN { PAUSE } else { LONG_PAUSE };
            // The first query does not count: what it could not bring is asked for before the verdict stands.
            let rested = heard.after.and(heard.at).map(|at| at.plus(pause));
            let due = last_fact.plus(ASK_AGAIN);
            self.timers.set(Timer::Logs(id), Some(rested.map_or(due, |rested| due.max(rested))));
        }
    }

    /// The time for the second query has come.
    pub(in crate::engine) fn listen_again(&mut self, id: CaseId, effects: &mut Vec<Effect>) {
        let Some(case) = self.cases.get(id) else { return };
        let heard = Heard { after: Some(case.last_fact), ..case.heard };
        self.ask(id, heard, effects);
    }

    fn ask(&mut self, id: CaseId, heard: Heard, effects: &mut Vec<Effect>) {
        let Some(case) = self.cases.get(id) else { return };
        let verdict = verdict::of(&self.sheet(), case);
        let since = case.heard.at.unwrap_or(verdict.at.min(case.opened)).minus(LEAD);
        let mut clients: Vec<ContainerId> = Vec::new();
        for found in self.sheet().breaks_of(case) {
            if let Some(client) = &found.client_container
                && clients.len() < CLIENTS
                && !clients.contains(client)
            {
                clients.push(client.clone());
            }
        }
        let now = self.world.now;
        if let Some(case) = self.cases.get_mut(id) {
            case.heard = Heard { at: Some(now), times: heard.times.saturating_add(1), ..heard };
        }
        let subject = verdict.container;
        if subject.is_some() || !clients.is_empty() {
            effects.push(Effect::Wanted(Wanted::Logs { subject, clients, since }));
        }
    }

    /// Takes the subject's lines that are to be told into the case: the world forgets them sooner.
    pub(in crate::engine) fn gather(&mut self, id: CaseId) {
        let most = self.settings.logs.lines;
        let Some(case) = self.cases.get(id) else { return };
        let lines = log_lines::of_subject(&self.sheet(), case, most);
        if let Some(case) = self.cases.get_mut(id) {
            case.log = lines;
        }
    }

    /// A line that names an error belongs to the broken connection of this client that fits best.
    pub(in crate::engine) fn join_line(&mut self, container: &ContainerId, line: &Line) {
        if line.named().is_empty() {
            return;
        }
        let of_client = self.breaks.latest().take(COMPARED);
        let of_client = of_client.filter(|found| found.client_container.as_ref() == Some(container));
        let best = of_client.filter_map(|found| Some((fitness(found, line)?, found.id))).min();
        if let Some((Fitness { name, .. }, id)) = best {
            self.breaks.change(id, |found| found.log.push((line.clone(), name)));
        }
    }

    pub(in crate::engine) fn unread(&mut self, unread: &LogsUnread, effects: &mut Vec<Effect>) {
        let container = retry_policy::client_name(&self.world, Some(&unread.container));
        effects.push(Effect::Counted(Counted::LogsUnread { container, why: unread.why.clone() }));
    }

    /// The memory of a victim's container is worth reading at once: it is given back within milliseconds.
    pub(in crate::engine) fn look_at_memory(&self, pid: Pid, change: &Change, effects: &mut Vec<Effect>) {
        if matches!(change, Change::OomMarked(_))
            && let Some(container) = self.world.container_of(pid)
        {
            effects.push(Effect::Wanted(Wanted::Memory { container, victim: pid }));
        }
    }

    /// Where a core goes is worth asking while the process still is there, and at the latest when it has left one.
    pub(in crate::engine) fn look_at_core(&self, pid: Pid, effects: &mut Vec<Effect>) {
        let Some(process) = self.world.processes.get(pid).filter(|process| process.core.is_none()) else { return };
        let dumped = |status: &ExitStatus| matches!(status, ExitStatus::Signal { core: true, .. });
        let struck = process.signals.back().is_some_and(|seen| {
            let own = seen.sender.as_ref().is_none_or(|sender| sender.pid == pid);
            own && seen.delivered && seen.at >= self.world.now.minus(STRUCK) && CRASH.contains(&seen.signal.as_str())
        });
        let wanted = process.exit.as_ref().map_or(struck, |exit| dumped(&exit.status));
        if wanted && self.world.container_of(pid).is_some() {
            effects.push(Effect::Wanted(Wanted::Core { pid }));
        }
    }
}

/// How well a line fits a broken connection, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fitness {
    /// It names another server, or none.
    elsewhere: bool,
    /// It names the class that the same packets allow, not the one that was told.
    other_class: bool,
    distance: Nanos,
    /// The error that the line names.
    name: &'static str,
}

fn fitness(found: &Break, line: &Line) -> Option<Fitness> {
    let after = line.at.since(found.at());
    if !found.hurts() || !found.has_room_for_a_line() || after < Nanos(-BEFORE.0) || after > AFTER {
        return None;
    }
    let error = &found.entry.client_error;
    let of_class = |class| line.named().into_iter().find(|named| named.classes.contains(&class));
    let exact = of_class(error.httpx);
    let named = exact.or_else(|| error.or.and_then(of_class))?;
    let server = &found.entry.server;
    let names = [server.container.as_deref(), server.service.as_deref(), found.name.as_deref()];
    let at = found.route.address.to_string();
    let mentioned = names.into_iter().flatten().chain([at.as_str()]).any(|name| mentions(&line.text, name));
    let distance = Nanos(after.0.abs());
    Some(Fitness { elsewhere: !mentioned, other_class: exact.is_none(), distance, name: named.name })
}

/// A host's name within a line: `gaia-core` is not `gaia-core-candidate`.
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
    fn a_name_is_mentioned_as_a_whole() {
        assert!(mentions("POST http://gaia-core:6415/process", "gaia-core"));
        assert!(!mentions("POST http://gaia-core-candidate:6415/", "gaia-core"));
        assert!(!mentions("anything", ""));
    }
}
