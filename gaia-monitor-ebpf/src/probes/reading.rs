//! `tcp:tcp_rcv_space_adjust(sk)`: the current task copied bytes out of this socket. 4.16 and newer; without it a server's
//! process is known only once it closes.
//!
//! Fires for every read, so each pair of socket and process is told once.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
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

/// Pairs already told. When it overflows, the least recent pair is told again at its next read.
#[map]
static READERS: LruHashMap<Pair, u8> = LruHashMap::with_max_entries(65_536, 0);

#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn reading(ctx: BtfTracePointContext) -> i32 {
    let _ = observe(&ctx);
    0
}

#[inline(always)]
fn observe(ctx: &BtfTracePointContext) -> Option<()> {
    let sock = socket::tcp(ctx.arg(0))?;
    // First, because it is the answer to nearly every read, and cheap.
    let pair = Pair { cookie: sock.cookie(), tgid: bpf_get_current_pid_tgid() >> 32 };
    // SAFETY: only presence counts.
    if unsafe { READERS.get(pair) }.is_some() {
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
        let _ = READERS.insert(pair, 1, 0);
    }
    Some(())
}
