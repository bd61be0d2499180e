//! How a process ended and whose doing it was: from the exit status, the signals before it, and who asked Docker.
//!
//! Kernel facts decide; Docker's events only say who asked, and may come later and change the account.

use crate::model::event::{DockerAction, ExitStatus};
use crate::model::ids::Pid;
use crate::model::incident::{CauseKind, Confidence, How, MomentFact, Sender, Via};
use crate::model::time::{Nanos, Stamp};

use crate::engine::world::World;
use crate::engine::world::containers::Container;
use crate::engine::world::processes::{self, Process, SignalSeen};
use crate::engine::world::terminations::{self, Termination};

/// Docker's `kill` event follows its signal within 6 ms; the clock of the event is another one.
const KILL_EVENT: Nanos = Nanos::from_millis(1_000);
/// A handled signal explains an exit for this long; Docker's own stop has its grace instead.
pub const HANDLED: Nanos = Nanos::from_secs(10);
/// Docker's `stop` follows its `die` within 120 ms; a second covers a loaded machine.
const STOP_FOLLOWS: Nanos = Nanos::from_millis(1_000);
/// An init passes a signal on, and a handler ends its process, at once; a second covers a loaded machine.
const AT_ONCE: Nanos = Nanos::from_millis(1_000);
/// The longest grace of a stop that is still joined to the kill that ends it.
const GRACE: Nanos = Nanos::from_secs(300);
/// Raised by the kernel, or by the process itself, when native code breaks.
pub const CRASH: [&str; 7] = ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS"];
/// The signals that ask a process to end in order.
const POLITE: [(&str, u8); 3] = [("SIGHUP", 1), ("SIGINT", 2), ("SIGTERM", 15)];

/// What they mean is the program's own affair: a handler that ends the process does so at once.
const USER: [&str; 2] = ["SIGUSR1", "SIGUSR2"];

/// The account of one end.
#[derive(Clone, Debug)]
pub struct Account {
    pub kind: CauseKind,
    pub how: How,
    pub at: Stamp,
    pub fact: MomentFact,
    pub pid: Option<Pid>,
    pub comm: Option<String>,
    pub signal: Option<String>,
    pub exit_code: Option<i32>,
    pub sender: Option<Sender>,
    pub confidence: Confidence,
    /// An end in order, which is no death.
    pub orderly: bool,
    /// Docker was asked for it.
    pub asked: bool,
    /// The exit was seen.
    pub dead: bool,
}

impl Account {
    /// Is it an incident even if it broke nothing?
    #[must_use]
    pub fn stands_alone(&self) -> bool {
        self.dead && !self.orderly && !self.asked
    }
}

/// The account of a container's termination.
#[must_use]
pub fn of_termination(world: &World, termination: &Termination) -> Account {
    let container = world.containers.get(&termination.container);
    if let Some(root) = termination.root.and_then(|pid| world.processes.get(pid))
        && let Some(exit) = &root.exit
    {
        return ended(world, container, root, exit.at, &exit.status);
    }
    let process = termination.pid.and_then(|pid| world.processes.get(pid));
    if let (Some(process), Some(exit)) = (process, &termination.exit) {
        let account = ended(world, container, process, exit.at, &exit.status);
        return match init_that_went_first(world, process, exit) {
            // Whatever ended the init ended its child; the moment and the process are the child's.
            Some((init, by)) => Account {
                at: account.at,
                pid: account.pid,
                comm: account.comm,
                signal: account.signal,
                exit_code: account.exit_code,
                ..ended(world, container, init, by.at, &by.status)
            },
            None => account,
        };
    }
    if let (Some(process), Some((at, signal)), None) = (process, &termination.requested, &termination.die) {
        return under_way(world, container, process, *at, signal);
    }
    by_docker_alone(world, container, termination, process)
}

/// The init whose end took this child along: the kernel kills what is left in a namespace that loses its first process
/// (`zap_pid_ns_processes`, kernel/pid_namespace.c).
fn init_that_went_first<'a>(
    world: &'a World,
    child: &Process,
    exit: &terminations::Exit,
) -> Option<(&'a Process, &'a processes::Exit)> {
    let init = world.processes.get(child.parent).filter(|init| world.processes.is_init(init.pid))?;
    let by = init.exit.as_ref()?;
    let taken_along = exit.status.signal() == Some("SIGKILL") && by.at <= exit.at && child.oom.is_none();
    taken_along.then_some((init, by))
}

/// The account of a process that is not its container's first.
#[must_use]
pub fn of_worker(world: &World, pid: Pid) -> Option<Account> {
    let process = world.processes.get(pid)?;
    let exit = process.exit.as_ref()?;
    let container = world.container_of(pid).and_then(|id| world.containers.get(&id));
    let account = ended(world, container, process, exit.at, &exit.status);
    Some(Account { kind: CauseKind::WorkerDied, asked: false, ..account })
}

fn ended(world: &World, container: Option<&Container>, process: &Process, at: Stamp, status: &ExitStatus) -> Account {
    let signal = status.signal().map(str::to_owned);
    let exit_code = status.code().map(i32::from);
    let blank = Account {
        kind: CauseKind::ProcessExited,
        how: How::ProcessExited,
        at,
        fact: MomentFact::ProcessExit,
        pid: Some(process.pid),
        comm: Some(process.comm.clone()),
        signal,
        exit_code,
        sender: None,
        confidence: Confidence::Certain,
        orderly: status.is_success(),
        asked: false,
        dead: true,
    };
    if process.oom.is_some() && status.signal() == Some("SIGKILL") {
        return Account { kind: CauseKind::OomKilled, how: How::OomKilled, ..blank };
    }
    let deciding = deciding_signal(container, process, at, status);
    let Some(deciding) = deciding else {
        if let Some((kind, via)) = told_by_docker(container, at, status) {
            // Its signal was lost, or sent before the monitor ran; Docker says that it was asked.
            return Account {
                kind,
                how: How::ProcessKilled,
                sender: Some(Sender { pid: None, comm: None, container: None, via: Some(via) }),
                confidence: Confidence::Likely,
                asked: true,
                ..blank
            };
        }
        return match status.signal() {
            None => blank,
            Some(name) if CRASH.contains(&name) => {
                Account { kind: CauseKind::ProcessCrashed, how: How::ProcessCrashed, ..blank }
            }
            // Its signal was not seen: lost, or sent before the monitor ran.
            Some(_) => Account {
                kind: CauseKind::ProcessKilled,
                how: How::ProcessKilled,
                confidence: Confidence::Likely,
                ..blank
            },
        };
    };
    let from_parent = deciding.sender.as_ref().is_some_and(|sender| sender.pid == process.parent);
    // What an init passes on is the doing of who sent it to the init.
    let (receiver, deciding) = passed_on(world, process, deciding).unwrap_or((process, deciding));
    let own = deciding.sender.as_ref().is_none_or(|sender| sender.pid == process.pid);
    if status.signal().is_some_and(|name| CRASH.contains(&name)) && own {
        return Account { kind: CauseKind::ProcessCrashed, how: How::ProcessCrashed, ..blank };
    }
    let docker = asked_by_docker(container, deciding);
    let orderly =
        blank.orderly || ((docker || own || from_parent) && is_polite_end(container, &deciding.signal, status));
    if docker {
        let order = docker_order(container, receiver, at, deciding, world.now);
        let sender = sender_of(world, deciding, Some(order.via));
        let kind = order.kind;
        let confidence = order.confidence;
        return Account { kind, how: How::ProcessKilled, sender, confidence, orderly, asked: true, ..blank };
    }
    let sender = if own { None } else { sender_of(world, deciding, None) };
    Account { kind: CauseKind::ProcessKilled, how: How::ProcessKilled, sender, orderly, ..blank }
}

/// The init that a signal was sent to first, and that signal, where the init passed it on to its child.
fn passed_on<'a>(world: &'a World, child: &Process, deciding: &SignalSeen) -> Option<(&'a Process, &'a SignalSeen)> {
    let init = world.processes.get(child.parent).filter(|init| world.processes.is_init(init.pid))?;
    deciding.sender.as_ref().filter(|sender| sender.pid == init.pid)?;
    let sent = init.signals.iter().rev().find(|seen| {
        let before = seen.at <= deciding.at && deciding.at.since(seen.at) <= AT_ONCE;
        before && seen.delivered && seen.signal == deciding.signal
    })?;
    Some((init, sent))
}

/// A signal is under way and nothing has ended yet.
fn under_way(world: &World, container: Option<&Container>, process: &Process, at: Stamp, signal: &str) -> Account {
    let seen = process.signals.iter().find(|seen| seen.at == at && seen.signal == signal);
    let docker = seen.is_some_and(|seen| asked_by_docker(container, seen));
    let order = seen.filter(|_| docker).map(|seen| docker_order(container, process, at, seen, world.now));
    let kind = order.as_ref().map_or(CauseKind::ProcessKilled, |order| order.kind);
    Account {
        kind,
        how: How::ProcessKilled,
        at,
        fact: MomentFact::Signal,
        pid: Some(process.pid),
        comm: Some(process.comm.clone()),
        signal: Some(signal.to_owned()),
        exit_code: None,
        sender: seen.and_then(|seen| sender_of(world, seen, order.as_ref().map(|order| order.via))),
        confidence: Confidence::Likely,
        orderly: false,
        asked: docker,
        dead: false,
    }
}

/// The exit was not seen; Docker's `die` is all there is.
fn by_docker_alone(
    world: &World,
    container: Option<&Container>,
    termination: &Termination,
    process: Option<&Process>,
) -> Account {
    let die = termination.die.as_ref();
    let at = die.map_or(termination.since(), |die| die.at);
    let code = die.and_then(|die| die.exit_code).and_then(|code| i32::try_from(code).ok());
    let since = at.minus(GRACE);
    let said = |wanted: fn(&DockerAction) -> bool| {
        container.is_some_and(|container| container.events_of_run(since, at).any(|said| wanted(&said.action)))
    };
    let killed = said(|action| matches!(action, DockerAction::Kill { .. }));
    let stopped = said(|action| matches!(action, DockerAction::Stop));
    let (kind, how) = match (stopped, killed, code) {
        (true, _, _) => (CauseKind::ContainerStopped, How::ProcessKilled),
        (false, true, _) => (CauseKind::ContainerKilled, How::ProcessKilled),
        (false, false, Some(134 | 135 | 136 | 139)) => (CauseKind::ProcessCrashed, How::ProcessCrashed),
        (false, false, Some(137)) => (CauseKind::ProcessKilled, How::ProcessKilled),
        (false, false, _) => (CauseKind::ProcessExited, How::ProcessExited),
    };
    // Docker codes a signal as 128 + its number: with the signal itself seen, that is what ended the process.
    let sent = process.and_then(|process| {
        let mut delivered = process.signals.iter().rev().filter(|seen| seen.delivered && seen.at <= at);
        delivered.find(|seen| ends_with(&seen.signal, code))
    });
    let via = match (stopped, killed) {
        (true, _) => Some(Via::DockerStop),
        (false, true) => Some(Via::DockerKill),
        (false, false) => None,
    };
    let sender = sent.and_then(|seen| sender_of(world, seen, via));
    let sender = sender.or(via.map(|via| Sender { pid: None, comm: None, container: None, via: Some(via) }));
    Account {
        kind,
        how,
        at,
        fact: MomentFact::DockerDie,
        pid: termination.pid.or(container.and_then(|container| container.info.pid)),
        comm: process.map(|process| process.comm.clone()),
        signal: sent.map(|seen| seen.signal.clone()),
        exit_code: code.filter(|_| sent.is_none()),
        sender,
        confidence: Confidence::Likely,
        orderly: code == Some(0),
        asked: killed || stopped,
        dead: true,
    }
}

/// Is this Docker's exit code of an end by this signal?
fn ends_with(signal: &str, code: Option<i32>) -> bool {
    let number = match signal {
        "SIGKILL" => Some(9),
        other => POLITE.iter().find(|(name, _)| *name == other).map(|(_, number)| i32::from(*number)),
    };
    number.is_some_and(|number| code == Some(128 + number))
}

/// What Docker's words alone say of an end whose signal was not seen: a stop that is told after it, or a kill with the
/// very signal shortly before.
fn told_by_docker(container: Option<&Container>, at: Stamp, status: &ExitStatus) -> Option<(CauseKind, Via)> {
    let near = |said: Stamp| said.since(at).0.abs() <= KILL_EVENT.0;
    let life = || container.into_iter().flat_map(|container| container.events_of_run(at.minus(KILL_EVENT), at));
    let said = || life().filter(|said| near(said.at));
    if said().any(|said| said.action == DockerAction::Stop && said.at >= at) {
        return Some((CauseKind::ContainerStopped, Via::DockerStop));
    }
    let killed = |action: &DockerAction| matches!(action, DockerAction::Kill { signal } if status.signal() == Some(signal.as_str()));
    said().any(|said| killed(&said.action)).then_some((CauseKind::ContainerKilled, Via::DockerKill))
}

/// The signal that explains the status: the one that it names, else a handled one shortly before, else Docker's stop.
fn deciding_signal<'a>(
    container: Option<&Container>,
    process: &'a Process,
    at: Stamp,
    status: &ExitStatus,
) -> Option<&'a SignalSeen> {
    let before = || process.signals.iter().rev().filter(move |seen| seen.at <= at);
    if let Some(name) = status.signal() {
        // A server that ends in order may raise the signal again that it was sent: the first sender is the cause.
        let others = || {
            let of_name = move |seen: &&SignalSeen| seen.signal == name;
            before().filter(of_name).filter(|seen| seen.sender.as_ref().is_none_or(|s| s.pid != process.pid))
        };
        // While its threads end, each SIGKILL for a sibling shows as one more that had no effect: none of those decides.
        let undelivered = || others().find(|_| name == "SIGKILL");
        let own = || before().find(|seen| seen.signal == name);
        return others().find(|seen| seen.delivered).or_else(undelivered).or_else(own);
    }
    let ending = |seen: &&SignalSeen| {
        let stop = container.is_some_and(|container| container.info.stop_signal == seen.signal);
        let polite = stop || seen.signal == "SIGQUIT" || POLITE.iter().any(|(name, _)| *name == seen.signal);
        let user = USER.contains(&seen.signal.as_str()) && at.since(seen.at) <= AT_ONCE;
        let reach = if stop && asked_by_docker(container, seen) { GRACE } else { HANDLED };
        seen.delivered && (user || polite && at.since(seen.at) <= reach)
    };
    // The earliest of them: what comes after the first order only hurries it on.
    process.signals.iter().filter(|seen| seen.at <= at).find(ending)
}

/// Did Docker send this signal? Its runtime does, from the host; other runtimes are known by Docker's own word.
#[must_use]
pub fn asked_by_docker(container: Option<&Container>, seen: &SignalSeen) -> bool {
    let Some(sender) = &seen.sender else { return false };
    if sender.ns_level > 0 {
        return false;
    }
    let runtime = sender.comm.starts_with("runc") || sender.comm.starts_with("crun");
    runtime
        || container.is_some_and(|container| {
            container.said.iter().any(|said| {
                let near = said.at.since(seen.at).0.abs() <= KILL_EVENT.0;
                near && matches!(&said.action, DockerAction::Kill { signal } if *signal == seen.signal)
                    && sender.comm.starts_with("containerd")
            })
        })
}

struct Order {
    kind: CauseKind,
    via: Via,
    confidence: Confidence,
}

/// `docker stop` or `docker kill`? Both send signals; `stop` says so afterwards, and alone waits between two of them.
fn docker_order(
    container: Option<&Container>,
    process: &Process,
    at: Stamp,
    deciding: &SignalSeen,
    now: Stamp,
) -> Order {
    let stop_signal = container.map_or("SIGTERM", |container| container.info.stop_signal.as_str());
    let begun = process.signals.iter().find(|seen| {
        seen.signal == stop_signal
            && seen.at <= deciding.at
            && at.since(seen.at) <= GRACE
            && asked_by_docker(container, seen)
    });
    let first = begun.map_or(deciding.at, |seen| seen.at);
    let life = || container.into_iter().flat_map(|c| c.events_of_run(first.minus(KILL_EVENT), first));
    if life().any(|said| said.action == DockerAction::Stop) {
        return Order { kind: CauseKind::ContainerStopped, via: Via::DockerStop, confidence: Confidence::Certain };
    }
    let killed = Order { kind: CauseKind::ContainerKilled, via: Via::DockerKill, confidence: Confidence::Certain };
    if begun.is_none() {
        return killed;
    }
    // A stop's own word follows the exit within 150 ms: once the container's death has been told and a second has
    // passed without it (the caller's settling time), `docker kill` with the stop signal is what remains.
    let die = life().find(|said| matches!(said.action, DockerAction::Die { .. }));
    let told_long_ago = die.is_some_and(|die| now.since(die.seen) >= STOP_FOLLOWS);
    if told_long_ago {
        return Order { confidence: Confidence::Likely, ..killed };
    }
    Order { kind: CauseKind::ContainerStopped, via: Via::DockerStop, confidence: Confidence::Likely }
}

/// An end by the very signal that asked for it, however coded.
fn is_polite_end(container: Option<&Container>, signal: &str, status: &ExitStatus) -> bool {
    let stop = container.is_some_and(|container| container.info.stop_signal == signal);
    let number = POLITE.iter().find(|(name, _)| *name == signal).map(|(_, number)| *number);
    if number.is_none() && !stop {
        return false;
    }
    match status {
        ExitStatus::Signal { signal: by, .. } => by == signal && signal != "SIGKILL",
        ExitStatus::Code { code } => *code == 0 || number.is_some_and(|number| *code == 128 + number),
    }
}

/// Who sent a signal, and by which order to Docker.
#[must_use]
pub fn sender_of(world: &World, seen: &SignalSeen, via: Option<Via>) -> Option<Sender> {
    let named = seen.sender.as_ref()?;
    let container = world.containers.of_cgroup(named.cgroup).and_then(|id| world.containers.get(&id));
    // Docker's runtime enters the container's cgroup before it signals, and neither its pid nor its network namespace; a
    // process of a container that has the host's pids stands in the container's network.
    let own = |container: &&Container| {
        let inside = !container.info.host_network && container.info.netns == Some(named.netns);
        named.ns_level > 0 || inside
    };
    let container = container.filter(own).map(|container| container.info.name.clone());
    Some(Sender { pid: Some(named.pid), comm: Some(named.comm.clone()), container, via })
}
