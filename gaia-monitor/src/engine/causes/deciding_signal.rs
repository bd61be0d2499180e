//! The signal behind the end of a process: which one decided, where an init forwarded it, and whether it requested a clean
//! termination.

use crate::engine::world::World;
use crate::engine::world::containers::Container;
use crate::engine::world::processes::{Process, SignalSeen};
use crate::model::event::ExitStatus;
use crate::model::ids::Pid;
use crate::model::time::{Nanos, Stamp};

use super::exit::{GRACE, HANDLED, TERMINATION, sent_by_docker};

/// An init forwards a signal, and a handler ends its process, immediately; a second covers a loaded machine.
const IMMEDIATELY: Nanos = Nanos::from_millis(1_000);
/// A parent that ends its other workers because one died signals them within this time.
const ENDS_THE_OTHERS: Nanos = Nanos::from_millis(1_000);
/// Their meaning is up to the program: a handler that ends the process does so immediately.
const USER: [&str; 2] = ["SIGUSR1", "SIGUSR2"];

/// The signal that explains the status: the one that it names, otherwise a handled one shortly before, otherwise
/// Docker's stop signal.
pub(super) fn deciding_signal<'a>(
    container: Option<&Container>,
    process: &'a Process,
    at: Stamp,
    status: &ExitStatus,
) -> Option<&'a SignalSeen> {
    let before = || process.signals.iter().rev().filter(move |seen| seen.at <= at);
    if let Some(name) = status.signal() {
        // A server that ends cleanly may raise the signal again that it received: the first sender is the cause.
        let others = || {
            let of_name = move |seen: &&SignalSeen| seen.signal == name;
            before().filter(of_name).filter(|seen| seen.sender.as_ref().is_none_or(|s| s.pid != process.pid))
        };
        // During a group exit each SIGKILL to a sibling thread shows as one more without effect: none of those decides.
        let undelivered = || others().find(|_| name == "SIGKILL");
        let own = || before().find(|seen| seen.signal == name);
        return others().find(|seen| seen.delivered).or_else(undelivered).or_else(own);
    }
    let ending = |seen: &&SignalSeen| {
        let stop = container.is_some_and(|container| container.info.stop_signal == seen.signal);
        let clean = stop || seen.signal == "SIGQUIT" || TERMINATION.iter().any(|(name, _)| *name == seen.signal);
        let user = USER.contains(&seen.signal.as_str()) && at.since(seen.at) <= IMMEDIATELY;
        let reach = if stop && sent_by_docker(container, seen) { GRACE } else { HANDLED };
        seen.delivered && (user || clean && at.since(seen.at) <= reach)
    };
    // The earliest: what follows the first request only hastens the end.
    process.signals.iter().filter(|seen| seen.at <= at).find(ending)
}

/// An end by the very signal that requested it, in any form of exit status.
pub(super) fn is_clean_termination(container: Option<&Container>, signal: &str, status: &ExitStatus) -> bool {
    let stop = container.is_some_and(|container| container.info.stop_signal == signal);
    let number = TERMINATION.iter().find(|(name, _)| *name == signal).map(|(_, number)| *number);
    if number.is_none() && !stop {
        return false;
    }
    match status {
        ExitStatus::Signal { signal: by, .. } => by == signal && signal != "SIGKILL",
        ExitStatus::Code { code } => *code == 0 || number.is_some_and(|number| *code == 128 + number),
    }
}

/// The init that received a signal first, and that signal, where the init forwarded it to its child.
pub(super) fn forwarded<'a>(
    world: &'a World,
    child: &Process,
    deciding: &SignalSeen,
) -> Option<(&'a Process, &'a SignalSeen)> {
    let init = world.processes.get(child.parent).filter(|init| world.processes.is_init(init.pid))?;
    deciding.sender.as_ref().filter(|sender| sender.pid == init.pid)?;
    let sent = init.signals.iter().rev().find(|seen| {
        let before = seen.at <= deciding.at && deciding.at.since(seen.at) <= IMMEDIATELY;
        before && seen.delivered && seen.signal == deciding.signal
    })?;
    Some((init, sent))
}

/// The worker of the same parent that had died by a signal of another sender, if the parent then ended this one because
/// of it.
pub(super) fn violent_death_before(world: &World, process: &Process, signalled: Stamp) -> Option<Pid> {
    let recent = world.processes.exited_between(signalled.minus(ENDS_THE_OTHERS), signalled);
    let died_violently = |other: &&Process| {
        let status = other.exit.as_ref().and_then(|exit| exit.status.signal());
        let by_parent = |seen: &SignalSeen| seen.sender.as_ref().is_some_and(|sender| sender.pid == other.parent);
        let of_status = |seen: &&SignalSeen| seen.delivered && Some(seen.signal.as_str()) == status;
        status.is_some_and(|name| !TERMINATION.iter().any(|(clean, _)| *clean == name))
            && !other.signals.iter().filter(of_status).any(by_parent)
    };
    let others = recent.filter(|other| other.parent == process.parent && other.pid != process.pid);
    others.filter(died_violently).min_by_key(|other| other.exit.as_ref().map(|exit| exit.at)).map(|other| other.pid)
}
