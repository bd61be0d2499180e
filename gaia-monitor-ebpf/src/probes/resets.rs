//! `tcp:tcp_receive_reset(sk)` (4.16 and newer) and `tcp:tcp_send_reset(sk, skb, reason)`; the reason is there from 6.10.
//!
//! The sender's socket may be missing (nobody listens), a listener, a request or a TIME_WAIT socket: then the packet that
//! is answered says who speaks to whom, and the record has no cookie. Without a packet the reset is active: sent by the
//! socket's own close. Up to 6.9 a closed port's reset is not told, because the event needs a socket there.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use gaia_monitor_abi::{AF_INET, AF_INET6, NO_REASON, ResetReceivedRecord, ResetSentRecord, SocketRecord};

use crate::{
    filter,
    kernel::{Raw, Typed, layout, netns_of},
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
    let head = Raw(skb.load(layout!(skb_head)));
    let network = head.at(skb.load::<u16>(layout!(skb_network_header)) as u32);
    let transport = head.at(skb.load::<u16>(layout!(skb_transport_header)) as u32);
    let version = network.read::<u8>(0)? >> 4;
    let mut socket = SocketRecord {
        cookie: 0,
        cgroup: 0,
        netns: netns_of_packet(sk, skb),
        family: AF_INET,
        local_port: u16::from_be(transport.read(tcp::DESTINATION)?),
        remote_port: u16::from_be(transport.read(tcp::SOURCE)?),
        reserved: 0,
        local: [0; 16],
        remote: [0; 16],
    };
    if version == 4 {
        let local = network.read::<u32>(ipv4::DESTINATION)?.to_ne_bytes();
        let remote = network.read::<u32>(ipv4::SOURCE)?.to_ne_bytes();
        socket.local[..4].copy_from_slice(&local);
        socket.remote[..4].copy_from_slice(&remote);
    } else if version == 6 {
        socket.family = AF_INET6;
        network.copy(ipv6::DESTINATION, &mut socket.local)?;
        network.copy(ipv6::SOURCE, &mut socket.remote)?;
    } else {
        return None;
    }
    filter::socket_is_watched(&socket).then_some(socket)
}

/// A packet that no socket took still has its device; one that a socket took may have lost it.
#[inline(always)]
fn netns_of_packet(sk: *const u8, skb: Typed) -> u32 {
    if sk.is_null() {
        netns_of(skb.follow(layout!(skb_dev)).follow(layout!(dev_net)))
    } else {
        socket::netns(Typed(sk as u64))
    }
}

/// Offsets in packets, by RFC 9293, 791 and 8200.
mod tcp {
    pub const SOURCE: u32 = 0;
    pub const DESTINATION: u32 = 2;
}

mod ipv4 {
    pub const SOURCE: u32 = 12;
    pub const DESTINATION: u32 = 16;
}

mod ipv6 {
    pub const SOURCE: u32 = 8;
    pub const DESTINATION: u32 = 24;
}
