//! `tcp:tcp_receive_reset(sk)` (4.16 and newer) and `tcp:tcp_send_reset(sk, skb, reason)`; the reason is there from 6.10.
//!
//! The sender's socket may be missing (nobody listens), a listener, a request or a TIME_WAIT socket: then the packet that
//! is answered says who speaks to whom, and the record has no cookie. Without a packet the reset is active: sent by the
//! socket's own close. Up to 6.9 a closed port's reset is not told, because the event needs a socket there.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use gaia_monitor_abi::{NO_REASON, ResetReceivedRecord, ResetSentRecord, SocketRecord};

use crate::{
    filter,
    kernel::{Typed, layout},
    packet,
    ring::{Wake, emit},
    socket::{self, TcpSock, state},
};

#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn reset_received(ctx: BtfTracePointContext) -> i32 {
    let _ = observe_received(&ctx);
    0
}

#[inline(always)]
fn observe_received(ctx: &BtfTracePointContext) -> Option<()> {
    let sock = socket::tcp(ctx.arg(0))?;
    let record = sock.observe()?;
    let state = sock.state();
    // A reset that answers a SYN is followed by an error report, which wakes the reader anyway.
    let wake = if state == state::SYN_SENT || state == state::SYN_RECV { Wake::Later } else { Wake::Now };
    emit::<ResetReceivedRecord>(wake, |event| {
        event.socket = record;
        event.state = state as u32;
        event.reserved = 0;
    });
    Some(())
}

#[btf_tracepoint(function = "tcp_send_reset")]
pub fn reset_sent(ctx: BtfTracePointContext) -> i32 {
    let _ = observe_sent(&ctx);
    0
}

#[inline(always)]
fn observe_sent(ctx: &BtfTracePointContext) -> Option<()> {
    let sk: *const u8 = ctx.arg(0);
    let skb: u64 = ctx.arg(1);
    let reason = if layout!(reset_has_reason) != 0 { ctx.arg::<u32>(2) } else { NO_REASON };
    let record = match connection(sk) {
        Some(sock) => sock.observe()?,
        None if skb != 0 => from_packet(sk, Typed(skb))?,
        None => return None,
    };
    emit::<ResetSentRecord>(Wake::Later, |event| {
        event.socket = record;
        event.reason = reason;
        event.active = (skb == 0) as u32;
    });
    Some(())
}

/// The sender's socket, if it has the fields of a full one and the addresses of one connection.
#[inline(always)]
fn connection(sk: *const u8) -> Option<TcpSock> {
    if sk.is_null() {
        return None;
    }
    socket::tcp(sk).filter(|sock| sock.state() != state::LISTEN)
}

/// Who would have sent the reset, by the packet that it answers: its receiver is the local side.
#[inline(always)]
fn from_packet(sk: *const u8, skb: Typed) -> Option<SocketRecord> {
    let packet = packet::tcp(skb, netns_of_packet(sk, skb))?.ends;
    let socket = SocketRecord {
        local_port: packet.remote_port,
        remote_port: packet.local_port,
        local: packet.remote,
        remote: packet.local,
        ..packet
    };
    filter::socket_is_watched(&socket).then_some(socket)
}

/// A packet that no socket took still has its device; one that a socket took may have lost it.
#[inline(always)]
fn netns_of_packet(sk: *const u8, skb: Typed) -> u32 {
    if sk.is_null() { packet::netns(skb) } else { socket::netns(Typed(sk as u64)) }
}
