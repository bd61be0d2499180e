//! `signal:signal_generate(sig, info, task, group, result)`: a signal to a container's process, and its sender. On all
//! kernels; mandatory.
//!
//! SIGCHLD, SIGURG, SIGWINCH and the real-time signals are ignored: language runtimes send thousands of them, and no
//! verdict depends on them.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use gaia_monitor_abi::{LIMIT_CPU, LIMIT_FILE_SIZE, LIMIT_NONE, ProcessRecord, SignalRecord, layout::ABSENT};

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
const SIGKILL: u32 = 9;
const SIGXCPU: u32 = 24;
const SIGXFSZ: u32 = 25;

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
    let task = Typed(ctx.arg(2));
    let target = task::process(task);
    if !task::is_contained(&target) {
        return 0;
    }
    let limit = limit(number, ctx.arg(1), task);
    let from_kernel = limit != LIMIT_NONE || is_from_kernel(ctx.arg(1));
    let result: u32 = ctx.arg(4);
    let sender = if from_kernel { NO_PROCESS } else { task::process(task::current()) };
    emit::<SignalRecord>(Wake::Later, |event| {
        event.target = target;
        event.sender = sender;
        event.signal = number;
        event.from_kernel = from_kernel as u32;
        event.result = result;
        event.limit = limit;
    });
    0
}

/// Position of RLIMIT_CPU in `signal_struct.rlim` is 0 (include/uapi/asm-generic/resource.h); its second word is the hard
/// limit, in seconds.
const HARD: u32 = 8;
const UNLIMITED: u64 = u64::MAX;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// The resource limit that the kernel enforces with this signal. It does so in the task that exceeded the limit.
///
/// - CPU: SIGXCPU at the soft limit, SIGKILL at the hard one (`check_process_timers()` in kernel/time/posix-cpu-timers.c),
///   decided by the sums that are read here. SIGXCPU also enforces RLIMIT_RTTIME.
/// - File size: SIGXFSZ, formally sent by the task to itself (`generic_write_check_limits()` in fs/read_write.c).
#[inline(always)]
fn limit(number: u32, info: u64, target: Typed) -> u32 {
    if number != SIGKILL && number != SIGXCPU && number != SIGXFSZ {
        return LIMIT_NONE;
    }
    if task::tgid(target) != task::tgid(task::current()) {
        return LIMIT_NONE;
    }
    if number == SIGXFSZ {
        return if info == SEND_SIG_NOINFO { LIMIT_FILE_SIZE } else { LIMIT_NONE };
    }
    if info != SEND_SIG_PRIV {
        return LIMIT_NONE;
    }
    if number == SIGXCPU {
        return LIMIT_CPU;
    }
    // The verifier knows these values, and does not look at what follows.
    if layout!(signal_rlim) == ABSENT || layout!(signal_cpu_utime) == ABSENT || layout!(signal_cpu_stime) == ABSENT {
        return LIMIT_NONE;
    }
    let process = target.follow(layout!(task_signal));
    let hard: u64 = process.load(layout!(signal_rlim) + HARD);
    let user: u64 = process.load(layout!(signal_cpu_utime));
    let system: u64 = process.load(layout!(signal_cpu_stime));
    let is_exceeded = hard != UNLIMITED && (user + system) / NS_PER_SECOND >= hard;
    if is_exceeded { LIMIT_CPU } else { LIMIT_NONE }
}

#[inline(always)]
pub fn is_from_kernel(info: u64) -> bool {
    match info {
        SEND_SIG_NOINFO => false,
        SEND_SIG_PRIV => true,
        info => match Raw(info).read::<i32>(layout!(si_code)) {
            Some(code) => code != SI_USER && code != SI_QUEUE && code != SI_TKILL,
            None => true,
        },
    }
}
