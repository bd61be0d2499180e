//! `sock:inet_sock_set_state(sk, oldstate, newstate)`: every state change of a TCP socket. 4.16 and newer; mandatory.
//!
//! The current task is recorded as a hint only: it owns the socket if a process caused the change (connect, listen,
//! close), and is arbitrary if a packet did.
//!
//! LISTEN to SYN_RECV is ignored. It creates the socket of a connection, which on 6.12 (no longer on 6.18) still has
//! the cookie and addresses of the listener. SYN_RECV to ESTABLISHED follows immediately, and is correct on all
//! kernels.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use gaia_monitor_abi::TcpStateRecord;

use super::socket_state::{self, SocketState};
use crate::{
    ring::{Wake, emit},
    socket::{self, state},
    task,
};

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn tcp_state(ctx: BtfTracePointContext) -> i32 {
    let _ = observe(&ctx);
    0
}

#[inline(always)]
fn observe(ctx: &BtfTracePointContext) -> Option<()> {
    // The event also fires for DCCP, SCTP and MPTCP sockets.
    let argument: *const u8 = ctx.arg(0);
    let sock = socket::tcp(argument)?;
    let old: u32 = ctx.arg(1);
    let new: u32 = ctx.arg(2);
    if old == state::LISTEN as u32 && new == state::SYN_RECV as u32 {
        return None;
    }
    let record = sock.observe()?;
    let unread = if had_stream(old) { sock.unread() } else { 0 };
    let unacknowledged = if had_stream(old) { sock.unacknowledged() } else { 0 };
    let errno = sock.error();
    let half = u32::from(sock.is_half_closed());
    let task = task::current_task();
    let state = if had_stream(old) { socket_state::find(argument.cast()) } else { None };
    let Times { last_sent_ns, last_received_ns, last_read_ns } =
        state.map_or(NOT_SEEN, |state| times(state, task.tgid));
    // The peer closed; this socket closes first, as after a client timeout; or a connect failed.
    let decides = new == state::CLOSE_WAIT as u32
        || new == state::FIN_WAIT1 as u32
        || old == state::SYN_SENT as u32 && new == state::CLOSE as u32;
    let wake = if decides { Wake::Now } else { Wake::Later };
    emit::<TcpStateRecord>(wake, |event| {
        event.socket = record;
        event.task = task;
        event.old = old;
        event.new = new;
        event.errno = errno;
        event.unread = unread;
        event.last_sent_ns = last_sent_ns;
        event.last_received_ns = last_received_ns;
        event.last_read_ns = last_read_ns;
        event.half = half;
        event.unacknowledged = unacknowledged;
    });
    if let Some(state) = state
        && new == state::CLOSE as u32
    {
        // SAFETY: the kernel keeps the entry while this program runs.
        unsafe { (*state).end_connection() };
    }
    Some(())
}

/// Boot times of the last payload of a socket, and of the last read of the current process; 0: not seen.
struct Times {
    last_sent_ns: u64,
    last_received_ns: u64,
    last_read_ns: u64,
}

const NOT_SEEN: Times = Times { last_sent_ns: 0, last_received_ns: 0, last_read_ns: 0 };

#[inline(always)]
fn times(state: *mut SocketState, tgid: u32) -> Times {
    // SAFETY: the kernel keeps the entry while this program runs.
    let state = unsafe { &*state };
    let (last_sent_ns, last_received_ns) = state.last_payload();
    Times { last_sent_ns, last_received_ns, last_read_ns: state.last_read(u64::from(tgid)) }
}

/// True if the socket was established, so that its sequence numbers are valid.
#[inline(always)]
fn had_stream(old: u32) -> bool {
    old != state::CLOSE as u32
        && old != state::LISTEN as u32
        && old != state::SYN_SENT as u32
        && old != state::SYN_RECV as u32
        && old != state::NEW_SYN_RECV as u32
}
