//! `cgroup_skb` programs, egress and ingress: HTTP framing of the packets of TCP connections. bpf_loop needs 5.17;
//! mandatory, because without it an outstanding request is unknown.
//!
//! Pure acknowledgements and packets of unwatched sockets are left immediately. Payload is copied into a window on the
//! stack, parsed by `framing` and discarded; no byte of it reaches a map or the ring.
//!
//! What happens once a connection, and what concerns listeners, is in functions of their own: the frames of the deepest
//! chain of calls, each rounded up to 32 bytes before 6.7, must fit in 512 bytes.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_loop, bpf_skb_load_bytes},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use gaia_monitor_abi::{
    HTTP_CLOSE, HTTP_RECEIVED, HTTP_RESPONSE, HttpRecord,
    framing::{Direction, Facts, Flow, MessageKind, Opening, WORD},
};

use super::{
    accept_queue,
    packets::{IPPROTO_TCP, PASS, ip_header, segment},
    socket_state::{self, SocketState},
};
use crate::{
    filter,
    ring::{Wake, emit},
    socket::{self, TcpSock},
};

#[cgroup_skb(egress)]
pub fn http_egress(ctx: SkBuffContext) -> i32 {
    let _ = observe::<true>(ctx.skb.skb);
    PASS
}

#[cgroup_skb(ingress)]
pub fn http_ingress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    if accept_queue::is_for_listener(skb) {
        accept_queue::observe(skb);
    } else {
        let _ = observe::<false>(skb);
    }
    PASS
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
    let raw = unsafe { (*skb).__bindgen_anon_2.sk };
    let sock = socket::of_packet(skb, raw)?;
    let state = match socket_state::find(raw.cast()) {
        // SAFETY: the kernel keeps the entry while this program runs.
        Some(state) if unsafe { (*state).cookie } != 0 => state,
        _ => {
            let opened = open::<OUT>(sock, raw, segment.len);
            if opened.is_null() {
                return None;
            }
            opened
        }
    };
    // SAFETY: as above.
    let (cookie, flow) = unsafe { ((*state).cookie, &raw mut (*state).flow) };
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
        window: [0; WINDOW_WORDS + 1],
    };
    // At most one step for each byte, and one that finds the end. If the kernel inlines the loop, it compares all 64 bits of
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

/// Begins the flow of a watched socket at its first payload of `len` bytes; null if the socket is not watched.
#[inline(never)]
fn open<const OUT: bool>(sock: TcpSock, raw: *mut bpf_sock, len: u32) -> *mut SocketState {
    let Some(socket) = sock.observe() else { return ptr::null_mut() };
    let Some(state) = socket_state::find_or_begin(raw.cast()) else { return ptr::null_mut() };
    let (sent, received) = (sock.sent(), sock.received());
    let first = if OUT { sent <= u64::from(len) } else { sent == 0 };
    let opening = if first && received == 0 {
        Opening::First { direction: direction(OUT), receives_next: sock.receives_next() }
    } else if first && OUT {
        Opening::RequestInHandshake
    } else {
        Opening::Older
    };
    // SAFETY: the kernel keeps the entry while this program runs.
    unsafe {
        (*state).flow = Flow::EMPTY;
        (*state).flow.open(opening, filter::peer_is_remote(&socket));
        (*state).cookie = socket.cookie;
    }
    state
}

/// Mask of the step count; larger than any packet.
const STEPS_MASK: u32 = 0xff_ffff;

/// Number of packet bytes copied at a time.
const WINDOW: u32 = 32;
const WINDOW_WORDS: usize = (WINDOW / WORD) as usize;

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
    /// Words, because the verifier refuses an unaligned access to the stack; the last one stays zero.
    window: [u64; WINDOW_WORDS + 1],
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
        None => match word(walk, position) {
            Some((word, count)) => {
                // SAFETY: the kernel keeps the entry while this program runs.
                let fed = unsafe {
                    if OUT { feed_sent(walk.flow, word, count) } else { feed_received(walk.flow, word, count) }
                };
                position = position.wrapping_add((fed >> 32) as u32);
                Facts::from_bits(fed as u32)
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

/// Feeds bytes to the parser. Returns their number in the upper half, and the facts. A separate global function: the
/// verifier checks it once, for any arguments, instead of once for every path to each call. Inlined in the loop it cost
/// 917,010 of the 1,000,000 instructions that Linux 7.3 allows, and some 700 MB of memory.
///
/// # Safety
/// `flow` must be null or the flow of a socket's state.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn feed_sent(flow: *mut Flow, word: u64, count: u32) -> u64 {
    // SAFETY: required of the caller.
    unsafe { feed(flow, Direction::Out, word, count) }
}

/// As [`feed_sent`], for received bytes.
///
/// # Safety
/// As [`feed_sent`].
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn feed_received(flow: *mut Flow, word: u64, count: u32) -> u64 {
    // SAFETY: see `feed_sent`.
    unsafe { feed(flow, Direction::In, word, count) }
}

/// # Safety
/// As [`feed_sent`].
#[inline(always)]
unsafe fn feed(flow: *mut Flow, direction: Direction, word: u64, count: u32) -> u64 {
    // SAFETY: required of the caller. The verifier requires the null check.
    match unsafe { flow.as_mut() } {
        Some(flow) => {
            let (fed, facts) = flow.feed_word(direction, word, count);
            u64::from(fed) << 32 | u64::from(facts.bits())
        }
        None => 1 << 32,
    }
}

/// Returns up to eight payload bytes from `at` on, the first byte lowest, and their number.
#[inline(always)]
fn word(walk: &mut Walk, at: u32) -> Option<(u64, u32)> {
    let mut index = at.wrapping_sub(walk.window_start);
    if index >= walk.window_len {
        // From 1 to `WINDOW`, which the verifier sees without a comparison. A longer rest is fetched in windows of which
        // the first is partial.
        let left = walk.end.wrapping_sub(at);
        let len = (left.wrapping_sub(1) & (WINDOW - 1)) + 1;
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
        walk.window_len = len;
        walk.window_start = at;
        index = 0;
    }
    let valid = walk.window_len.wrapping_sub(index);
    let first = (index / WORD) as usize & (WINDOW_WORDS - 1);
    let shift = 8 * (index & (WORD - 1));
    // Shifted in two steps, because a shift by the whole width is invalid.
    let word = walk.window[first] >> shift | walk.window[first + 1] << 1 << (63 - shift);
    Some((word, if valid < WORD { valid } else { WORD }))
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
