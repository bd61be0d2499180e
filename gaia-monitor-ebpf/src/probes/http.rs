//! `cgroup_skb` programs, egress and ingress: HTTP framing of the packets of TCP connections. bpf_loop needs 5.17;
//! mandatory, because without it an outstanding request is unknown.
//!
//! Pure acknowledgements and packets of unwatched sockets are left immediately. Payload is copied into a window on the
//! stack, parsed by `framing` and discarded; no byte of it reaches a map or the ring.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{__sk_buff, BPF_NOEXIST},
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_loop, bpf_skb_load_bytes},
    macros::{cgroup_skb, map},
    maps::LruHashMap,
    programs::SkBuffContext,
};
use gaia_monitor_abi::{
    HTTP_CLOSE, HTTP_RECEIVED, HTTP_RESPONSE, HttpRecord,
    framing::{Direction, Facts, Flow, MessageKind, Opening},
};

use super::{
    accept_queue,
    packets::{IPPROTO_TCP, PASS, Segment, ip_header, segment},
};
use crate::{
    filter,
    ring::{Wake, emit},
    socket::{self, TcpSock},
};

/// Flows by socket cookie. On overflow the least recently used entry is evicted, and its connection is followed again
/// from its next request.
#[map]
static FLOWS: LruHashMap<u64, Flow> = LruHashMap::with_max_entries(65_536, 0);

/// Initial value of a flow: too large for the stack.
static BLANK: Flow = Flow::EMPTY;

#[cgroup_skb(egress)]
pub fn http_egress(ctx: SkBuffContext) -> i32 {
    let _ = observe::<true>(ctx.skb.skb);
    PASS
}

#[cgroup_skb(ingress)]
pub fn http_ingress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    let _ = if accept_queue::is_for_listener(skb) { accept_queue::observe(skb) } else { observe::<false>(skb) };
    PASS
}

/// Boot times at which a socket last sent and last received payload; 0: not seen.
#[inline(always)]
pub fn last_payload(cookie: u64) -> (u64, u64) {
    match FLOWS.get_ptr(cookie) {
        // SAFETY: the kernel keeps the entry while this program runs.
        Some(flow) => unsafe { ((*flow).last_sent_ns, (*flow).last_received_ns) },
        None => (0, 0),
    }
}

/// Removes the flow of a closed connection.
#[inline(always)]
pub fn forget(cookie: u64) {
    let _ = FLOWS.remove(cookie);
}

const fn direction(out: bool) -> Direction {
    if out { Direction::Out } else { Direction::In }
}

/// Handles a segment that leaves (`OUT`) or arrives.
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
    // SAFETY: the kernel keeps the entry while this program runs. The other direction may run at the same time on
    // another processor, and writes other fields (see `framing::Outstanding`).
    let entry = unsafe { &mut *flow };
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if OUT {
        entry.last_sent_ns = now;
    } else if segment.seq.wrapping_add(segment.len).wrapping_sub(sock.receives_next()) as i32 > 0 {
        // A retransmission of received data is not new payload: only its acknowledgement was lost.
        entry.last_received_ns = now;
    }
    let (start, facts) = entry.accept_segment(direction(OUT), segment.seq, segment.len);
    let Some(start) = start else {
        report::<OUT>(entry, cookie, facts);
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
    // At most one step per byte, and one that finds the end. If the kernel inlines the loop, it compares all 64 bits of
    // this number (kernel/bpf/verifier.c, `inline_bpf_loop`), and the compiler does not clear the upper ones.
    let steps = segment.len.wrapping_add(1) & STEPS_MASK;
    // SAFETY: the callback receives this structure, which outlives the loop.
    unsafe {
        bpf_loop(steps, step::<OUT> as *mut c_void, ptr::from_mut(&mut walk).cast(), 0);
    }
    let entry = unsafe { &mut *flow };
    let mut facts = Facts::from_bits(walk.facts);
    if facts.ends_message() {
        report::<OUT>(entry, cookie, facts);
        facts = Facts::NONE;
    }
    let facts = facts.and(entry.end_segment(direction(OUT)));
    report::<OUT>(entry, cookie, facts);
    Some(())
}

#[inline(always)]
fn open<const OUT: bool>(sock: TcpSock, cookie: u64, segment: &Segment) -> Option<*mut Flow> {
    let socket = sock.observe()?;
    let (sent, received) = (sock.sent(), sock.received());
    let first = if OUT { sent <= u64::from(segment.len) } else { sent == 0 };
    let opening = if first && received == 0 {
        Opening::First { direction: direction(OUT), receives_next: sock.receives_next() }
    } else if first && OUT {
        Opening::RequestInHandshake
    } else {
        Opening::Older
    };
    let _ = FLOWS.insert(cookie, &BLANK, u64::from(BPF_NOEXIST));
    let flow = FLOWS.get_ptr_mut(cookie)?;
    // SAFETY: the kernel keeps the entry while this program runs.
    unsafe { (*flow).open(opening, filter::peer_is_remote(&socket)) };
    Some(flow)
}

/// Mask of the step count; larger than any packet.
const STEPS_MASK: u32 = 0xff_ffff;

/// Number of packet bytes copied at a time.
const WINDOW: u32 = 64;

/// State of the loop over the bytes of a packet.
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
    // SAFETY: `observe` passes this structure.
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    // SAFETY: as in `observe`.
    let flow = unsafe { &mut *walk.flow };
    let mut position = walk.position;
    if position >= walk.end {
        return 1;
    }
    let mut facts = Facts::from_bits(walk.facts);
    if facts.ends_message() {
        report::<OUT>(flow, walk.cookie, facts);
        facts = Facts::NONE;
    }
    let end = walk.end;
    let step_facts = match flow.skip_body(direction(OUT), &mut position, end) {
        Some(facts) => facts,
        None => match byte(walk, position) {
            Some(byte) => {
                position = position.wrapping_add(1);
                // SAFETY: the kernel keeps the entry while this program runs.
                Facts::from_bits(unsafe {
                    if OUT { feed_sent(walk.flow, byte) } else { feed_received(walk.flow, byte) }
                })
            }
            None => {
                position = end;
                flow.feed(direction(OUT), None)
            }
        },
    };
    walk.position = position;
    walk.facts = facts.and(step_facts).bits();
    0
}

/// Feeds one byte to the parser. A separate global function: the verifier checks it once, for any arguments, instead of
/// once for every path to each call. Inlined in the loop it cost 917,010 of the 1,000,000 instructions that Linux 7.3
/// allows, and some 700 MB of memory; separate it costs 101,348.
///
/// # Safety
/// `flow` must be null or an entry of [`FLOWS`].
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn feed_sent(flow: *mut Flow, byte: u8) -> u32 {
    // SAFETY: required of the caller.
    unsafe { feed(flow, Direction::Out, byte) }
}

/// As [`feed_sent`], for received bytes.
///
/// # Safety
/// As [`feed_sent`].
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn feed_received(flow: *mut Flow, byte: u8) -> u32 {
    // SAFETY: see `feed_sent`.
    unsafe { feed(flow, Direction::In, byte) }
}

/// # Safety
/// As [`feed_sent`].
#[inline(always)]
unsafe fn feed(flow: *mut Flow, direction: Direction, byte: u8) -> u32 {
    // SAFETY: required of the caller. The verifier requires the null check.
    match unsafe { flow.as_mut() } {
        Some(flow) => flow.feed(direction, Some(byte)).bits(),
        None => 0,
    }
}

/// Returns the payload byte at `at`.
#[inline(always)]
fn byte(walk: &mut Walk, at: u32) -> Option<u8> {
    let mut index = at.wrapping_sub(walk.window_start);
    if index >= walk.window_len {
        let left = walk.end.wrapping_sub(at);
        walk.window_len = if left < WINDOW { left } else { WINDOW };
        // Volatile, so that the compiler keeps the comparison of the number passed to the helper: the verifier requires
        // it.
        // SAFETY: a reference to an initialised number.
        let len = unsafe { ptr::read_volatile(&raw const walk.window_len) };
        if len == 0 || len > WINDOW {
            return None;
        }
        // SAFETY: the window has at least `len` bytes.
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

/// Emits the facts, unless the peer's socket on this host reports them.
#[inline(always)]
fn report<const OUT: bool>(flow: &Flow, cookie: u64, facts: Facts) {
    if facts.is_empty() || !flow.reports(direction(OUT)) {
        return;
    }
    let parser = flow.parser(direction(OUT));
    let mut flags = match parser.kind() {
        MessageKind::Request => 0,
        MessageKind::Response => HTTP_RESPONSE,
    };
    if parser.closes() {
        flags |= HTTP_CLOSE;
    }
    if !OUT {
        flags |= HTTP_RECEIVED;
    }
    let wake = if facts.has(Facts::MALFORMED) { Wake::Now } else { Wake::Later };
    emit::<HttpRecord>(wake, |event| {
        event.cookie = cookie;
        event.length = parser.body().bytes();
        event.facts = facts.bits();
        event.status = parser.status();
        event.body = parser.body().number();
        event.flags = flags;
    });
}
