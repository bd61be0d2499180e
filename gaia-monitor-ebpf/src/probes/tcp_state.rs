//! `sock:inet_sock_set_state(sk, oldstate, newstate)`: every change of a TCP socket's state. 4.16 and newer; mandatory.
//!
//! `current` is told as a witness only: it is the socket's own process where a process acts (connect, listen, close), and
//! anybody's where a packet does.
//!
//! LISTEN to SYN_RECV is left out: it is the birth of a connection's own socket, which on 6.12 (no more on 6.18) still
//! carries the listener's cookie and addresses at that moment. SYN_RECV to ESTABLISHED follows at once, and is right everywhere.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use gaia_monitor_abi::TcpStateRecord;

use super::{http, reading};
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
    // DCCP, SCTP and MPTCP sockets pass here, too.
    let sock = socket::tcp(ctx.arg(0))?;
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
    let witness = task::witness();
    let (last_sent_ns, last_received_ns) = if had_stream(old) { http::last_payload(record.cookie) } else { (0, 0) };
    let last_read_ns = if had_stream(old) { reading::last_read(record.cookie) } else { 0 };
    // A client whose server has left, and one that gives up; a connect that is refused has its error report.
    let decides = new == state::CLOSE_WAIT as u32
        || new == state::FIN_WAIT1 as u32
        || old == state::SYN_SENT as u32 && new == state::CLOSE as u32;
    let wake = if decides { Wake::Now } else { Wake::Later };
    emit::<TcpStateRecord>(wake, |event| {
        event.socket = record;
        event.task = witness;
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
    if new == state::CLOSE as u32 {
        http::forget(record.cookie);
    }
    Some(())
}

/// Sequence numbers mean something only once a connection was established.
#[inline(always)]
fn had_stream(old: u32) -> bool {
    old != state::CLOSE as u32
        && old != state::LISTEN as u32
        && old != state::SYN_SENT as u32
        && old != state::SYN_RECV as u32
        && old != state::NEW_SYN_RECV as u32
}
