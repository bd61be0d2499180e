//! Deaths of processes that did not close the connection as they died: a descriptor outlived the process, the process
//! closed on its way out, or nothing was left to accept.
//!
//! Attributes to `worker_died`, or to the termination of the container whose first process it is; both report the death.

use crate::engine::context::Context;
use crate::engine::failures::table::Failure;
use crate::engine::types::cause::Attribution;
use crate::engine::world::processes::Process;
use crate::model::ids::{ContainerId, Pid};
use crate::model::incident::How;
use crate::model::time::{Nanos, Stamp};

use super::{Situation, Step, exit, termination, worker};

/// The process that read the request is dead; a child or another process keeps the connection open.
pub const OF_HOLDER: Step = Step { name: "death of the process that read the request", attribute: of_holder };
/// The process that closed exited by itself immediately afterwards.
pub const ON_ITS_WAY_OUT: Step = Step { name: "exit of the process that closed", attribute: on_its_way_out };
/// The last process that accepted is dead; its listener is still open in another process.
pub const OF_ACCEPTOR: Step = Step { name: "death of the last process that accepted", attribute: of_acceptor };

/// A runtime that tears itself down closes its sockets 5 to 50 ms before it exits; a second covers a loaded machine.
pub(super) const WAY_OUT: Nanos = Nanos::from_secs(1);

fn of_holder(ctx: Context, situation: &Situation) -> Option<Attribution> {
    let server = situation.server?;
    let pid = server.owner.as_ref()?.pid;
    let closer = situation.close.map(|close| close.task.pid);
    let until = situation.close.map_or(situation.at, |close| close.at);
    let ended = ctx.world.processes.get(pid)?.doomed()?;
    // Its own close while dying is an ordinary death.
    let outlived = closer != Some(pid) && ended >= server.opened && ended <= until;
    let reason = format!("process {pid}, which had read from the connection, was dead; another process kept it open");
    outlived.then(|| of_death(ctx, situation.failure, pid, reason))?
}

fn on_its_way_out(ctx: Context, situation: &Situation) -> Option<Attribution> {
    let close = situation.close?;
    let pid = close.task.pid;
    let end = ctx.world.processes.get(pid)?.exit.as_ref()?;
    let follows = end.at >= close.at && end.at.since(close.at) <= WAY_OUT;
    let reason = format!("process {pid} closed the connection on its way out");
    (follows && ended_by_itself(ctx, pid)).then(|| of_death(ctx, situation.failure, pid, reason))?
}

/// With any code, or by a signal that it raised itself.
fn ended_by_itself(ctx: Context, pid: Pid) -> bool {
    let Some(exit) = exit::of_worker(ctx.world, pid) else { return false };
    matches!(exit.how, How::ProcessExited | How::ProcessCrashed) || (exit.how == How::ProcessKilled && exit.own_signal)
}

/// The kernel completes handshakes for a listener whatever its process does.
fn of_acceptor(ctx: Context, situation: &Situation) -> Option<Attribution> {
    let container = situation.failure.route.container.as_ref()?;
    if situation.server.is_none_or(|server| server.owner.is_some()) {
        return None;
    }
    let acceptor = last_acceptor(ctx, container, situation.at)?;
    let pid = acceptor.pid;
    let reason = format!("process {pid} was dead, and nothing accepted from its listener");
    of_death(ctx, situation.failure, pid, reason).map(Attribution::inferred)
}

/// The process that served last, if no other one of its container can have accepted since.
fn last_acceptor<'a>(ctx: Context<'a>, container: &ContainerId, at: Stamp) -> Option<&'a Process> {
    let processes = &ctx.world.processes;
    let first = ctx.world.containers.get(container)?.info.pid;
    let of_container = |process: &&Process| {
        !process.entered && process.serves && ctx.world.container_of(process.pid).as_ref() == Some(container)
    };
    let served = || processes.all().filter(of_container);
    // A first process that supervises holds the listener and accepts nothing.
    let can_accept = |process: &Process| process.accepts || Some(process.pid) != first;
    if served().any(|process| process.doomed().is_none() && can_accept(process)) {
        return None;
    }
    let ended = served().filter_map(|process| Some((process.doomed()?, process)));
    ended
        .filter(|(end, process)| *end <= at && Some(process.pid) != first)
        .max_by_key(|(end, _)| *end)
        .map(|(_, it)| it)
}

/// The death of one process, by what it was to its container.
fn of_death(ctx: Context, failure: &Failure, pid: Pid, reason: String) -> Option<Attribution> {
    if ctx.world.processes.stands_for_container(pid) {
        return termination::of_first_process(ctx, failure, pid, reason);
    }
    worker::of_dying(ctx, failure, pid, reason)
}
