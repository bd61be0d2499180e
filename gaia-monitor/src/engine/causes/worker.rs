//! `worker_died`: the death of a relevant process that is not its container's first.
//!
//! Opens when: a process that serves, or an OOM victim, ended, it was no clean termination, and its container was not
//! going down. Joins when: workers of the same container died in the same way less than 10 s ([`GAP`]) before.
//! Closes when: [`GAP`] has passed since the last death and, if a port closed with the worker, the port is open again or
//! the container went down. Stays silent when: the process entered through exec or a health check, or ended cleanly.
//! Moment: the exit of the last thread.
//! Distinguished from: terminations by the process; if its container follows within a second, the case becomes that
//! container's ([`root_of`]).

use crate::engine::context::Context;
use crate::engine::failures::table::Failure;
use crate::engine::incidents::case::Case;
use crate::engine::types::cause::{Attribution, CaseKey, WorkerStatus};
use crate::engine::types::evidence::Evidence;
use crate::engine::types::verdict::Verdict;
use crate::engine::world::World;
use crate::engine::world::container::OrphanedPort;
use crate::engine::world::processes::Process;
use crate::engine::world::terminations::TerminationId;
use crate::model::ids::{ContainerId, Pid};
use crate::model::incident::{Alternative, CauseKind, Condition, ConditionKind, Confidence, How};
use crate::model::time::{Nanos, Stamp};

use super::exit::{self, ExitVerdict};
use super::termination::{
    after_text, by_text, crash_text, earlier_failure, killed_text, not_docker, not_oom, of_exit, status_text,
};
use super::{
    Cause, Situation, Step, against, application, base_verdict, crash_place, lasting, pid_text, process_text,
    terminated_after, unknown,
};

/// The longest gap between deaths of one case.
const GAP: Nanos = Nanos::from_secs(10);
/// How long the exit of a process that closed while dying is awaited: up to Linux 6.15 the exit is reported after the
/// sockets have closed, 214 ms for a process of 3 GB.
const EXIT_FOLLOWS: Nanos = Nanos::from_millis(250);
/// A worker's death that takes its container with it comes at most this long before.
const TAKES_CONTAINER: Nanos = Nanos::from_secs(1);

/// The port closed with a dying process.
pub const CLOSED_PORT: Step = Step { name: "port closed by a dying process", attribute: closed_port };
/// The connection was closed by a dying process.
pub const CLOSED_CONNECTION: Step = Step { name: "worker death", attribute: closed_connection };

pub(super) const KIND: CauseKind = CauseKind::WorkerDied;

pub struct WorkerCause;

fn closed_port(ctx: Context, situation: &Situation) -> Option<Attribution> {
    let failure = situation.failure;
    let id = failure.route.container.as_ref()?;
    let port = failure.route.address.port();
    let pid = ctx.world.containers.get(id)?.orphaned_by(port, situation.at)?;
    let reason = format!("the port closed when process {pid} died");
    let unseen =
        || unknown::attribution(Some(id.clone()), "the port closed with a dying process whose exit was not seen");
    Some(of_dying(ctx, failure, pid, reason).unwrap_or_else(unseen))
}

fn closed_connection(ctx: Context, situation: &Situation) -> Option<Attribution> {
    let pid = situation.close?.task.pid;
    let reason = format!("process {pid} closed the connection while dying; its container lives");
    of_dying(ctx, situation.failure, pid, reason)
}

/// `None`: its exit should have been observed by now.
pub(super) fn of_dying(ctx: Context, failure: &Failure, pid: Pid, reason: String) -> Option<Attribution> {
    // What the parent ended because of another worker's death belongs to that death.
    let own = exit::of_worker(ctx.world, pid);
    let first = own.as_ref().and_then(|verdict| verdict.because);
    let (pid, verdict) = first.map_or((pid, own), |first| (first, exit::of_worker(ctx.world, first)));
    if let Some(verdict) = verdict {
        let evidence = Evidence::Worker { pid, after: earlier_failure(ctx.failures, failure), inferred: false };
        return Some(Attribution::to(key(ctx.world, pid, &verdict), evidence, reason));
    }
    let until = failure.seen.plus(EXIT_FOLLOWS);
    (ctx.world.now < until).then(|| Attribution::pending(pid, until))
}

/// The key of a death that is an incident even if it broke nothing.
#[must_use]
pub fn opening(world: &World, pid: Pid) -> Option<CaseKey> {
    let process = world.processes.get(pid)?;
    if world.processes.is_main(pid) || !is_relevant(process) {
        return None;
    }
    let verdict = exit::of_worker(world, pid)?;
    let container = world.container_of(pid)?;
    let going_down = world.terminations.current(&container, verdict.verdict.at).is_some();
    (!going_down && verdict.is_reportable_alone()).then(|| key(world, pid, &verdict))
}

pub(super) fn key(world: &World, pid: Pid, exit: &ExitVerdict) -> CaseKey {
    // Of a crash, the signal that was first: it may still be writing its core.
    let first = exit.verdict.ended_by.as_ref().filter(|_| exit.how == How::ProcessCrashed);
    let status = match (first.or(exit.verdict.signal.as_ref()), exit.verdict.exit_code) {
        (Some(signal), _) => WorkerStatus::Signal(signal.clone()),
        (None, code) => WorkerStatus::Code(code.unwrap_or_default()),
    };
    CaseKey::Workers { container: world.container_of(pid), how: exit.how, status }
}

/// The worker whose death made the first process of its container exit: one of the same run that served and died at most
/// a second before a first process that exits with a code, unrequested.
#[must_use]
pub fn root_of(world: &World, id: TerminationId) -> Option<Pid> {
    let termination = world.terminations.get(id)?;
    let first = world.processes.get(termination.pid?).filter(|first| !world.processes.is_init(first.pid))?;
    let exit = first.exit.as_ref().filter(|exit| exit.status.code().is_some())?;
    if termination.requested.is_some() || termination.root.is_some() {
        return None;
    }
    world.processes.exited_since(exit.at.minus(TAKES_CONTAINER)).find_map(|worker| {
        // What exits after the first process was killed with its namespace.
        let ended = worker.exit.as_ref().filter(|own| own.at <= exit.at)?;
        let served = worker.serves || worker.oom.is_some();
        let same_run = first.started.is_none_or(|begun| worker.started.is_some_and(|own| own >= begun));
        let of_container = worker.pid != first.pid
            && same_run
            && !worker.entered
            && served
            && world.container_of(worker.pid).as_ref() == Some(&termination.container);
        let own = || (!ended.status.is_success()).then_some(worker.pid);
        of_container.then(|| exit::of_worker(world, worker.pid)?.because.or_else(own))?
    })
}

pub(super) fn is_spontaneous(verdict: &Verdict) -> bool {
    matches!(verdict.how, Some(How::ProcessCrashed | How::ProcessExited))
}

impl Cause for WorkerCause {
    fn kinds(&self) -> &'static [CauseKind] {
        &[KIND]
    }

    fn subject<'a>(&self, _world: &'a World, key: &'a CaseKey) -> Option<&'a ContainerId> {
        let CaseKey::Workers { container, .. } = key else { return None };
        container.as_ref()
    }

    fn verdict(&self, ctx: Context, case: &Case) -> Verdict {
        let container = self.subject(ctx.world, &case.key).cloned();
        let first = case.workers.first().and_then(|pid| exit::of_worker(ctx.world, *pid));
        let Some(exit) = first else { return base_verdict(ctx, case, unknown::KIND, container.as_ref()) };
        let how = Some(exit.how);
        let deaths = u32::try_from(case.workers.len()).unwrap_or(u32::MAX);
        let verdict = Verdict { how, ..of_exit(exit, container, deaths) };
        match parent_of(ctx, case) {
            None => verdict,
            // Order and time connect its death to the broken response; of an exit code, time alone.
            Some(Parent { by_status, .. }) => {
                let confidence = if by_status { Confidence::Possible } else { Confidence::Likely };
                Verdict { reportable_alone: false, confidence: verdict.confidence.min(confidence), ..verdict }
            }
        }
    }

    fn summary(&self, ctx: Context, case: &Case, verdict: &Verdict) -> String {
        let process = process_text(verdict);
        let how = match verdict.how {
            Some(How::OomKilled) => "was killed by the kernel's OOM killer".to_owned(),
            Some(How::ProcessCrashed) => {
                format!("crashed with {}{}", crash_text(verdict), crash_place::text(verdict))
            }
            Some(How::ProcessKilled) => format!("{}{}", killed_text(verdict), by_text(verdict)),
            Some(How::ProcessExited) | None => format!("exited spontaneously with {}", status_text(verdict)),
        };
        let container = self.subject(ctx.world, &case.key).and_then(|id| ctx.world.containers.get(id));
        let runs = container.is_some_and(|container| container.down.is_none_or(|down| down < verdict.at));
        let lives = if runs { "; the container keeps running" } else { "" };
        match parent_of(ctx, case) {
            None => format!("worker {process} {how}{}{lives}", after_text(ctx, case, verdict)),
            Some(Parent { name, .. }) => format!("{process} {how}, and its parent {name} broke the response{lives}"),
        }
    }

    fn alternatives(&self, ctx: Context, case: &Case, verdict: &Verdict) -> Vec<Alternative> {
        if parent_of(ctx, case).is_some_and(|parent| parent.by_status) {
            let sentence = format!("{} had exited less than a second before the close", pid_text(verdict));
            return vec![against(application::APP_CLOSED, sentence)];
        }
        if verdict.signal.as_deref() != Some("SIGKILL") || verdict.how == Some(How::OomKilled) {
            return Vec::new();
        }
        vec![not_oom(verdict), not_docker()]
    }

    fn condition(&self, ctx: Context, case: &Case, verdict: &Verdict) -> Option<Condition> {
        let container = ctx.world.containers.get(self.subject(ctx.world, &case.key)?)?;
        let closed = container.closed_by(&case.workers);
        // While one of the ports is closed.
        let is_open = |orphan: &&OrphanedPort| orphan.until.is_none();
        let last = closed.clone().find(is_open).or_else(|| closed.max_by_key(|orphan| orphan.until))?;
        let until = last.until.or_else(|| terminated_after(ctx, &container.info.id, verdict.at));
        lasting(ConditionKind::NotListening, verdict.at, until)
    }

    fn max_gap(&self) -> Option<Nanos> {
        Some(GAP)
    }

    /// The signal may have come before the death.
    fn evidence_since(&self, _ctx: Context, _key: &CaseKey, opened: Stamp, _begun: Stamp) -> Stamp {
        opened.minus(exit::HANDLED)
    }
}

/// The process whose descendant died, for a case that consists of the broken responses alone.
struct Parent {
    /// `python3 (pid 7)`.
    name: String,
    /// Only exit codes connect the deaths to the responses.
    by_status: bool,
}

fn parent_of(ctx: Context, case: &Case) -> Option<Parent> {
    let pid = *case.workers.first()?;
    let process = ctx.world.processes.get(pid)?;
    if is_relevant(process) {
        return None;
    }
    let of_descendant = |failure: &&Failure| matches!(failure.evidence, Evidence::Descendant { .. });
    let broken = || ctx.failures_of(case).filter(of_descendant);
    let parent = broken().next()?.entry.server.pid.unwrap_or(process.parent);
    let comm = ctx.comm(parent).unwrap_or_else(|| "a process".to_owned());
    let by_status = |failure: &Failure| matches!(failure.evidence, Evidence::Descendant { by_status: true, .. });
    Some(Parent { name: format!("{comm} (pid {parent})"), by_status: broken().all(by_status) })
}

/// An OOM victim is always relevant, others only if they serve and did not enter from outside.
fn is_relevant(process: &Process) -> bool {
    process.oom.is_some() || (process.serves && !process.entered)
}
