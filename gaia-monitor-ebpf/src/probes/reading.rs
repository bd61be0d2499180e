//! `tcp:tcp_rcv_space_adjust(sk)`: the current task copied bytes out of this socket. 4.16 and newer; without it a server's
//! process is known only once it closes.
//!
//! Fires for every read that got bytes, so each pair of socket and process is told once, and of the later ones only the
//! last one's time is kept: it shows what a process had read when it closes.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns},
    macros::{btf_tracepoint, map},
    maps::LruHashMap,
    programs::BtfTracePointContext,
};
use gaia_monitor_abi::ReadingRecord;

use crate::{
    ring::{Wake, emit},
    socket, task,
};

#[derive(Clone, Copy)]
#[repr(C)]
struct Pair {
    cookie: u64,
    tgid: u64,
}

impl Pair {
    #[inline(always)]
    fn of_current(cookie: u64) -> Self {
        Self { cookie, tgid: bpf_get_current_pid_tgid() >> 32 }
    }
}

/// Pairs already told, each with the boot time of its last read. When it overflows, the least recent pair is told again
/// at its next read.
#[map]
static READERS: LruHashMap<Pair, u64> = LruHashMap::with_max_entries(65_536, 0);

#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn reading(ctx: BtfTracePointContext) -> i32 {
    let _ = observe(&ctx);
    0
}

/// When the current process last read from a socket; 0: not seen.
#[inline(always)]
pub fn last_read(cookie: u64) -> u64 {
    // SAFETY: a number; a torn read is not possible.
    unsafe { READERS.get(Pair::of_current(cookie)) }.copied().unwrap_or(0)
}

#[inline(always)]
fn observe(ctx: &BtfTracePointContext) -> Option<()> {
    let sock = socket::tcp(ctx.arg(0))?;
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // First, because it is the answer to nearly every read, and cheap.
    let pair = Pair::of_current(sock.cookie());
    if let Some(last) = READERS.get_ptr_mut(pair) {
        // SAFETY: the kernel keeps the entry while this program runs; one aligned number.
        unsafe { *last = now };
        return None;
    }
    let record = sock.observe()?;
    let witness = task::witness();
    let told = emit::<ReadingRecord>(Wake::Later, |event| {
        event.socket = record;
        event.task = witness;
    });
    // A pair that found no room in the ring is told at its next read.
    if told {
        let _ = READERS.insert(pair, now, 0);
    }
    Some(())
}
