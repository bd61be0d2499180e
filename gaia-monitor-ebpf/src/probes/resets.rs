//! `tcp:tcp_receive_reset(sk)` (4.16 and newer) and `tcp:tcp_send_reset(sk, skb, reason)`; `reason` exists from 6.10.
//!
//! The sender's socket may be missing (closed port), a listener, a request or a TIME_WAIT socket. The addresses then
//! come from the packet that caused the reset, and the record has no cookie. Without a packet the reset is active: the
//! close of the socket sent it. Up to 6.9 the event requires a socket, so the reset of a closed port is not reported.

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
    // After a reset in response to a SYN, an error report follows and wakes the reader.
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

/// The sender's socket, if it is a full socket of one connection.
#[inline(always)]
fn connection(sk: *const u8) -> Option<TcpSock> {
    if sk.is_null() {
        return None;
    }
    socket::tcp(sk).filter(|sock| sock.state() != state::LISTEN)
}

/// The sending socket, derived from the packet that caused the reset: the receiver of that packet is the local
/// endpoint.
#[inline(always)]
fn from_packet(sk: *const u8, skb: Typed) -> Option<SocketRecord> {
    let packet = packet::tcp(skb, netns_of_packet(sk, skb))?.endpoints;
    let socket = SocketRecord {
        local_port: packet.remote_port,
        remote_port: packet.local_port,
        local: packet.remote,
        remote: packet.local,
        ..packet
    };
    filter::socket_is_watched(&socket).then_some(socket)
}

/// A packet without a socket still has its device; after a socket accepted it, the device may be cleared.
#[inline(always)]
fn netns_of_packet(sk: *const u8, skb: Typed) -> u32 {
    if sk.is_null() { packet::netns(skb) } else { socket::netns(Typed(sk as u64)) }
}
