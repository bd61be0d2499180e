//! DNS queries and responses of containers, captured at the client socket by `cgroup_skb` programs: over UDP, and over
//! TCP if a message is exactly one segment. Separate from the `http` programs, because together they exceed the stack
//! limit. `BPF_CGROUP_INET_SOCK_RELEASE` (5.9 and newer) reports a socket that closes with an outstanding query;
//! without it such a query counts as unanswered after a timeout.
//!
//! Inside a container Docker's embedded resolver is addressed as 127.0.0.11:53. netfilter rewrites the port before this
//! program sees the query; the response has port 53 again. Any other resolver is recognised by the port. A query is
//! reported if the sending process belongs to a container: the embedded resolver sends its upstream queries from the
//! same namespace, but they belong to dockerd. A response is reported if its query was. Messages contain names and
//! addresses only; long ones are truncated.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_get_socket_cookie, bpf_skb_cgroup_id, bpf_skb_load_bytes},
    macros::{cgroup_skb, cgroup_sock, map},
    maps::LruHashMap,
    programs::{SkBuffContext, SockContext},
};
use gaia_monitor_abi::{
    AF_INET, AF_INET6, DNS_LEN, DNS_QUERY, DNS_RESPONSE, DNS_SOCKET_CLOSED, DnsMessageRecord, SocketRecord, TaskRecord,
};

use super::packets::{IPPROTO_TCP, IPPROTO_UDP, IpHeader, PASS, Segment, direct, ip_header, segment};
use crate::{
    filter,
    kernel::layout,
    ring::{Wake, emit},
    task,
};

const PORT: u16 = 53;
/// Docker's embedded resolver, in network order.
const EMBEDDED: [u8; 4] = [127, 0, 0, 11];
const UDP_LEN: u32 = 8;
/// Length of the length field before each message over TCP.
const PREFIX_LEN: u32 = 2;

/// Length of a message header (RFC 1035, 4.1.1), and offsets in it.
const HEADER_LEN: u32 = 12;
const FLAGS: usize = 2;
const CODES: usize = 3;
const QDCOUNT: usize = 4;
const IS_RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const RCODE: u8 = 0x0f;

/// A socket that sent queries.
#[derive(Clone, Copy)]
#[repr(C)]
struct DnsClient {
    cgroup: u64,
    netns: u32,
    /// Number of queries without a response.
    outstanding: u32,
}

/// Clients by socket cookie. On overflow the least recently used entry is evicted, and its responses are not reported.
#[map]
static CLIENTS: LruHashMap<u64, DnsClient> = LruHashMap::with_max_entries(16_384, 0);

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

/// Handles a packet that leaves (`OUT`) or arrives.
#[inline(always)]
fn observe<const OUT: bool>(skb: *mut __sk_buff) -> Option<()> {
    let header = ip_header(skb)?;
    let udp = header.protocol == IPPROTO_UDP;
    if (!udp && header.protocol != IPPROTO_TCP) || !is_dns::<OUT>(skb, &header)? {
        return None;
    }
    let start = if udp { header.len + UDP_LEN } else { whole_message(skb, &segment(skb, &header)?)? };
    message::<OUT>(skb, &header, start)
}

/// True if the packet is sent to a resolver or comes from one.
#[inline(always)]
fn is_dns<const OUT: bool>(skb: *mut __sk_buff, header: &IpHeader) -> Option<bool> {
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

/// Offset of a message over TCP that is exactly one segment; other messages are ignored.
#[inline(always)]
fn whole_message(skb: *mut __sk_buff, segment: &Segment) -> Option<u32> {
    let mut len = [0; PREFIX_LEN as usize];
    load(skb, segment.payload, &mut len)?;
    let whole = u32::from(u16::from_be_bytes(len)) + PREFIX_LEN == segment.len;
    whole.then_some(segment.payload + PREFIX_LEN)
}

#[inline(always)]
fn message<const OUT: bool>(skb: *mut __sk_buff, ip: &IpHeader, start: u32) -> Option<()> {
    // SAFETY: a field of the context.
    let whole = unsafe { (*skb).len };
    let mut header = [0_u8; HEADER_LEN as usize];
    load(skb, start, &mut header)?;
    let is_response = header[FLAGS] & IS_RESPONSE != 0;
    let qdcount = u16::from_be_bytes([header[QDCOUNT], header[QDCOUNT + 1]]);
    if is_response == OUT || header[FLAGS] & OPCODE != 0 || qdcount != 1 {
        return None;
    }
    // SAFETY: the context names the packet's socket.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    let client = if OUT { on_query(skb, cookie)? } else { on_response(cookie)? };
    let wake = if is_response && header[CODES] & RCODE != 0 { Wake::Now } else { Wake::Later };
    emit::<DnsMessageRecord>(wake, |event| {
        event.what = if OUT { DNS_QUERY } else { DNS_RESPONSE };
        event.task = if OUT { task::current_task() } else { NO_TASK };
        event.socket.cookie = cookie;
        event.socket.cgroup = client.cgroup;
        event.socket.netns = client.netns;
        socket::<OUT>(skb, ip, &mut event.socket);
        event.len = copy(skb, start, whole.wrapping_sub(start), event.message.as_mut_ptr());
    });
    Some(())
}

const NO_TASK: TaskRecord = TaskRecord { tgid: 0, exiting: 0, comm: [0; 16] };

/// Counts a query. The program runs in the context of the sending process; `None` if that is not a container's.
#[inline(always)]
fn on_query(skb: *mut __sk_buff, cookie: u64) -> Option<DnsClient> {
    let process = task::process(task::current());
    if task::is_own(process.pid) || !task::is_contained(&process) {
        return None;
    }
    if process.netns == layout!(host_netns) && !filter::cgroup_is_watched(process.cgroup) {
        return None;
    }
    let before = match CLIENTS.get_ptr(cookie) {
        // SAFETY: the kernel keeps the entry while this program runs.
        Some(client) => unsafe { (*client).outstanding },
        None => 0,
    };
    // SAFETY: the context names the packet's socket.
    let cgroup = unsafe { bpf_skb_cgroup_id(skb) };
    let client = DnsClient { cgroup, netns: process.netns, outstanding: before.wrapping_add(1) };
    let _ = CLIENTS.insert(cookie, &client, 0);
    Some(client)
}

/// Counts a response; `None` if its query was not counted.
#[inline(always)]
fn on_response(cookie: u64) -> Option<DnsClient> {
    let client = CLIENTS.get_ptr_mut(cookie)?;
    // SAFETY: the kernel keeps the entry while this program runs. Two concurrent responses may lose a count. The close
    // of the socket is then reported without an outstanding query, which user space detects.
    unsafe {
        if (*client).outstanding > 0 {
            (*client).outstanding -= 1;
        }
        Some(*client)
    }
}

/// Fills in the addresses of the client socket from the packet, because a UDP socket may be neither bound nor
/// connected.
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

/// Copies the start of the message and returns the number of bytes. The rest of the record keeps its old contents.
#[inline(always)]
fn copy(skb: *mut __sk_buff, start: u32, left: u32, target: *mut u8) -> u32 {
    let wanted = if left < DNS_LEN as u32 { left } else { DNS_LEN as u32 };
    if wanted == 0 {
        return 0;
    }
    // From 1 to `DNS_LEN`, which older verifiers see only without a comparison. Volatile, so that the compiler keeps the
    // mask.
    // SAFETY: a reference to an initialised number.
    let len = (unsafe { ptr::read_volatile(&raw const wanted) }.wrapping_sub(1) & (DNS_LEN as u32 - 1)) + 1;
    // SAFETY: `target` has `DNS_LEN` bytes, and `len` is at most that.
    let result = unsafe { bpf_skb_load_bytes(skb.cast::<c_void>(), start, target.cast(), len) };
    if result == 0 { len } else { 0 }
}

#[cgroup_sock(sock_release)]
pub fn dns_socket_closed(ctx: SockContext) -> i32 {
    let _ = observe_close(ctx.sock);
    PASS
}

#[inline(always)]
fn observe_close(sock: *mut bpf_sock) -> Option<()> {
    // SAFETY: a field of the context.
    let protocol = unsafe { (*sock).protocol };
    if protocol != u32::from(IPPROTO_UDP) {
        return None;
    }
    // SAFETY: the context is a socket.
    let cookie = unsafe { bpf_get_socket_cookie(sock.cast()) };
    let client = CLIENTS.get_ptr(cookie)?;
    // SAFETY: the kernel keeps the entry while this program runs.
    let client = unsafe { *client };
    let _ = CLIENTS.remove(cookie);
    if client.outstanding == 0 {
        return None;
    }
    let task = task::current_task();
    emit::<DnsMessageRecord>(Wake::Now, |event| {
        event.socket = SocketRecord {
            cookie,
            cgroup: client.cgroup,
            netns: client.netns,
            family: AF_INET,
            local_port: 0,
            remote_port: 0,
            reserved: 0,
            local: [0; 16],
            remote: [0; 16],
        };
        event.task = task;
        event.what = DNS_SOCKET_CLOSED;
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
