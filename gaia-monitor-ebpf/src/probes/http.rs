//! HTTP's framing, from the packets of TCP connections (bpf_loop is 5.17's). Without it nobody knows whether an answer was
//! owed.
//!
//! Acknowledgements and sockets of no interest leave at once. Payload is read into a window on the stack, goes through
//! `framing` and is forgotten; no byte of it reaches a map or the ring.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{__sk_buff, BPF_NOEXIST},
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_loop, bpf_skb_load_bytes},
    macros::{cgroup_skb, map},
    maps::LruHashMap,
    programs::SkBuffContext,
};
use gaia_monitor_abi::{
    HTTP_ANSWER, HTTP_CLOSE, HTTP_RECEIVED, HttpRecord,
    framing::{Direction, Facts, Flow, Opening, Way},
};

use super::{
    backlog,
    packets::{IPPROTO_TCP, PASS, Segment, ip_header, segment},
};
use crate::{
    filter,
    ring::{Wake, emit},
    socket::{self, TcpSock},
};

/// By socket cookie. When it overflows, a connection that was silent for long is followed from its next request on.
#[map]
static FLOWS: LruHashMap<u64, Flow> = LruHashMap::with_max_entries(65_536, 0);

/// What a flow is made from: too large for the stack.
static BLANK: Flow = Flow::EMPTY;

#[cgroup_skb(egress)]
pub fn http_egress(ctx: SkBuffContext) -> i32 {
    let _ = observe::<true>(ctx.skb.skb);
    PASS
}

#[cgroup_skb(ingress)]
pub fn http_ingress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    let _ = if backlog::is_for_listener(skb) { backlog::observe(skb) } else { observe::<false>(skb) };
    PASS
}

/// When a socket last sent payload, and last got some; 0: not seen.
#[inline(always)]
pub fn last_payload(cookie: u64) -> (u64, u64) {
    match FLOWS.get_ptr(cookie) {
        // SAFETY: the kernel keeps the entry while this program runs.
        Some(flow) => unsafe { ((*flow).last_sent_ns, (*flow).last_received_ns) },
        None => (0, 0),
    }
}

/// The connection is over.
#[inline(always)]
pub fn forget(cookie: u64) {
    let _ = FLOWS.remove(cookie);
}

const fn way(out: bool) -> Way {
    if out { Way::Out } else { Way::In }
}

/// A segment leaves (`OUT`) or arrives.
#[inline(always)]
fn observe<const OUT: bool>(skb: *mut __sk_buff) -> Option<()> {
    let header = ip_header(skb).filter(|header| header.protocol == IPPROTO_TCP)?;
    let segment = segment(skb, &header)?;
    // SAFETY: the verifier knows the context and its union of one pointer.
    let sock = socket::of_packet(skb, unsafe { (*skb).__bindgen_anon_2.sk })?;
    let cookie = sock.cookie();
    let flow = match FLOWS.get_ptr_mut(cookie) {
        Some(flow) => flow,
        None => open::<OUT>(sock, cookie, &segment)?,
    };
    // SAFETY: the kernel keeps the entry while this program runs. The other way may run at the same time on another
    // processor, and touches other fields (see `framing::Exchange`).
    let entry = unsafe { &mut *flow };
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if OUT {
        entry.last_sent_ns = now;
    } else if segment.seq.wrapping_add(segment.len).wrapping_sub(sock.receives_next()) as i32 > 0 {
        // What is sent again although it had arrived is nothing new: the other end did not get the acknowledgement.
        entry.last_received_ns = now;
    }
    let (start, facts) = entry.admit(way(OUT), segment.seq, segment.len);
    let Some(start) = start else {
        tell::<OUT>(entry, cookie, facts);
        return Some(());
    };
    let mut walk = Walk {
        skb,
        flow,
        cookie,
        payload: segment.payload,
        position: start,
        end: segment.len,
        facts: facts.bits(),
        window_start: 0,
        window_len: 0,
        window: [0; WINDOW as usize],
    };
    // One step a byte at most, and one that finds the end. Where the kernel writes the loop out itself it compares all 64
    // bits of this number (kernel/bpf/verifier.c, `inline_bpf_loop`), and the compiler leaves the upper ones as they are.
    let steps = segment.len.wrapping_add(1) & STEPS_MASK;
    // SAFETY: the callback gets this structure, and it outlives the loop.
    unsafe {
        bpf_loop(steps, step::<OUT> as *mut c_void, ptr::from_mut(&mut walk).cast(), 0);
    }
    let entry = unsafe { &mut *flow };
    let mut facts = Facts::from_bits(walk.facts);
    if facts.ends_message() {
        tell::<OUT>(entry, cookie, facts);
        facts = Facts::NONE;
    }
    let facts = facts.and(entry.pause(way(OUT)));
    tell::<OUT>(entry, cookie, facts);
    Some(())
}

#[inline(always)]
fn open<const OUT: bool>(sock: TcpSock, cookie: u64, segment: &Segment) -> Option<*mut Flow> {
    let socket = sock.observe()?;
    let (sent, received) = (sock.sent(), sock.received());
    let first = if OUT { sent <= u64::from(segment.len) } else { sent == 0 };
    let opening = if first && received == 0 {
        Opening::First { way: way(OUT), receives_next: sock.receives_next() }
    } else if first && OUT {
        Opening::Answer
    } else {
        Opening::Older
    };
    let _ = FLOWS.insert(cookie, &BLANK, u64::from(BPF_NOEXIST));
    let flow = FLOWS.get_ptr_mut(cookie)?;
    // SAFETY: the kernel keeps the entry while this program runs.
    unsafe { (*flow).open(opening, filter::peer_is_outside(&socket)) };
    Some(flow)
}

/// More steps than a packet has bytes.
const STEPS_MASK: u32 = 0xff_ffff;

/// Bytes that one look at the packet fetches.
const WINDOW: u32 = 64;

/// What the loop over a packet's bytes carries.
struct Walk {
    skb: *mut __sk_buff,
    flow: *mut Flow,
    cookie: u64,
    payload: u32,
    position: u32,
    end: u32,
    facts: u32,
    window_start: u32,
    window_len: u32,
    window: [u8; WINDOW as usize],
}

unsafe extern "C" fn step<const OUT: bool>(_index: u64, walk: *mut c_void) -> i64 {
    // SAFETY: `observe` hands it over.
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    // SAFETY: as in `observe`.
    let flow = unsafe { &mut *walk.flow };
    let mut position = walk.position;
    if position >= walk.end {
        return 1;
    }
    let mut facts = Facts::from_bits(walk.facts);
    if facts.ends_message() {
        tell::<OUT>(flow, walk.cookie, facts);
        facts = Facts::NONE;
    }
    let end = walk.end;
    let told = match flow.leap(way(OUT), &mut position, end) {
        Some(told) => told,
        None => match byte(walk, position) {
            Some(byte) => {
                position = position.wrapping_add(1);
                // SAFETY: the kernel keeps the entry while this program runs.
                Facts::from_bits(unsafe { if OUT { eat_sent(walk.flow, byte) } else { eat_received(walk.flow, byte) } })
            }
            None => {
                position = end;
                flow.eat(way(OUT), None)
            }
        },
    };
    walk.position = position;
    walk.facts = facts.and(told).bits();
    0
}

/// One byte through the automaton. A function of its own, and a global one: the kernel's verifier walks such a function
/// once, for any arguments, and not once for every way to each of its calls. Written out in the loop it took Linux 7.3
/// 917,010 of the 1,000,000 instructions that it grants, and some 700 MB meanwhile; so it takes 101,348.
///
/// # Safety
/// `flow` must be null or an entry of [`FLOWS`].
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn eat_sent(flow: *mut Flow, byte: u8) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { eat(flow, Way::Out, byte) }
}

/// As [`eat_sent`], for what arrives.
///
/// # Safety
/// As there.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn eat_received(flow: *mut Flow, byte: u8) -> u32 {
    // SAFETY: as there.
    unsafe { eat(flow, Way::In, byte) }
}

/// # Safety
/// As [`eat_sent`].
#[inline(always)]
unsafe fn eat(flow: *mut Flow, way: Way, byte: u8) -> u32 {
    // SAFETY: the caller's promise. The verifier wants to see that it is not null.
    match unsafe { flow.as_mut() } {
        Some(flow) => flow.eat(way, Some(byte)).bits(),
        None => 0,
    }
}

/// The payload's byte at `at`.
#[inline(always)]
fn byte(walk: &mut Walk, at: u32) -> Option<u8> {
    let mut index = at.wrapping_sub(walk.window_start);
    if index >= walk.window_len {
        let left = walk.end.wrapping_sub(at);
        walk.window_len = if left < WINDOW { left } else { WINDOW };
        // Volatile, so that the compiler forgets what it knows and compares the number that the helper gets: the verifier
        // wants to see that.
        // SAFETY: a reference to an initialised number.
        let len = unsafe { ptr::read_volatile(&raw const walk.window_len) };
        if len == 0 || len > WINDOW {
            return None;
        }
        // SAFETY: the window is as long as `len` at least.
        let result = unsafe {
            bpf_skb_load_bytes(
                walk.skb.cast::<c_void>(),
                walk.payload.wrapping_add(at),
                walk.window.as_mut_ptr().cast(),
                len,
            )
        };
        if result != 0 {
            return None;
        }
        walk.window_start = at;
        index = 0;
    }
    walk.window.get((index & (WINDOW - 1)) as usize).copied()
}

/// What a socket of this host sent is not told again where it arrives.
#[inline(always)]
fn tell<const OUT: bool>(flow: &Flow, cookie: u64, facts: Facts) {
    if facts.is_empty() || !flow.tells(way(OUT)) {
        return;
    }
    let messages = flow.messages(way(OUT));
    let mut flags = match messages.direction() {
        Direction::Requests => 0,
        Direction::Answers => HTTP_ANSWER,
    };
    if messages.closes() {
        flags |= HTTP_CLOSE;
    }
    if !OUT {
        flags |= HTTP_RECEIVED;
    }
    let wake = if facts.has(Facts::MALFORMED) { Wake::Now } else { Wake::Later };
    emit::<HttpRecord>(wake, |event| {
        event.cookie = cookie;
        event.length = messages.body().bytes();
        event.facts = facts.bits();
        event.status = messages.status();
        event.body = messages.body().kind();
        event.flags = flags;
    });
}
