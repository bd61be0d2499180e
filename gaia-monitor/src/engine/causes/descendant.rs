//! Descendants without sockets of their own whose death broke a response of their parent: a subprocess, a process pool.
//!
//! A crash, or a signal from outside the process tree, explains what follows it; a non-zero exit code only what follows
//! within a second ([`STATUS_EXPLAINS`]), because many programs report results by it. An orderly end by the tree itself
//! explains nothing.

use crate::engine::context::Context;
use crate::engine::types::cause::Attribution;
use crate::engine::types::evidence::Evidence;
use crate::engine::world::World;
use crate::engine::world::processes::Process;
use crate::model::ids::Pid;
use crate::model::incident::How;
use crate::model::time::{Nanos, Stamp};

use super::exit::{self, ExitVerdict};
use super::{Situation, worker};

/// The parent breaks the response at most this long after a descendant that exited with a code.
const STATUS_EXPLAINS: Nanos = Nanos::from_secs(1);

/// The death of a descendant.
pub struct Death {
    pub at: Stamp,
    pid: Pid,
    verdict: ExitVerdict,
    by_status: bool,
}

/// The latest death of a descendant of `server` between the first byte of a request and `until` that explains its end.
#[must_use]
pub fn latest(ctx: Context, situation: &Situation, server: Pid, until: Stamp) -> Option<Death> {
    let ended = ctx.world.processes.ended_descendants(server, situation.failure.begun, until);
    ended.filter_map(|process| death(ctx.world, process, server, until)).max_by_key(|death| (death.at, death.pid))
}

fn death(world: &World, process: &Process, server: Pid, until: Stamp) -> Option<Death> {
    let at = process.exit.as_ref()?.at;
    let verdict = exit::of_worker(world, process.pid)?;
    if verdict.clean || process.entered {
        return None;
    }
    let by_status = match verdict.how {
        How::OomKilled | How::ProcessCrashed => false,
        How::ProcessKilled if verdict.own_signal => true,
        How::ProcessKilled if is_sent_by_the_tree(world, &verdict, server) => return None,
        How::ProcessKilled => false,
        How::ProcessExited => true,
    };
    let explains = !by_status || until.since(at) <= STATUS_EXPLAINS;
    explains.then_some(Death { at, pid: process.pid, verdict, by_status })
}

fn is_sent_by_the_tree(world: &World, verdict: &ExitVerdict, server: Pid) -> bool {
    let sender = verdict.verdict.sender.as_ref().and_then(|sender| sender.pid);
    sender.is_some_and(|sender| {
        let processes = &world.processes;
        sender == server || processes.descends_from(sender, server) || processes.descends_from(server, sender)
    })
}

impl Death {
    /// # Invariant
    /// A descendant that serves has a case of its own; the response joins it.
    #[must_use]
    pub fn attribution(&self, ctx: Context, unambiguous: bool) -> Attribution {
        let Self { pid, by_status, .. } = *self;
        let evidence = Evidence::Descendant { pid, unambiguous, by_status };
        let reason = format!("its descendant {pid} had died before");
        Attribution::to(worker::key(ctx.world, pid, &self.verdict), evidence, reason)
    }
}
