//! `tcp:tcp_rcv_space_adjust(sk)`: the current task read bytes from this socket. 4.16 and newer; without it the process
//! of a server is known only when it closes the socket.
//!
//! The event fires for every read that returned bytes. Each pair of socket and process is therefore emitted once; later
//! reads only update the time of the last read, which shows at close what the process had read.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use gaia_monitor_abi::SocketReadRecord;

use super::socket_state;
use crate::{
    ring::{Wake, emit},
    socket, task,
};

#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn socket_read(ctx: BtfTracePointContext) -> i32 {
    let _ = observe(&ctx);
    0
}

#[inline(always)]
fn observe(ctx: &BtfTracePointContext) -> Option<()> {
    let argument: *const u8 = ctx.arg(0);
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let tgid = bpf_get_current_pid_tgid() >> 32;
    // The cheapest check first: it settles nearly every read.
    if let Some(state) = socket_state::find(argument.cast()) {
        // SAFETY: the kernel keeps the entry while this program runs, and reads of one socket are serialised by its
        // lock.
        if unsafe { (*state).note_read(tgid, now) } {
            return None;
        }
    }
    let record = socket::tcp(argument)?.observe()?;
    let task = task::current_task();
    let emitted = emit::<SocketReadRecord>(Wake::Later, |event| {
        event.socket = record;
        event.task = task;
    });
    // If the ring was full, the reader is emitted at its next read.
    if emitted && let Some(state) = socket_state::find_or_begin(argument.cast()) {
        // SAFETY: as above.
        unsafe { (*state).add_reader(tgid, now) };
    }
    Some(())
}
