//! `oom:mark_victim(task, uid)`: the OOM killer chose this process. Optional: without it an OOM kill looks like a plain
//! SIGKILL. Kernels before 6.9 without the backport pass only the pid, which cannot be filtered here; the engine
//! ignores victims outside containers.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use gaia_monitor_abi::OomVictimRecord;

use crate::{
    kernel::{Typed, layout},
    ring::{Wake, emit},
    task,
};

#[btf_tracepoint(function = "mark_victim")]
pub fn oom_victim(ctx: BtfTracePointContext) -> i32 {
    let argument: u64 = ctx.arg(0);
    let pid = if layout!(victim_is_task) != 0 {
        let victim = task::process(Typed(argument));
        if !task::is_contained(&victim) {
            return 0;
        }
        victim.pid
    } else {
        argument as u32
    };
    emit::<OomVictimRecord>(Wake::Now, |event| {
        event.pid = pid;
        event.reserved = 0;
    });
    0
}
