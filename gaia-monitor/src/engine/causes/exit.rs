//! How a process ended and what requested it: from the exit status, the signals before it, and Docker's events. Shared by
//! the terminations of containers and the deaths of workers.
//!
//! Kernel facts decide. Docker's events only add who requested the end; they come later and may change the verdict.

use crate::engine::types::verdict::Verdict;
use crate::engine::world::World;
use crate::engine::world::containers::Container;
use crate::engine::world::processes::{self, Process, SignalSeen};
use crate::engine::world::terminations::{self, Recorded, Termination};
use crate::model::event::{DockerAction, ExitStatus, Process as ProcessFact};
use crate::model::ids::Pid;
use crate::model::incident::{CauseKind, Confidence, How, MomentFact, Requester, Sender, Via};
use crate::model::time::{Nanos, Stamp};

use super::deciding_signal::{deciding_signal, forwarded, is_clean_termination, violent_death_before};
use super::{crash_place, resource_limit};

/// Docker's `kill` event follows its signal within 6 ms; the event carries another clock.
const KILL_EVENT: Nanos = Nanos::from_millis(1_000);
/// A handled signal explains an exit for this long; Docker's own stop has its grace period instead.
pub const HANDLED: Nanos = Nanos::from_secs(10);
/// Docker's `stop` follows its `die` within 120 ms; a second covers a loaded machine.
const STOP_FOLLOWS: Nanos = Nanos::from_millis(1_000);
/// The longest grace period of a stop that is still joined to the kill that ends it.
pub(super) const GRACE: Nanos = Nanos::from_secs(300);
/// Raised by the kernel, or by the process itself, when native code fails.
pub const CRASH: [&str; 7] = ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS"];
/// Signals that request a clean termination, with their numbers.
pub(super) const TERMINATION: [(&str, u8); 3] = [("SIGHUP", 1), ("SIGINT", 2), ("SIGTERM", 15)];

/// The verdict on the end of one process.
#[derive(Clone, Debug)]
pub struct ExitVerdict {
    /// `how`, `container` and `deaths` are left to the cause.
    pub verdict: Verdict,
    pub how: How,
    /// A clean termination, which is no death.
    pub clean: bool,
    /// Docker requested it.
    pub requested: bool,
    /// The exit was observed.
    pub dead: bool,
    /// It raised the signal that ended it.
    pub own_signal: bool,
    /// The worker whose violent death made the parent end this one.
    pub because: Option<Pid>,
}

impl ExitVerdict {
    /// An end that was observed, that was not clean and that Docker did not request.
    fn new(verdict: Verdict, how: How) -> Self {
        Self { verdict, how, clean: false, requested: false, dead: true, own_signal: false, because: None }
    }

    /// An incident even if it broke nothing.
    #[must_use]
    pub fn is_reportable_alone(&self) -> bool {
        self.dead && !self.clean && !self.requested && !self.verdict.before_monitor
    }

    /// The same cause with the same status.
    #[must_use]
    pub fn is_same_end(&self, other: &Self) -> bool {
        let (one, two) = (&self.verdict, &other.verdict);
        one.kind == two.kind && one.signal == two.signal && one.exit_code == two.exit_code
    }

    fn of_kind(self, kind: CauseKind, how: How) -> Self {
        Self { how, verdict: Verdict { kind, ..self.verdict }, ..self }
    }

    fn sent_by(self, sender: Option<Sender>) -> Self {
        Self { verdict: Verdict { sender, ..self.verdict }, ..self }
    }

    fn at_confidence(self, confidence: Confidence) -> Self {
        Self { verdict: Verdict { confidence, ..self.verdict }, ..self }
    }
}

/// The end of a container.
#[must_use]
pub fn of_termination(world: &World, termination: &Termination) -> ExitVerdict {
    let container = world.containers.get(&termination.container);
    if let Some(root) = termination.root.and_then(|pid| world.processes.get(pid))
        && let Some(exit) = &root.exit
    {
        return ended(world, container, root, exit.at, &exit.status);
    }
    let process = termination.pid.and_then(|pid| world.processes.get(pid));
    if let (Some(process), Some(exit)) = (process, &termination.exit) {
        let own = ended(world, container, process, exit.at, &exit.status);
        return match init_that_ended_first(world, process, exit) {
            // What ended the init ended its child; the moment and the process are the child's.
            Some((init, by)) => {
                let of_init = ended(world, container, init, by.at, &by.status);
                let Verdict { kind, sender, confidence, fact, crash, limit, .. } = of_init.verdict;
                let verdict = Verdict { kind, sender, confidence, fact, crash, limit, ..own.verdict };
                ExitVerdict { verdict, ..of_init }
            }
            None => own,
        };
    }
    if let (Some(process), Some((at, signal)), None) = (process, &termination.requested, &termination.die) {
        return under_way(world, container, process, *at, signal);
    }
    by_docker_alone(world, container, termination, process)
}

/// The end of a process that is not its container's first.
#[must_use]
pub fn of_worker(world: &World, pid: Pid) -> Option<ExitVerdict> {
    let process = world.processes.get(pid)?;
    let Some(exit) = process.exit.as_ref() else {
        return dumping(process).map(|dumping| dumping.of_kind(CauseKind::WorkerDied, How::ProcessCrashed));
    };
    let container = world.container_of(pid).and_then(|id| world.containers.get(&id));
    let ended = ended(world, container, process, exit.at, &exit.status);
    let how = ended.how;
    Some(ExitVerdict { requested: false, ..ended.of_kind(CauseKind::WorkerDied, how) })
}

/// The init whose end killed this child: the kernel kills what is left in a namespace that loses its first process
/// (`zap_pid_ns_processes`, kernel/pid_namespace.c).
fn init_that_ended_first<'a>(
    world: &'a World,
    child: &Process,
    exit: &terminations::ObservedExit,
) -> Option<(&'a Process, &'a processes::ProcessExit)> {
    let init = world.processes.get(child.parent).filter(|init| world.processes.is_init(init.pid))?;
    let by = init.exit.as_ref()?;
    let killed_with_it = exit.status.signal() == Some("SIGKILL") && by.at <= exit.at && child.oom.is_none();
    killed_with_it.then_some((init, by))
}

fn verdict_of(process: &Process, at: Stamp, fact: MomentFact) -> Verdict {
    Verdict {
        pid: Some(process.pid),
        comm: Some(process.comm.clone()),
        ..Verdict::new(CauseKind::ProcessExited, at, fact)
    }
}

fn ended(
    world: &World,
    container: Option<&Container>,
    process: &Process,
    at: Stamp,
    status: &ExitStatus,
) -> ExitVerdict {
    let end = by_signals(world, container, process, at, status);
    let crash = (end.how == How::ProcessCrashed).then(|| crash_place::of(process, status)).flatten();
    let limit = resource_limit::of(end.how, process, status, deciding_signal(container, process, at, status));
    ExitVerdict { verdict: Verdict { crash, limit, ..end.verdict }, ..end }
}

fn by_signals(
    world: &World,
    container: Option<&Container>,
    process: &Process,
    at: Stamp,
    status: &ExitStatus,
) -> ExitVerdict {
    let verdict = Verdict {
        signal: status.signal().map(str::to_owned),
        exit_code: status.code().map(i32::from),
        ..verdict_of(process, at, MomentFact::ProcessExit)
    };
    let base = ExitVerdict { clean: status.is_success(), ..ExitVerdict::new(verdict, How::ProcessExited) };
    if process.oom.is_some() && status.signal() == Some("SIGKILL") {
        return base.of_kind(CauseKind::OomKilled, How::OomKilled);
    }
    // The first fatal signal decides, whatever ends the dump of the core.
    if let Some((at, signal)) = crash_place::before_dump(process, status) {
        let ended_by = Some(signal.to_owned());
        let verdict = Verdict { at, fact: MomentFact::Signal, ended_by, ..base.verdict };
        return ExitVerdict { verdict, ..base }.of_kind(CauseKind::ProcessCrashed, How::ProcessCrashed);
    }
    let Some(deciding) = deciding_signal(container, process, at, status) else {
        return without_signal(container, at, status, base);
    };
    let from_parent = deciding.sender.as_ref().is_some_and(|sender| sender.pid == process.parent);
    // A signal that an init forwards comes from the sender to the init.
    let (receiver, deciding) = forwarded(world, process, deciding).unwrap_or((process, deciding));
    let own = deciding.sender.as_ref().is_none_or(|sender| sender.pid == process.pid);
    let because = from_parent.then(|| violent_death_before(world, process, deciding.at)).flatten();
    let ended_by = status.code().map(|_| deciding.signal.clone());
    let own_signal = own && status.signal().is_some();
    let base = ExitVerdict { own_signal, because, verdict: Verdict { ended_by, ..base.verdict }, ..base };
    if status.signal().is_some_and(|name| CRASH.contains(&name)) && own {
        return base.of_kind(CauseKind::ProcessCrashed, How::ProcessCrashed);
    }
    let docker = sent_by_docker(container, deciding);
    let clean = base.clean
        || because.is_some()
        || ((docker || own || from_parent) && is_clean_termination(container, &deciding.signal, status));
    if docker {
        let request = docker_request(container, receiver, at, deciding, world.now);
        let sender = requested_sender(world, deciding, &request);
        let requested = base.of_kind(request.kind, How::ProcessKilled).sent_by(sender);
        return ExitVerdict { clean, requested: true, ..requested.at_confidence(request.confidence) };
    }
    let sender = if own { None } else { sender_of(world, deciding, None) };
    ExitVerdict { clean, ..base.of_kind(CauseKind::ProcessKilled, How::ProcessKilled).sent_by(sender) }
}

/// No signal that explains the end was observed.
fn without_signal(container: Option<&Container>, at: Stamp, status: &ExitStatus, base: ExitVerdict) -> ExitVerdict {
    if let Some((kind, via)) = reported_by_docker(container, at, status) {
        // The signal was lost, or sent before the monitor ran; Docker reports the request.
        let sender = Sender { pid: None, comm: None, container: None, via: Some(via), requested_by: None };
        let requested = base.of_kind(kind, How::ProcessKilled).sent_by(Some(sender));
        return ExitVerdict { requested: true, ..requested.at_confidence(Confidence::Likely) };
    }
    match status.signal() {
        None => base,
        Some(name) if CRASH.contains(&name) => base.of_kind(CauseKind::ProcessCrashed, How::ProcessCrashed),
        // The signal was lost, or sent before the monitor ran.
        Some(_) => base.of_kind(CauseKind::ProcessKilled, How::ProcessKilled).at_confidence(Confidence::Likely),
    }
}

/// A signal is under way and nothing has ended yet.
fn under_way(world: &World, container: Option<&Container>, process: &Process, at: Stamp, signal: &str) -> ExitVerdict {
    if let Some(dumping) = dumping(process) {
        return dumping;
    }
    let seen = process.signals.iter().find(|seen| seen.at == at && seen.signal == signal);
    let docker = seen.is_some_and(|seen| sent_by_docker(container, seen));
    let request = seen.filter(|_| docker).map(|seen| docker_request(container, process, at, seen, world.now));
    let verdict = Verdict {
        kind: request.as_ref().map_or(CauseKind::ProcessKilled, |request| request.kind),
        signal: Some(signal.to_owned()),
        sender: seen.and_then(|seen| match &request {
            Some(request) => requested_sender(world, seen, request),
            None => sender_of(world, seen, None),
        }),
        confidence: Confidence::Likely,
        ..verdict_of(process, at, MomentFact::Signal)
    };
    ExitVerdict { requested: docker, dead: false, ..ExitVerdict::new(verdict, How::ProcessKilled) }
}

/// A fatal signal was delivered, and the exit is still to come: the kernel writes the core.
fn dumping(process: &Process) -> Option<ExitVerdict> {
    let (at, site) = process.crash.as_ref()?;
    let verdict = Verdict {
        kind: CauseKind::ProcessCrashed,
        ended_by: Some(site.signal.clone()),
        ..verdict_of(process, *at, MomentFact::Signal)
    };
    Some(ExitVerdict { dead: false, own_signal: true, ..ExitVerdict::new(verdict, How::ProcessCrashed) })
}

/// The exit was not observed; Docker's `die` is the only fact, or its record of an end before the monitor.
fn by_docker_alone(
    world: &World,
    container: Option<&Container>,
    termination: &Termination,
    process: Option<&Process>,
) -> ExitVerdict {
    let recorded = termination.recorded;
    let at = termination.down().unwrap_or(termination.since());
    let code = termination.die.as_ref().map_or(recorded.and_then(|it| it.exit_code), |die| die.exit_code);
    let code = code.and_then(|code| i32::try_from(code).ok());
    let since = at.minus(GRACE);
    let reported = |wanted: fn(&DockerAction) -> bool| {
        container.is_some_and(|container| container.events_of_run(since, at).any(|event| wanted(&event.action)))
    };
    let killed = reported(|action| matches!(action, DockerAction::Kill { .. }));
    let stopped = reported(|action| matches!(action, DockerAction::Stop));
    let out_of_memory = recorded.is_some_and(|it| it.end.oom_killed);
    // Without the events of the end, its kind is what the record suggests.
    let state = recorded.filter(|_| termination.die.is_none());
    let (kind, how) = match (stopped, killed, code) {
        (false, false, _) if out_of_memory => (CauseKind::OomKilled, How::OomKilled),
        (false, false, _) if state.is_some_and(|it| is_stop(container, &it)) => {
            (CauseKind::ContainerStopped, How::ProcessKilled)
        }
        (false, false, _) if state.is_some() => (CauseKind::ProcessExited, How::ProcessExited),
        (true, _, _) => (CauseKind::ContainerStopped, How::ProcessKilled),
        (false, true, _) => (CauseKind::ContainerKilled, How::ProcessKilled),
        (false, false, Some(134 | 135 | 136 | 139)) => (CauseKind::ProcessCrashed, How::ProcessCrashed),
        (false, false, Some(137)) => (CauseKind::ProcessKilled, How::ProcessKilled),
        (false, false, _) => (CauseKind::ProcessExited, How::ProcessExited),
    };
    // Docker codes a signal as 128 + its number: if the signal itself was observed, it ended the process.
    let sent = process.and_then(|process| {
        let mut delivered = process.signals.iter().rev().filter(|seen| seen.delivered && seen.at <= at);
        delivered.find(|seen| is_code_of(&seen.signal, code))
    });
    let via = match (stopped, killed) {
        (true, _) => Some(Via::DockerStop),
        (false, true) => Some(Via::DockerKill),
        (false, false) => None,
    };
    let sender = sent.and_then(|seen| sender_of(world, seen, via));
    let sender =
        sender.or(via.map(|via| Sender { pid: None, comm: None, container: None, via: Some(via), requested_by: None }));
    let verdict = Verdict {
        pid: termination.pid.or(container.filter(|_| recorded.is_none()).and_then(|container| container.info.pid)),
        comm: process.map(|process| process.comm.clone()),
        signal: sent.map(|seen| seen.signal.clone()),
        exit_code: code.filter(|_| sent.is_none()),
        sender,
        confidence: if state.is_some() { Confidence::Possible } else { Confidence::Likely },
        before_monitor: recorded.is_some(),
        ..Verdict::new(kind, at, MomentFact::DockerDie)
    };
    ExitVerdict { clean: code == Some(0), requested: killed || stopped, ..ExitVerdict::new(verdict, how) }
}

/// Whether only a request explains that the container did not come back: its restart policy starts it again after an end
/// of its own.
fn is_stop(container: Option<&Container>, recorded: &Recorded) -> bool {
    let policy = container.and_then(|container| container.info.restart_policy.as_deref());
    let restarts = match policy {
        Some("always" | "unless-stopped") => true,
        Some("on-failure") => recorded.exit_code.is_some_and(|code| code != 0),
        Some(_) | None => false,
    };
    restarts && !recorded.end.restarting
}

/// Whether Docker's exit code is that of an end by this signal.
fn is_code_of(signal: &str, code: Option<i32>) -> bool {
    let number = match signal {
        "SIGKILL" => Some(9),
        other => TERMINATION.iter().find(|(name, _)| *name == other).map(|(_, number)| i32::from(*number)),
    };
    number.is_some_and(|number| code == Some(128 + number))
}

/// What Docker's events alone report of an end whose signal was not observed: a stop that is reported after it, or a
/// kill with the same signal shortly before.
fn reported_by_docker(container: Option<&Container>, at: Stamp, status: &ExitStatus) -> Option<(CauseKind, Via)> {
    let near = |event: Stamp| event.since(at).0.abs() <= KILL_EVENT.0;
    let run = || container.into_iter().flat_map(|container| container.events_of_run(at.minus(KILL_EVENT), at));
    let events = || run().filter(|event| near(event.at));
    if events().any(|event| event.action == DockerAction::Stop && event.at >= at) {
        return Some((CauseKind::ContainerStopped, Via::DockerStop));
    }
    let killed = |action: &DockerAction| matches!(action, DockerAction::Kill { signal } if status.signal() == Some(signal.as_str()));
    events().any(|event| killed(&event.action)).then_some((CauseKind::ContainerKilled, Via::DockerKill))
}

/// Whether Docker sent this signal: its runtime does, from the host; other runtimes are known by Docker's own event.
#[must_use]
pub fn sent_by_docker(container: Option<&Container>, seen: &SignalSeen) -> bool {
    let Some(sender) = &seen.sender else { return false };
    if sender.ns_level > 0 {
        return false;
    }
    let runtime = sender.comm.starts_with("runc") || sender.comm.starts_with("crun");
    runtime
        || container.is_some_and(|container| {
            container.docker_events.iter().any(|event| {
                let near = event.at.since(seen.at).0.abs() <= KILL_EVENT.0;
                near && matches!(&event.action, DockerAction::Kill { signal } if *signal == seen.signal)
                    && sender.comm.starts_with("containerd")
            })
        })
}

struct DockerRequest<'a> {
    kind: CauseKind,
    via: Via,
    confidence: Confidence,
    /// The first signal that Docker sent for it.
    first: &'a SignalSeen,
}

/// `docker stop` or `docker kill`. Both send signals; only `stop` is reported afterwards, and only it waits between two
/// signals.
fn docker_request<'a>(
    container: Option<&Container>,
    process: &'a Process,
    at: Stamp,
    deciding: &'a SignalSeen,
    now: Stamp,
) -> DockerRequest<'a> {
    let stop_signal = container.map_or("SIGTERM", |container| container.info.stop_signal.as_str());
    let begun = process.signals.iter().find(|seen| {
        seen.signal == stop_signal
            && seen.at <= deciding.at
            && at.since(seen.at) <= GRACE
            && sent_by_docker(container, seen)
    });
    let first = begun.unwrap_or(deciding);
    let run = || container.into_iter().flat_map(|c| c.events_of_run(first.at.minus(KILL_EVENT), first.at));
    let certain = |kind, via| DockerRequest { kind, via, confidence: Confidence::Certain, first };
    let stopped = certain(CauseKind::ContainerStopped, Via::DockerStop);
    if run().any(|event| event.action == DockerAction::Stop) {
        return stopped;
    }
    let killed = certain(CauseKind::ContainerKilled, Via::DockerKill);
    if begun.is_none() {
        return killed;
    }
    // The `stop` event follows the exit within 150 ms: a second after Docker's `die` without it, `docker kill` with the
    // stop signal is what remains.
    let die = run().find(|event| matches!(event.action, DockerAction::Die { .. }));
    let is_overdue = die.is_some_and(|die| now.since(die.seen) >= STOP_FOLLOWS);
    DockerRequest { confidence: Confidence::Likely, ..if is_overdue { killed } else { stopped } }
}

/// The sender of a signal, and the request to Docker behind it.
#[must_use]
pub fn sender_of(world: &World, seen: &SignalSeen, via: Option<Via>) -> Option<Sender> {
    let named = seen.sender.as_ref()?;
    let container = container_name(world, named);
    let requested_by = via.and(seen.requested_by.as_ref()).map(|process| requester(world, process));
    Some(Sender { pid: Some(named.pid), comm: Some(named.comm.clone()), container, via, requested_by })
}

/// The same for a request that began with another signal: a stop whose grace period expired.
fn requested_sender(world: &World, seen: &SignalSeen, request: &DockerRequest) -> Option<Sender> {
    let requested_by = request.first.requested_by.as_ref().map(|process| requester(world, process));
    sender_of(world, seen, Some(request.via)).map(|sender| Sender { requested_by, ..sender })
}

fn requester(world: &World, process: &ProcessFact) -> Requester {
    Requester { pid: process.pid, comm: process.comm.clone(), container: container_name(world, process) }
}

/// The container that a process is in; `None` on the host.
#[must_use]
pub fn container_name(world: &World, named: &ProcessFact) -> Option<String> {
    let container = world.containers.of_cgroup(named.cgroup).and_then(|id| world.containers.get(&id));
    // Docker's runtime enters the container's cgroup before it signals, but neither its PID nor its network namespace; a
    // process of a container with the host's PID namespace is in the container's network namespace.
    let own = |container: &&Container| {
        let inside = !container.info.host_network && container.info.netns == Some(named.netns);
        named.ns_level > 0 || inside
    };
    container.filter(own).map(|container| container.info.name.clone())
}
