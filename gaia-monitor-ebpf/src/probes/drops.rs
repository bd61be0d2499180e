//! Packets that never arrive, and refusals by a packet filter.
//!
//! * `skb:kfree_skb(skb, location, reason, rx_sk)`: the reason is there from 5.17, `rx_sk` (unused here) from 6.12. Without it
//!   a dropped packet shows as silence.
//! * `icmp:icmp_send(skb, type, code)`: 6.10 and newer, IPv4 only. Without it a refusal by ICMP is told by the client's error.
//! * `tcp:tcp_retransmit_skb(sk, skb)`: 4.16 and newer. A packet that this namespace's own filter dropped shows here from
//!   6.18 only.
//!
//! kfree_skb fires for every packet that the kernel throws away, the host's own and the most ordinary ones (an old
//! acknowledgement) among them: the reason is looked up before anything else is read.

use aya_ebpf::{
    helpers::generated::bpf_ktime_get_boot_ns,
    macros::{btf_tracepoint, map},
    maps::LruHashMap,
    programs::BtfTracePointContext,
};
use gaia_monitor_abi::{DROP_REASONS, DroppedRecord, IcmpSentRecord, RetransmittedRecord};

use crate::{
    filter,
    kernel::Typed,
    packet,
    ring::{Wake, emit},
    socket,
};

/// By reason: 1 if it is wanted. Filled by the loader, which knows the running kernel's names.
#[unsafe(no_mangle)]
pub static WANTED_REASONS: [u8; DROP_REASONS] = [0; DROP_REASONS];

/// "Destination unreachable" (RFC 792).
const UNREACHABLE: u32 = 3;

/// Least time between two retransmissions of one socket that are told. The kernel's own timer waits for 200 ms at least
/// (TCP_RTO_MIN), so nothing of a connection that stands still is left out, and a burst of fast retransmissions costs little.
const RETRANSMITTED_EVERY_NS: u64 = 100_000_000;

/// When a retransmission of a socket was last told, by cookie. When it overflows, a burst is told again.
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
    if reason >= DROP_REASONS as u32 {
        return false;
    }
    // SAFETY: inside the table, by the comparison above. Volatile, because the compiler must not fold the zeros that the
    // object carries.
    unsafe { core::ptr::read_volatile((&raw const WANTED_REASONS).cast::<u8>().add(reason as usize)) != 0 }
}

#[inline(always)]
fn observe_dropped(ctx: &BtfTracePointContext, reason: u32) -> Option<()> {
    let skb = Typed(ctx.arg(0));
    let netns = packet::netns(skb);
    let found = packet::tcp(skb, netns)?;
    if !filter::socket_is_watched(&found.ends) {
        return None;
    }
    let hook = packet::hook(skb, netns);
    emit::<DroppedRecord>(Wake::Later, |event| {
        event.packet = found.ends;
        event.reason = reason;
        event.hook = hook;
        event.seq = found.seq;
        event.flags = found.flags;
        event.payload = found.payload;
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
    let found = packet::tcp(skb, packet::netns(skb))?;
    if !filter::socket_is_watched(&found.ends) {
        return None;
    }
    emit::<IcmpSentRecord>(Wake::Later, |event| {
        event.packet = found.ends;
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
    // SAFETY: the value is copied at once.
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
