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
use crate::engine::world::containers::Container;
use crate::engine::world::terminations::TerminationId;
use crate::model::ids::{ContainerId, Pid};
use crate::model::incident::{Alternative, CauseKind, Condition, ConditionKind, How};
use crate::model::time::{Nanos, Stamp};

use super::exit::{self, ExitVerdict};
use super::termination::{after_text, by_text, earlier_failure, not_docker, not_oom, of_exit, status_text};
use super::{Cause, Situation, Step, base_verdict, lasting, process_text, terminated_after, unknown};

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
fn of_dying(ctx: Context, failure: &Failure, pid: Pid, reason: String) -> Option<Attribution> {
    if let Some(verdict) = exit::of_worker(ctx.world, pid) {
        let evidence = Evidence::Worker { pid, after: earlier_failure(ctx.failures, failure) };
        return Some(Attribution::to(key(ctx.world, pid, &verdict), evidence, reason));
    }
    let until = failure.seen.plus(EXIT_FOLLOWS);
    (ctx.world.now < until).then(|| Attribution::pending(pid, until))
}

/// The key of a death that is an incident even if it broke nothing.
#[must_use]
pub fn opening(world: &World, pid: Pid) -> Option<CaseKey> {
    let process = world.processes.get(pid)?;
    let is_main = world.processes.stands_for_container(pid) || world.processes.is_init(pid);
    // An OOM victim is always relevant, others only if they serve and did not enter from outside.
    if is_main || process.oom.is_none() && (!process.serves || process.entered) {
        return None;
    }
    let verdict = exit::of_worker(world, pid)?;
    let container = world.container_of(pid)?;
    let going_down = world.terminations.current(&container, verdict.verdict.at).is_some();
    (!going_down && verdict.is_reportable_alone()).then(|| key(world, pid, &verdict))
}

fn key(world: &World, pid: Pid, exit: &ExitVerdict) -> CaseKey {
    let status = match (&exit.verdict.signal, exit.verdict.exit_code) {
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
    let worker = world.processes.exited_since(exit.at.minus(TAKES_CONTAINER)).find(|worker| {
        // What exits after the first process was killed with its namespace.
        let failed = worker.exit.as_ref().is_some_and(|own| own.at <= exit.at && !own.status.is_success());
        let served = worker.serves || worker.oom.is_some();
        let same_run = first.started.is_none_or(|begun| worker.started.is_some_and(|own| own >= begun));
        worker.pid != first.pid
            && same_run
            && !worker.entered
            && served
            && failed
            && world.container_of(worker.pid).as_ref() == Some(&termination.container)
    });
    worker.map(|worker| worker.pid)
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
        Verdict { how, ..of_exit(exit, container, deaths) }
    }

    fn summary(&self, ctx: Context, case: &Case, verdict: &Verdict) -> String {
        let process = process_text(verdict);
        let how = match verdict.how {
            Some(How::OomKilled) => "was killed by the kernel's OOM killer".to_owned(),
            Some(How::ProcessCrashed) => format!("crashed with {}", status_text(verdict)),
            Some(How::ProcessKilled) => format!("was terminated by {}{}", status_text(verdict), by_text(verdict)),
            Some(How::ProcessExited) | None => format!("exited spontaneously with {}", status_text(verdict)),
        };
        format!("worker {process} {how}{}; the container keeps running", after_text(ctx, case, verdict))
    }

    fn alternatives(&self, _ctx: Context, _case: &Case, verdict: &Verdict) -> Vec<Alternative> {
        if verdict.signal.as_deref() != Some("SIGKILL") {
            return Vec::new();
        }
        vec![not_oom(verdict), not_docker()]
    }

    fn condition(&self, ctx: Context, case: &Case, verdict: &Verdict) -> Option<Condition> {
        let id = self.subject(ctx.world, &case.key)?;
        let closed = port_closed(ctx.world.containers.get(id)?, verdict.at)?;
        let until = closed.or_else(|| terminated_after(ctx, id, verdict.at));
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

/// Whether a port closed with the worker; `Some(until)`: it did, and until when.
fn port_closed(container: &Container, at: Stamp) -> Option<Option<Stamp>> {
    container.listeners_closed.filter(|closed| *closed >= at)?;
    if container.ports.keys().any(|port| !container.listening.contains_key(port)) {
        return Some(None);
    }
    Some(container.listening.values().copied().filter(|since| *since >= at).max())
}
