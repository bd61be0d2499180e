//! `sched:sched_process_fork(parent, child)`, `sched_process_exec(task, old_pid, bprm)`, `sched_process_exit(task,
//! group_dead)`: processes of containers, and of docker-proxy on the host. On all kernels; mandatory.
//!
//! A process ends with its last thread: from 6.16 `group_dead` is set, on older kernels `signal->live` is 0. From 6.12
//! (older kernels were not examined) the event fires before the process closes its files.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::{btf_tracepoint, map},
    maps::LruHashMap,
    programs::BtfTracePointContext,
};
use gaia_monitor_abi::{ProcessExecRecord, ProcessExitedRecord, ProcessStartedRecord};

use super::fds;
use crate::{
    kernel::{Typed, layout},
    ring::{Wake, emit},
    task,
};

/// `signal_struct.flags`: `group_exit_code` is valid (include/linux/sched/signal.h).
const SIGNAL_GROUP_EXIT: u32 = 0x4;

#[btf_tracepoint(function = "sched_process_fork")]
pub fn process_started(ctx: BtfTracePointContext) -> i32 {
    let child = Typed(ctx.arg(1));
    // A new thread, not a new process.
    if child.load::<u32>(layout!(task_pid)) != task::tgid(child) {
        return 0;
    }
    let process = task::process(child);
    if task::is_contained(&process) {
        let (parent, parent_outside) = task::parent(child);
        emit::<ProcessStartedRecord>(Wake::Later, |event| {
            event.process = process;
            event.parent = parent;
            event.parent_outside = parent_outside;
        });
    }
    0
}

#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(ctx: BtfTracePointContext) -> i32 {
    let process = task::process(Typed(ctx.arg(0)));
    if task::is_contained(&process) || task::is_docker_proxy(&process) {
        emit::<ProcessExecRecord>(Wake::Later, |event| event.process = process);
    }
    0
}

#[derive(Clone, Copy)]
#[repr(C)]
struct ProcessKey {
    leader: u64,
    start_time: u64,
}

/// Exits already emitted. Needed before 6.16, where two threads that exit together may both find `live` at 0.
#[map]
static ENDED: LruHashMap<ProcessKey, u8> = LruHashMap::with_max_entries(4_096, 0);

#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exited(ctx: BtfTracePointContext) -> i32 {
    let _ = observe_exit(&ctx);
    0
}

#[inline(always)]
fn observe_exit(ctx: &BtfTracePointContext) -> Option<()> {
    let task = Typed(ctx.arg(0));
    let signal = task.follow(layout!(task_signal));
    let leader = task::leader(task);
    if layout!(exit_has_group_dead) != 0 {
        if ctx.arg::<u64>(1) & 0xff == 0 {
            return None;
        }
    } else if signal.load::<u32>(layout!(signal_live)) != 0 {
        return None;
    }
    let process = task::process(task);
    if !task::is_contained(&process) && !task::is_docker_proxy(&process) {
        return None;
    }
    if layout!(exit_has_group_dead) == 0 {
        let key = ProcessKey { leader: leader.0, start_time: leader.load(layout!(task_start_time)) };
        ENDED.insert(key, 1, BPF_NOEXIST as u64).ok()?;
    }
    let (parent, parent_outside) = task::parent(task);
    // The choice of `wait_task_zombie()` in kernel/exit.c. Both are loaded first: otherwise the compiler merges the two
    // loads into one through a pointer of either type, which older verifiers reject.
    let group: u32 = signal.load(layout!(signal_group_exit_code));
    let own: u32 = leader.load(layout!(task_exit_code));
    let status = if signal.load::<u32>(layout!(signal_flags)) & SIGNAL_GROUP_EXIT != 0 { group } else { own };
    let listens = fds::has_listener(task);
    emit::<ProcessExitedRecord>(Wake::Now, |event| {
        event.process = process;
        event.parent = parent;
        event.parent_outside = parent_outside;
        event.status = status;
        event.listens = listens as u32;
    });
    Some(())
}
