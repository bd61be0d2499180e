//! What containers ask their name server and are told: at the asking socket, out and in, by UDP and, where a message is
//! one segment, by TCP. Programs of their own beside `http`'s, because both together would not fit on the stack. `BPF_CGROUP_INET_SOCK_RELEASE` (5.9 and newer) tells that a socket closed with a question open.
//!
//! Inside a container the embedded name server is asked at 127.0.0.11:53, which netfilter turns into another port before
//! this program sees the packet leave; what comes back bears port 53 again. Any other server is known by the port. A
//! question counts if its asker's process is a container's: the embedded server's own questions upstream leave the same
//! namespace, and are dockerd's. An answer counts if its question did. Messages hold names and addresses only; of a long
//! one the beginning is told.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_get_socket_cookie, bpf_skb_cgroup_id, bpf_skb_load_bytes},
    macros::{cgroup_skb, cgroup_sock, map},
    maps::LruHashMap,
    programs::{SkBuffContext, SockContext},
};
use gaia_monitor_abi::{
    AF_INET, AF_INET6, DNS_ANSWER, DNS_CLOSED, DNS_LEN, DNS_QUESTION, DnsRecord, SocketRecord, TaskRecord,
};

use super::packets::{IPPROTO_TCP, IPPROTO_UDP, IpHeader, PASS, Segment, direct, ip_header, segment};
use crate::{
    filter,
    kernel::layout,
    ring::{Wake, emit},
    task,
};

/// The monitor's own process in the initial pid namespace: what it asks is nobody's look-up.
#[unsafe(no_mangle)]
static OWN_TGID: u32 = 0;

const PORT: u16 = 53;
/// Docker's embedded name server, in network order.
const EMBEDDED: [u8; 4] = [127, 0, 0, 11];
const UDP_LEN: u32 = 8;
/// Before each message over TCP: its length.
const PREFIX_LEN: u32 = 2;

/// A message's header (RFC 1035, 4.1.1): its length, and what is read of it.
const HEADER_LEN: u32 = 12;
const FLAGS: usize = 2;
const CODES: usize = 3;
const QUESTIONS: usize = 4;
const IS_ANSWER: u8 = 0x80;
const OPCODE: u8 = 0x78;
const RCODE: u8 = 0x0f;

/// A socket with questions.
#[derive(Clone, Copy)]
#[repr(C)]
struct Asker {
    cgroup: u64,
    netns: u32,
    /// Questions without an answer.
    open: u32,
}

/// By socket cookie. When it overflows, the answers to the least recent asker are not told.
#[map]
static ASKERS: LruHashMap<u64, Asker> = LruHashMap::with_max_entries(16_384, 0);

#[cgroup_skb(egress)]
pub fn dns_egress(ctx: SkBuffContext) -> i32 {
    let _ = observe::<true>(ctx.skb.skb);
    PASS
}

#[cgroup_skb(ingress)]
pub fn dns_ingress(ctx: SkBuffContext) -> i32 {
    let _ = observe::<false>(ctx.skb.skb);
    PASS
}

/// A packet leaves (`OUT`) or arrives.
#[inline(always)]
fn observe<const OUT: bool>(skb: *mut __sk_buff) -> Option<()> {
    let header = ip_header(skb)?;
    let udp = header.protocol == IPPROTO_UDP;
    if (!udp && header.protocol != IPPROTO_TCP) || !is_name_servers::<OUT>(skb, &header)? {
        return None;
    }
    let start = if udp { header.len + UDP_LEN } else { whole_message(skb, &segment(skb, &header)?)? };
    message::<OUT>(skb, &header, start)
}

/// Does the packet go to a name server, or come from one?
#[inline(always)]
fn is_name_servers<const OUT: bool>(skb: *mut __sk_buff, header: &IpHeader) -> Option<bool> {
    let port: u16 = direct(skb, header.len + if OUT { 2 } else { 0 })?;
    if u16::from_be(port) == PORT {
        return Some(true);
    }
    if header.v6 {
        return Some(false);
    }
    let server: [u8; 4] = direct(skb, if OUT { ipv4::DESTINATION } else { ipv4::SOURCE })?;
    Some(u32::from_ne_bytes(server) == u32::from_ne_bytes(EMBEDDED))
}

/// Where a message over TCP begins that begins and ends with its segment; any other is left out.
#[inline(always)]
fn whole_message(skb: *mut __sk_buff, segment: &Segment) -> Option<u32> {
    let mut len = [0; PREFIX_LEN as usize];
    load(skb, segment.payload, &mut len)?;
    let whole = u32::from(u16::from_be_bytes(len)) + PREFIX_LEN == segment.len;
    whole.then_some(segment.payload + PREFIX_LEN)
}

#[inline(always)]
fn message<const OUT: bool>(skb: *mut __sk_buff, header: &IpHeader, start: u32) -> Option<()> {
    // SAFETY: a field of the context.
    let whole = unsafe { (*skb).len };
    let mut head = [0_u8; HEADER_LEN as usize];
    load(skb, start, &mut head)?;
    let answers = head[FLAGS] & IS_ANSWER != 0;
    let questions = u16::from_be_bytes([head[QUESTIONS], head[QUESTIONS + 1]]);
    if answers == OUT || head[FLAGS] & OPCODE != 0 || questions != 1 {
        return None;
    }
    // SAFETY: the context names the packet's socket.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    let asker = if OUT { asked(skb, cookie)? } else { answered(cookie)? };
    let wake = if answers && head[CODES] & RCODE != 0 { Wake::Now } else { Wake::Later };
    emit::<DnsRecord>(wake, |event| {
        event.what = if OUT { DNS_QUESTION } else { DNS_ANSWER };
        event.task = if OUT { task::witness() } else { NOBODY };
        event.socket.cookie = cookie;
        event.socket.cgroup = asker.cgroup;
        event.socket.netns = asker.netns;
        socket::<OUT>(skb, header, &mut event.socket);
        event.len = copy(skb, start, whole.wrapping_sub(start), event.message.as_mut_ptr());
    });
    Some(())
}

const NOBODY: TaskRecord = TaskRecord { tgid: 0, exiting: 0, comm: [0; 16] };

/// A question leaves, in its asker's context: is it a container's?
#[inline(always)]
fn asked(skb: *mut __sk_buff, cookie: u64) -> Option<Asker> {
    let process = task::process(task::current());
    // SAFETY: a reference to an initialised static.
    let own = unsafe { ptr::read_volatile(&raw const OWN_TGID) };
    if process.pid == own || !task::is_contained(&process) {
        return None;
    }
    if process.netns == layout!(host_netns) && !filter::cgroup_is_watched(process.cgroup) {
        return None;
    }
    let before = match ASKERS.get_ptr(cookie) {
        // SAFETY: the kernel keeps the entry while this program runs.
        Some(asker) => unsafe { (*asker).open },
        None => 0,
    };
    // SAFETY: the context names the packet's socket.
    let cgroup = unsafe { bpf_skb_cgroup_id(skb) };
    let asker = Asker { cgroup, netns: process.netns, open: before.wrapping_add(1) };
    let _ = ASKERS.insert(cookie, &asker, 0);
    Some(asker)
}

/// An answer came: to a question that counted?
#[inline(always)]
fn answered(cookie: u64) -> Option<Asker> {
    let asker = ASKERS.get_ptr_mut(cookie)?;
    // SAFETY: the kernel keeps the entry while this program runs. Two answers at once may lose a count: then the socket's
    // closing is told although nothing was open, which user space knows better.
    unsafe {
        if (*asker).open > 0 {
            (*asker).open -= 1;
        }
        Some(*asker)
    }
}

/// Where the asking socket is bound and whom it asks, by the packet: a UDP socket need be neither bound nor connected.
#[inline(always)]
fn socket<const OUT: bool>(skb: *mut __sk_buff, header: &IpHeader, socket: &mut SocketRecord) {
    let mut ports = [0; 4];
    let _ = load(skb, header.len, &mut ports);
    let source = u16::from_be_bytes([ports[0], ports[1]]);
    let destination = u16::from_be_bytes([ports[2], ports[3]]);
    socket.family = if header.v6 { AF_INET6 } else { AF_INET };
    socket.reserved = 0;
    (socket.local_port, socket.remote_port) = if OUT { (source, destination) } else { (destination, source) };
    let (from, to) =
        if OUT { (&mut socket.local, &mut socket.remote) } else { (&mut socket.remote, &mut socket.local) };
    if header.v6 {
        let _ = load(skb, ipv6::SOURCE, from);
        let _ = load(skb, ipv6::DESTINATION, to);
    } else {
        *from = [0; 16];
        *to = [0; 16];
        let _ = load(skb, ipv4::SOURCE, first_four(from));
        let _ = load(skb, ipv4::DESTINATION, first_four(to));
    }
}

#[inline(always)]
fn first_four(address: &mut [u8; 16]) -> &mut [u8; 4] {
    // SAFETY: four of the sixteen bytes, borrowed from them.
    unsafe { &mut *address.as_mut_ptr().cast::<[u8; 4]>() }
}

#[inline(always)]
fn load<const N: usize>(skb: *mut __sk_buff, offset: u32, target: &mut [u8; N]) -> Option<()> {
    // SAFETY: `target` is `N` bytes that this program owns.
    let result = unsafe { bpf_skb_load_bytes(skb.cast::<c_void>(), offset, target.as_mut_ptr().cast(), N as u32) };
    (result == 0).then_some(())
}

/// Copies the message's beginning, and says how much; behind it the record keeps what was there.
#[inline(always)]
fn copy(skb: *mut __sk_buff, start: u32, left: u32, target: *mut u8) -> u32 {
    let wanted = if left < DNS_LEN as u32 { left } else { DNS_LEN as u32 };
    // Volatile, so that the compiler forgets what it knows and compares the number that the helper gets: the verifier wants
    // to see that.
    // SAFETY: a reference to an initialised number.
    let len = unsafe { ptr::read_volatile(&raw const wanted) };
    if len == 0 || len > DNS_LEN as u32 {
        return 0;
    }
    // SAFETY: `target` is `DNS_LEN` bytes of the record, and `len` is not more.
    let result = unsafe { bpf_skb_load_bytes(skb.cast::<c_void>(), start, target.cast(), len) };
    if result == 0 { len } else { 0 }
}

#[cgroup_sock(sock_release)]
pub fn asker_closed(ctx: SockContext) -> i32 {
    let _ = closed(ctx.sock);
    PASS
}

#[inline(always)]
fn closed(sock: *mut bpf_sock) -> Option<()> {
    // SAFETY: a field of the context.
    let protocol = unsafe { (*sock).protocol };
    if protocol != u32::from(IPPROTO_UDP) {
        return None;
    }
    // SAFETY: the context is a socket.
    let cookie = unsafe { bpf_get_socket_cookie(sock.cast()) };
    let asker = ASKERS.get_ptr(cookie)?;
    // SAFETY: the kernel keeps the entry while this program runs.
    let asker = unsafe { *asker };
    let _ = ASKERS.remove(cookie);
    if asker.open == 0 {
        return None;
    }
    let witness = task::witness();
    emit::<DnsRecord>(Wake::Now, |event| {
        event.socket = SocketRecord {
            cookie,
            cgroup: asker.cgroup,
            netns: asker.netns,
            family: AF_INET,
            local_port: 0,
            remote_port: 0,
            reserved: 0,
            local: [0; 16],
            remote: [0; 16],
        };
        event.task = witness;
        event.what = DNS_CLOSED;
        event.len = 0;
    });
    Some(())
}

/// Offsets in packets, by RFC 791 and 8200.
mod ipv4 {
    pub const SOURCE: u32 = 12;
    pub const DESTINATION: u32 = 16;
}

mod ipv6 {
    pub const SOURCE: u32 = 8;
    pub const DESTINATION: u32 = 24;
}
