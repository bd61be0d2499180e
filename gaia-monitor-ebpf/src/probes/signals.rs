//! `signal:signal_generate(sig, info, task, group, result)`: a signal to a container's process, and its sender. On all
//! kernels; mandatory.
//!
//! SIGCHLD, SIGURG, SIGWINCH and the real-time signals are ignored: language runtimes send thousands of them, and no
//! verdict depends on them.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use gaia_monitor_abi::{ProcessRecord, SignalRecord};

use crate::{
    kernel::{Raw, Typed, layout},
    ring::{Wake, emit},
    task,
};

// Signal numbers, equal on all supported architectures (include/uapi/asm-generic/signal.h).
const SIGCHLD: u32 = 17;
const SIGURG: u32 = 23;
const SIGWINCH: u32 = 28;
const SIGRTMIN: u32 = 32;

/// Special values in place of a `siginfo` pointer (include/linux/sched/signal.h): sent by the current process; sent by
/// the kernel.
const SEND_SIG_NOINFO: u64 = 0;
const SEND_SIG_PRIV: u64 = 1;

/// `si_code` of kill, sigqueue and tkill (include/uapi/asm-generic/siginfo.h). Only these have a sending process.
const SI_USER: i32 = 0;
const SI_QUEUE: i32 = -1;
const SI_TKILL: i32 = -6;

const NO_PROCESS: ProcessRecord = ProcessRecord { pid: 0, ns_pid: 0, ns_level: 0, netns: 0, cgroup: 0, comm: [0; 16] };

#[btf_tracepoint(function = "signal_generate")]
pub fn signal(ctx: BtfTracePointContext) -> i32 {
    let number: u32 = ctx.arg(0);
    if number == SIGCHLD || number == SIGURG || number == SIGWINCH || number >= SIGRTMIN {
        return 0;
    }
    let target = task::process(Typed(ctx.arg(2)));
    if !task::is_contained(&target) {
        return 0;
    }
    let from_kernel = is_from_kernel(ctx.arg(1));
    let result: u32 = ctx.arg(4);
    let sender = if from_kernel { NO_PROCESS } else { task::process(task::current()) };
    emit::<SignalRecord>(Wake::Later, |event| {
        event.target = target;
        event.sender = sender;
        event.signal = number;
        event.from_kernel = from_kernel as u32;
        event.result = result;
        event.reserved = 0;
    });
    0
}

#[inline(always)]
fn is_from_kernel(info: u64) -> bool {
    match info {
        SEND_SIG_NOINFO => false,
        SEND_SIG_PRIV => true,
        info => match Raw(info).read::<i32>(layout!(si_code)) {
            Some(code) => code != SI_USER && code != SI_QUEUE && code != SI_TKILL,
            None => true,
        },
    }
}
