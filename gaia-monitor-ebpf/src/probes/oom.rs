//! `oom:mark_victim(task, uid)`: this process dies for memory. Kernels before 6.9 without the back-port hand over the pid
//! alone, which then cannot be filtered: the engine drops a victim that no container knows.

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
