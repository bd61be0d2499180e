//! `oom_killed`, `process_crashed`, `process_killed`, `process_exited`, `container_stopped`, `container_killed`: the end of
//! a container's first process (an init's only child counts as the first).
//!
//! Opens when: the process ended, Docker did not request it, and it was no clean termination; also with the first failure
//! that a requested or clean termination causes. Joins when: a worker's death took the container with it, or the
//! container died again with the same status before it listened again (crash loop).
//! Closes when: the container, or its successor, listens on every port that it listened on (see
//! [`crate::engine::incidents::recovery`]).
//! Stays silent when: a requested or clean termination, or an end before the monitor started, broke nothing.
//! Moment: the exit of the last thread; Docker's `die` where the exit was not observed, or its record of an end before the
//! monitor; the signal until then.
//! Distinguished from: `worker_died` by the process; from each other by [`super::exit`].

use crate::engine::context::Context;
use crate::engine::failures::table::{Failure, Failures};
use crate::engine::incidents::case::{Case, Cases};
use crate::engine::types::cause::{Attribution, CaseKey};
use crate::engine::types::evidence::Evidence;
use crate::engine::types::ids::{CaseId, FailureId};
use crate::engine::types::verdict::{Judgement, Verdict};
use crate::engine::world::World;
use crate::engine::world::terminations::{self, TerminationId};
use crate::model::ids::{ContainerId, Pid};
use crate::model::incident::{Alternative, CauseKind, Condition, ConditionKind, Confidence, Sender, Via};
use crate::model::time::Stamp;

use super::exit::{self, ExitVerdict};
use super::{
    Cause, Row, Severity, Situation, Step, against, awaited, base_verdict, chain, crash_place, lasting, pid_text,
    process_text, resource_limit, unknown,
};

/// The server's container was going down, or was down.
pub const OF_SERVER: Step = Step { name: "termination", attribute: of_server };
/// A live task closed while its container was going down.
pub const UNDER_WAY: Step = Step { name: "termination under way", attribute: of_server };
/// The task that closed was dying with its container.
pub const OF_CLOSER: Step = Step { name: "termination of its container", attribute: of_closer };
/// The client's own container was going down.
pub const OF_CLIENT: Step = Step { name: "termination of the client's container", attribute: of_client };

pub(super) const EXITED: CauseKind = CauseKind::ProcessExited;
pub(super) const STOPPED: CauseKind = CauseKind::ContainerStopped;

pub struct TerminationCause;

fn to(ctx: Context, failure: &Failure, id: TerminationId, reason: String) -> Attribution {
    let evidence = Evidence::Termination { after: earlier_failure(ctx.failures, failure), inferred: false };
    Attribution::to(CaseKey::Termination(id), evidence, reason)
}

/// What had failed the server itself between the request and its death.
pub(super) fn earlier_failure(failures: &Failures, failure: &Failure) -> Option<FailureId> {
    let server = failure.entry.server.pid?;
    chain::failures_of(failures, failure, server, failure.at()).map(|earlier| earlier.id).next()
}

fn of_server(ctx: Context, situation: &Situation) -> Option<Attribution> {
    let id = situation.failure.route.container.as_ref()?;
    let current = || ctx.world.terminations.current(id, situation.at);
    // A successor that does not serve yet: what it cannot do is due to the end of the container before it.
    let of_predecessor = || {
        let is_awaited =
            matches!(situation.row, Row::Refused | Row::Unanswered | Row::Lookup | Row::ProxyWithoutBackend);
        ctx.world.predecessor_down(id, situation.at).filter(|_| is_awaited)
    };
    // Docker takes a namespace's interfaces away when their owner ends, from every container that uses them.
    let of_owner = || {
        let needs_network =
            matches!(situation.row, Row::Silence | Row::Unanswered | Row::ServerNotSeen | Row::NotClosed);
        let owner = ctx.world.containers.namespace_owner(id).filter(|_| needs_network)?;
        let mut ends = ctx.world.terminations.of_container(&owner.info.id).rev();
        ends.find(|end| end.down().is_some_and(|down| down >= situation.failure.begun && down <= situation.at))
    };
    let own = current();
    let inferred = own.is_none();
    let termination = own.or_else(of_predecessor).or_else(of_owner)?;
    let container = ctx.world.containers.get(&termination.container);
    let container = container.map_or(id.short(), |container| container.info.name.as_str());
    let attribution = to(ctx, situation.failure, termination.id, format!("{container} was going down, or was down"));
    Some(if inferred { attribution.inferred() } else { attribution })
}

fn of_closer(ctx: Context, situation: &Situation) -> Option<Attribution> {
    let close = situation.close?;
    let pid = close.task.pid;
    let container = ctx.world.container_of(pid).or_else(|| situation.failure.route.container.clone())?;
    // Not by the instant of the close: a large process closes long after its exit, when its successor may already run.
    let begun = ctx.world.processes.get(pid).and_then(|process| process.started);
    let termination = ctx.world.terminations.of_container(&container).rev().find(|termination| {
        let own = termination.pid == Some(pid) || termination.root == Some(pid);
        // A process of the next run, of which Docker has not reported the start yet, has a termination of its own.
        let next_run = begun.zip(termination.down()).is_some_and(|(begun, down)| begun > down);
        let lasts = termination.since() <= close.at && termination.recovered.is_none_or(|over| over > close.at);
        own || (lasts && !next_run)
    })?;
    Some(to(ctx, situation.failure, termination.id, format!("process {pid} closed the connection while dying")))
}

fn of_client(ctx: Context, situation: &Situation) -> Option<Attribution> {
    let failure = situation.failure;
    let pid = failure.client_pid?;
    let termination = ctx.world.terminations.current(failure.client_container.as_ref()?, situation.at)?;
    let reason = format!("the client's own process {pid} died with the response outstanding");
    Some(to(ctx, failure, termination.id, reason))
}

/// The death of a container's first process, by the process.
pub(super) fn of_first_process(ctx: Context, failure: &Failure, pid: Pid, reason: String) -> Option<Attribution> {
    let container = ctx.world.container_of(pid)?;
    let mut terminations = ctx.world.terminations.of_container(&container).rev();
    let termination = terminations.find(|it| it.pid == Some(pid) || it.root == Some(pid))?;
    Some(to(ctx, failure, termination.id, reason))
}

/// What a termination requests of the incidents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It belongs to this case, under this key.
    Joins(CaseId, CaseKey),
    Opens(CaseKey),
    /// No incident unless it breaks something.
    Silent,
}

/// A termination began or continued.
#[must_use]
pub fn opening(world: &World, cases: &Cases, id: TerminationId) -> Opening {
    let Some(termination) = world.terminations.get(id) else { return Opening::Silent };
    let key = CaseKey::Termination(id);
    if let Some(case) = case_of(world, cases, termination) {
        return Opening::Joins(case, key);
    }
    // Its incident is closed: only what it breaks later is another one.
    let is_reported = cases.was_closed(&key);
    let alone = exit::of_termination(world, termination).is_reportable_alone();
    if !is_reported && alone { Opening::Opens(key) } else { Opening::Silent }
}

/// The open case that a termination belongs to already.
#[must_use]
pub fn case_of(world: &World, cases: &Cases, termination: &terminations::Termination) -> Option<CaseId> {
    if let Some(case) = cases.of_key(&CaseKey::Termination(termination.id)) {
        return Some(case);
    }
    // The worker that took the container with it; the first process, whose container was not known when it died.
    let mut roots = [termination.root, termination.pid].into_iter().flatten();
    if let Some(case) = roots.find_map(|root| cases.open().find(|case| case.workers.contains(&root))) {
        return Some(case.id);
    }
    termination.down()?;
    let own = exit::of_termination(world, termination);
    // The whole crash loop: deaths for other reasons may lie between.
    let before = |it: &terminations::Termination| it.previous.and_then(|id| world.terminations.get(id));
    let mut earlier = std::iter::successors(before(termination), |it| before(it));
    let same = earlier.find(|earlier| exit::of_termination(world, earlier).is_same_end(&own))?;
    cases.of_key(&CaseKey::Termination(same.id))
}

fn id_of(key: &CaseKey) -> Option<TerminationId> {
    if let CaseKey::Termination(id) = key { Some(*id) } else { None }
}

fn is_spontaneous(verdict: &Verdict) -> bool {
    matches!(verdict.kind, CauseKind::ProcessCrashed | CauseKind::ProcessExited)
}

impl Cause for TerminationCause {
    fn kinds(&self) -> &'static [CauseKind] {
        &[
            CauseKind::OomKilled,
            CauseKind::ProcessCrashed,
            CauseKind::ProcessKilled,
            CauseKind::ProcessExited,
            CauseKind::ContainerStopped,
            CauseKind::ContainerKilled,
        ]
    }

    fn subject<'a>(&self, world: &'a World, key: &'a CaseKey) -> Option<&'a ContainerId> {
        world.terminations.get(id_of(key)?).map(|termination| &termination.container)
    }

    fn verdict(&self, ctx: Context, case: &Case) -> Verdict {
        let first = case.terminations.first().copied().or(id_of(&case.key));
        let first = first.and_then(|id| ctx.world.terminations.get(id));
        let Some(termination) = first else { return base_verdict(ctx, case, unknown::KIND, None) };
        // One that is no longer kept was a death of a crash loop.
        let died = |id: &&TerminationId| {
            ctx.world.terminations.get(**id).is_none_or(|termination| termination.down().is_some())
        };
        let deaths = u32::try_from(case.terminations.iter().filter(died).count()).unwrap_or(u32::MAX);
        of_exit(exit::of_termination(ctx.world, termination), Some(termination.container.clone()), deaths)
    }

    fn summary(&self, ctx: Context, case: &Case, verdict: &Verdict) -> String {
        let process = process_text(verdict);
        if verdict.before_monitor {
            return before_text(ctx, verdict);
        }
        match verdict.kind {
            CauseKind::OomKilled => {
                format!("{process} was killed by the kernel's OOM killer{}", memory_limit(ctx, verdict))
            }
            CauseKind::ProcessCrashed => {
                let place = crash_place::text(verdict);
                format!("{process} crashed with {}{place}{}", crash_text(verdict), after_text(ctx, case, verdict))
            }
            CauseKind::ProcessKilled => {
                format!("{process} {}{}", killed_text(verdict), by_text(verdict))
            }
            CauseKind::ContainerStopped if verdict.deaths == 0 => {
                format!("docker stop in progress{}; {process} is still running", requested_text(verdict))
            }
            CauseKind::ContainerStopped => {
                let requested = requested_text(verdict);
                format!("stopped by docker stop{requested}; {process} ended with {}", status_text(verdict))
            }
            CauseKind::ContainerKilled => {
                let requested = requested_text(verdict);
                format!("killed by docker kill{requested}; {process} ended with {}", status_text(verdict))
            }
            CauseKind::ProcessExited => {
                format!(
                    "{process} exited spontaneously with {}{}",
                    status_text(verdict),
                    after_text(ctx, case, verdict)
                )
            }
            _ => unknown::SUMMARY.to_owned(),
        }
    }

    fn alternatives(&self, _ctx: Context, _case: &Case, verdict: &Verdict) -> Vec<Alternative> {
        let pid = pid_text(verdict);
        if verdict.before_monitor {
            return before_alternatives(verdict);
        }
        let by_sigkill = verdict.signal.as_deref() == Some("SIGKILL");
        match verdict.kind {
            CauseKind::OomKilled => vec![against(
                CauseKind::ProcessKilled,
                format!("the kernel marked {pid} as an OOM victim before SIGKILL"),
            )],
            CauseKind::ProcessCrashed => vec![raised_itself(verdict)],
            CauseKind::ProcessKilled if by_sigkill => vec![not_oom(verdict), not_docker()],
            CauseKind::ProcessExited => {
                vec![against(CauseKind::ProcessKilled, format!("no terminating signal reached {pid}"))]
            }
            CauseKind::ContainerKilled if by_sigkill => {
                vec![not_oom(verdict), against(CauseKind::ContainerStopped, "no stop signal of Docker came before")]
            }
            CauseKind::ContainerStopped if verdict.confidence != Confidence::Certain => vec![against(
                CauseKind::ContainerKilled,
                "Docker's stop event has not arrived yet; docker kill with the stop signal looks the same until then",
            )],
            CauseKind::ContainerStopped => vec![against(
                CauseKind::ProcessKilled,
                "the signals came from Docker's runtime, and Docker reported the stop",
            )],
            _ => Vec::new(),
        }
    }

    fn condition(&self, ctx: Context, case: &Case, verdict: &Verdict) -> Option<Condition> {
        let last = case.terminations.last().and_then(|id| ctx.world.terminations.get(*id));
        let until = last.and_then(|termination| termination.recovered);
        lasting(ConditionKind::ContainerDown, verdict.at, until)
    }

    fn is_awaited(&self, ctx: Context, case: &Case, judgement: &Judgement) -> bool {
        let last = case.terminations.last().and_then(|id| ctx.world.terminations.get(*id));
        // It is still going down.
        if last.is_some_and(|termination| termination.down().is_none()) {
            return true;
        }
        let is_down = last.is_some_and(|termination| termination.recovered.is_none());
        is_down && judgement.verdict.container.as_ref().is_some_and(|subject| awaited::waits_on(ctx, subject))
    }

    fn severity(&self, kind: CauseKind) -> Severity {
        if kind == CauseKind::ContainerStopped { Severity::Warning } else { Severity::Error }
    }

    fn is_event(&self) -> bool {
        true
    }

    /// The signal may have come long before the death.
    fn evidence_since(&self, ctx: Context, key: &CaseKey, opened: Stamp, _begun: Stamp) -> Stamp {
        let termination = id_of(key).and_then(|id| ctx.world.terminations.get(id));
        termination.map_or(opened, |termination| termination.since()).min(opened).minus(exit::HANDLED)
    }
}

/// The verdict on a death, with its subject and count.
pub(super) fn of_exit(exit: ExitVerdict, container: Option<ContainerId>, deaths: u32) -> Verdict {
    let reportable_alone = exit.is_reportable_alone();
    Verdict { container, deaths, reportable_alone, ..exit.verdict }
}

/// The incident behind a death, or behind a broken response: the case of what had failed the server itself.
#[must_use]
pub fn behind<'a>(ctx: Context<'a>, case: &'a Case, verdict: &Verdict) -> Option<&'a Case> {
    let behind = ctx.cases.get(ctx.earlier_failures_of(case).next()?.case?)?;
    let is_death = matches!(case.key, CaseKey::Termination(_) | CaseKey::Workers { .. });
    let spontaneous = is_spontaneous(verdict) || super::worker::is_spontaneous(verdict);
    // What is behind a death was there before it; of two that wait for each other neither is behind the other.
    let explains = !is_death || (behind.id < case.id && spontaneous);
    (behind.id != case.id && explains).then_some(behind)
}

/// `, after its own lookup of NAME had failed`, for a server that then died spontaneously.
pub(super) fn after_text(ctx: Context, case: &Case, verdict: &Verdict) -> String {
    // The closed incident behind it stays named.
    let is_named = case.caused_by.is_some() || behind(ctx, case, verdict).is_some();
    let earlier = ctx.earlier_failures_of(case).next().filter(|_| is_named);
    match earlier.map(|earlier| (&earlier.name, &earlier.entry.server.container)) {
        None => String::new(),
        Some((Some(name), _)) => format!(" after its own lookup of {name} failed"),
        Some((None, Some(server))) => format!(" after its own connection to {server} failed"),
        Some((None, None)) => " after a connection of its own failed".to_owned(),
    }
}

/// An end before the monitor started: what Docker's events, or only its record, show of it.
fn before_text(ctx: Context, verdict: &Verdict) -> String {
    let status = status_text(verdict);
    let asked = verdict.sender.is_some();
    match verdict.kind {
        CauseKind::OomKilled => {
            let limit = memory_limit(ctx, verdict);
            format!("had run out of memory{limit} before the monitor started, by Docker's record: {status}")
        }
        CauseKind::ContainerStopped if asked => {
            format!("had been stopped by docker stop before the monitor started, with {status}")
        }
        CauseKind::ContainerStopped => format!(
            "had ended with {status} before the monitor started; its restart policy starts it again unless it is stopped"
        ),
        CauseKind::ContainerKilled => {
            format!("had been killed by docker kill before the monitor started, with {status}")
        }
        _ => format!("had ended with {status} before the monitor started"),
    }
}

fn before_alternatives(verdict: &Verdict) -> Vec<Alternative> {
    match verdict.kind {
        CauseKind::OomKilled => {
            vec![against(CauseKind::ProcessKilled, "Docker recorded that the container ran out of memory")]
        }
        CauseKind::ContainerStopped if verdict.sender.is_some() => {
            vec![against(CauseKind::ProcessKilled, "Docker reported the stop")]
        }
        CauseKind::ContainerStopped => {
            vec![against(CauseKind::ProcessExited, "its restart policy starts it again after an end of its own")]
        }
        CauseKind::ContainerKilled => {
            vec![against(CauseKind::ContainerStopped, "Docker reported a kill, and no stop")]
        }
        _ => Vec::new(),
    }
}

pub(super) fn status_text(verdict: &Verdict) -> String {
    match (&verdict.signal, verdict.exit_code) {
        (Some(signal), _) => signal.clone(),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// `SIGSEGV`, or the signal and what became of its core dump.
pub(super) fn crash_text(verdict: &Verdict) -> String {
    match (&verdict.ended_by, &verdict.signal) {
        (Some(signal), None) => format!("{signal} and is writing its core"),
        (Some(signal), Some(end)) if signal != end => format!("{signal} (its core dump was ended by {end})"),
        (Some(signal), Some(_)) => signal.clone(),
        (None, _) => status_text(verdict),
    }
}

/// `was terminated by SIGKILL`; `ended with exit code 0 after SIGTERM` if it handled the signal.
pub(super) fn killed_text(verdict: &Verdict) -> String {
    match &verdict.ended_by {
        Some(signal) => format!("ended with {} after {signal}", status_text(verdict)),
        None => format!("was terminated by {}", status_text(verdict)),
    }
}

pub(super) fn by_text(verdict: &Verdict) -> String {
    let Some(sender) = &verdict.sender else { return resource_limit::text(verdict).to_owned() };
    let Sender { pid, comm, container, via, .. } = sender;
    let comm = comm.as_deref().unwrap_or("an unknown process");
    let pid = pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
    let place = place_text(container.as_deref());
    let request = match via {
        Some(Via::DockerKill) => ", by docker kill",
        Some(Via::DockerStop) => ", by docker stop",
        None => "",
    };
    format!(", sent by {comm}{pid}{place}{request}{}", requested_text(verdict))
}

/// `, requested by curl (pid 42) in healer`.
fn requested_text(verdict: &Verdict) -> String {
    let Some(by) = verdict.sender.as_ref().and_then(|sender| sender.requested_by.as_ref()) else {
        return String::new();
    };
    format!(", requested by {} (pid {}){}", by.comm, by.pid, place_text(by.container.as_deref()))
}

fn place_text(container: Option<&str>) -> String {
    container.map_or(" on the host".to_owned(), |name| format!(" in {name}"))
}

pub(super) fn raised_itself(verdict: &Verdict) -> Alternative {
    let name = verdict.ended_by.as_deref().or(verdict.signal.as_deref()).unwrap_or("the signal");
    let sentence = format!("{name} was raised by {} itself or by the kernel for its fault", pid_text(verdict));
    against(CauseKind::ProcessKilled, sentence)
}

pub(super) fn not_oom(verdict: &Verdict) -> Alternative {
    let sentence = format!("the kernel did not mark {} as an OOM victim", pid_text(verdict));
    against(CauseKind::OomKilled, sentence)
}

pub(super) fn not_docker() -> Alternative {
    against(CauseKind::ContainerKilled, "the signal did not come from Docker's runtime")
}

fn memory_limit(ctx: Context, verdict: &Verdict) -> String {
    let container = verdict.container.as_ref().and_then(|id| ctx.world.containers.get(id));
    match container.and_then(|container| container.info.memory_limit) {
        Some(bytes) => format!(" (memory limit {} MiB)", bytes >> 20),
        None => String::new(),
    }
}
