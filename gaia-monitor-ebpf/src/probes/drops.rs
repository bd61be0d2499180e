//! Dropped, rejected and retransmitted TCP packets.
//!
//! * `skb:kfree_skb(skb, location, reason, rx_sk)`: `reason` exists from 5.17, `rx_sk` (unused) from 6.12. Without the
//!   event a dropped packet is visible only as silence.
//! * `icmp:icmp_send(skb, type, code)`: 6.10 and newer, IPv4 only. Without it a rejection by ICMP is inferred from the
//!   client's error.
//! * `tcp:tcp_retransmit_skb(sk, skb)`: 4.16 and newer. Retransmissions dropped by the output filter of the same
//!   namespace are reported from 6.18 only.
//!
//! kfree_skb fires for every dropped packet, including routine drops such as an old acknowledgement and traffic of the
//! host. The reason is therefore checked before anything else is read.

use aya_ebpf::{
    helpers::generated::bpf_ktime_get_boot_ns,
    macros::{btf_tracepoint, map},
    maps::{HashMap, LruHashMap},
    programs::BtfTracePointContext,
};
use gaia_monitor_abi::{IcmpSentRecord, PacketDroppedRecord, RetransmittedRecord};

use crate::{
    filter,
    kernel::Typed,
    packet,
    ring::{Wake, emit},
    socket,
};

/// The drop reasons that are reported. Filled by the loader, which reads the names of the running kernel's reasons. A
/// set, because the number of a reason begins with that of its subsystem (include/net/dropreason.h).
#[map]
static WANTED_REASONS: HashMap<u32, u8> = HashMap::with_max_entries(1_024, 0);

/// ICMP type "destination unreachable" (RFC 792).
const UNREACHABLE: u32 = 3;

/// Minimum interval between two reported retransmissions of one socket. The retransmission timer of the kernel is at
/// least 200 ms (TCP_RTO_MIN), so every timeout of a stalled connection is reported, while bursts of fast
/// retransmissions are not.
const RETRANSMITTED_EVERY_NS: u64 = 100_000_000;

/// Boot time of the last reported retransmission, by socket cookie. On overflow the least recently used entry is
/// evicted, and a burst may be reported twice.
#[map]
static RETRANSMITTED: LruHashMap<u64, u64> = LruHashMap::with_max_entries(16_384, 0);

#[btf_tracepoint(function = "kfree_skb")]
pub fn packet_dropped(ctx: BtfTracePointContext) -> i32 {
    let reason: u32 = ctx.arg(2);
    if is_wanted(reason) {
        let _ = observe_dropped(&ctx, reason);
    }
    0
}

#[inline(always)]
fn is_wanted(reason: u32) -> bool {
    // SAFETY: the value is not read.
    unsafe { WANTED_REASONS.get(reason) }.is_some()
}

#[inline(always)]
fn observe_dropped(ctx: &BtfTracePointContext, reason: u32) -> Option<()> {
    let skb = Typed(ctx.arg(0));
    let netns = packet::netns(skb);
    let packet = packet::tcp(skb, netns)?;
    if !filter::socket_is_watched(&packet.endpoints) {
        return None;
    }
    let hook = packet::hook(skb, netns);
    emit::<PacketDroppedRecord>(Wake::Later, |event| {
        event.packet = packet.endpoints;
        event.reason = reason;
        event.hook = hook;
        event.seq = packet.seq;
        event.flags = packet.flags;
        event.payload = packet.payload;
        event.reserved = 0;
    });
    Some(())
}

#[btf_tracepoint(function = "icmp_send")]
pub fn icmp_sent(ctx: BtfTracePointContext) -> i32 {
    let _ = observe_icmp(&ctx);
    0
}

#[inline(always)]
fn observe_icmp(ctx: &BtfTracePointContext) -> Option<()> {
    let (kind, code): (u32, u32) = (ctx.arg(1), ctx.arg(2));
    if kind != UNREACHABLE {
        return None;
    }
    let skb = Typed(ctx.arg(0));
    let packet = packet::tcp(skb, packet::netns(skb))?;
    if !filter::socket_is_watched(&packet.endpoints) {
        return None;
    }
    emit::<IcmpSentRecord>(Wake::Later, |event| {
        event.packet = packet.endpoints;
        event.code = code;
        event.reserved = 0;
    });
    Some(())
}

#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub fn retransmitted(ctx: BtfTracePointContext) -> i32 {
    let _ = observe_retransmitted(&ctx);
    0
}

#[inline(always)]
fn observe_retransmitted(ctx: &BtfTracePointContext) -> Option<()> {
    let sock = socket::tcp(ctx.arg(0))?;
    let record = sock.observe()?;
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // SAFETY: the value is copied immediately.
    let last = unsafe { RETRANSMITTED.get(record.cookie) }.copied();
    if last.is_some_and(|last| now.wrapping_sub(last) < RETRANSMITTED_EVERY_NS) {
        return None;
    }
    let _ = RETRANSMITTED.insert(record.cookie, now, 0);
    let state = u32::from(sock.state());
    emit::<RetransmittedRecord>(Wake::Later, |event| {
        event.socket = record;
        event.state = state;
        event.reserved = 0;
    });
    Some(())
}
