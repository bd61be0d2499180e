//! Packet headers in `cgroup_skb` programs (`BPF_CGROUP_INET_EGRESS`, `_INGRESS`).
//!
//! These programs are attached to the root of the cgroup v2 tree and run for every packet of the host, so they return
//! early for unwatched packets. They are passive: every path lets the packet pass.

use core::ptr;

use aya_ebpf::bindings::__sk_buff;

/// Return value of a cgroup program that lets the packet pass.
pub const PASS: i32 = 1;

pub const IPPROTO_TCP: u8 = 6;
pub const IPPROTO_UDP: u8 = 17;
const ETH_P_IP: u32 = 0x0800;
const ETH_P_IPV6: u32 = 0x86dd;
const IPV6_LEN: u32 = 40;
const TCP_MIN: usize = 20;
/// Larger than any offset in the headers.
const HEADERS_MASK: u32 = 0xff;
/// Fragment offset in an IPv4 header; not 0 in all fragments but the first.
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// The IP header of a packet.
pub struct IpHeader {
    pub v6: bool,
    pub protocol: u8,
    /// Length of the header in bytes, which is the offset of the transport header.
    pub len: u32,
}

#[inline(always)]
pub fn ip_header(skb: *mut __sk_buff) -> Option<IpHeader> {
    // SAFETY: a field of the context.
    let protocol = unsafe { u32::from(u16::from_be((*skb).protocol as u16)) };
    if protocol == ETH_P_IP {
        let first: u8 = direct(skb, 0)?;
        if u16::from_be(direct(skb, 6)?) & FRAGMENT_OFFSET != 0 {
            return None;
        }
        Some(IpHeader { v6: false, protocol: direct(skb, 9)?, len: u32::from(first & 0xf) * 4 })
    } else if protocol == ETH_P_IPV6 {
        // Transport headers after extension headers are not parsed; containers do not send them in practice.
        Some(IpHeader { v6: true, protocol: direct(skb, 6)?, len: IPV6_LEN })
    } else {
        None
    }
}

/// The payload of a TCP packet.
pub struct Segment {
    pub seq: u32,
    pub len: u32,
    /// Offset of the payload in the packet.
    pub payload: u32,
}

/// The TCP payload; `None` if the packet has none.
#[inline(always)]
pub fn segment(skb: *mut __sk_buff, header: &IpHeader) -> Option<Segment> {
    // SAFETY: a field of the context.
    let whole = unsafe { (*skb).len };
    let seq = u32::from_be(direct(skb, header.len + 4)?);
    let tcp_len = u32::from(direct::<u8>(skb, header.len + 12)? >> 4) * 4;
    let payload = header.len + tcp_len;
    let len = whole.wrapping_sub(payload);
    (whole > payload && tcp_len >= TCP_MIN as u32).then_some(Segment { seq, len, payload })
}

/// Reads from the headers, which lie in the linear part of the packet. To read one byte, the next one must exist too,
/// which holds in every header: for a single byte the compiler compares with `>=` the end, from which the verifier
/// derives no bound (kernel/bpf/verifier.c, `find_good_pkt_pointers`).
#[inline(always)]
pub fn direct<T: Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    // SAFETY: fields of the context.
    let (data, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    // The verifier derives nothing from a comparison of a packet pointer whose variable part has no visible bound
    // (kernel/bpf/verifier.c, `find_good_pkt_pointers`, before 6.12). No header is longer than the mask. Volatile, so
    // that the compiler keeps it.
    // SAFETY: a reference to an initialised number.
    let offset = unsafe { ptr::read_volatile(&raw const offset) } & HEADERS_MASK;
    let address = data + offset as usize;
    let read = if size_of::<T>() == 1 { 2 } else { size_of::<T>() };
    if address + read > end {
        return None;
    }
    // SAFETY: the comparison above proves to the verifier that the bytes are inside the packet.
    Some(unsafe { ptr::read_unaligned(address as *const T) })
}
