//! `tcp:tcp_rcv_space_adjust(sk)`: the current task read bytes from this socket. 4.16 and newer; without it the process
//! of a server is known only when it closes the socket.
//!
//! The event fires for every read that returned bytes. Each pair of socket and process is therefore emitted once; later
//! reads only update the time of the last read, which shows at close what the process had read.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns},
    macros::{btf_tracepoint, map},
    maps::LruHashMap,
    programs::BtfTracePointContext,
};
use gaia_monitor_abi::SocketReadRecord;

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

/// Pairs already emitted, with the boot time of the last read. On overflow the least recently used pair is evicted, and
/// emitted again at its next read.
#[map]
static READERS: LruHashMap<Pair, u64> = LruHashMap::with_max_entries(65_536, 0);

#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn socket_read(ctx: BtfTracePointContext) -> i32 {
    let _ = observe(&ctx);
    0
}

/// Boot time at which the current process last read from a socket; 0: not seen.
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
    // The cheapest check first: it settles nearly every read.
    let pair = Pair::of_current(sock.cookie());
    if let Some(last) = READERS.get_ptr_mut(pair) {
        // SAFETY: the kernel keeps the entry while this program runs; one aligned number.
        unsafe { *last = now };
        return None;
    }
    let record = sock.observe()?;
    let task = task::current_task();
    let emitted = emit::<SocketReadRecord>(Wake::Later, |event| {
        event.socket = record;
        event.task = task;
    });
    // If the ring was full, the pair is emitted at its next read.
    if emitted {
        let _ = READERS.insert(pair, now, 0);
    }
    Some(())
}
