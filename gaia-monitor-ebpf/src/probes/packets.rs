//! What a packet of the host's cgroup v2 tree begins with (`BPF_CGROUP_INET_EGRESS`, `_INGRESS`).
//!
//! The programs on packets stand at the root of the tree, where the whole host pays for them: what is none of theirs leaves
//! at once. They only look: every path lets the packet pass.

use core::ptr;

use aya_ebpf::bindings::__sk_buff;

/// The verdict of a cgroup program that lets a packet pass.
pub const PASS: i32 = 1;

pub const IPPROTO_TCP: u8 = 6;
pub const IPPROTO_UDP: u8 = 17;
const ETH_P_IP: u32 = 0x0800;
const ETH_P_IPV6: u32 = 0x86dd;
const IPV6_LEN: u32 = 40;
const TCP_MIN: usize = 20;
/// In an IPv4 header's flags: anything but a first fragment.
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// What the packet begins with.
pub struct IpHeader {
    pub v6: bool,
    pub protocol: u8,
    /// Its length: where the transport header begins.
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
        // A transport behind extension headers is left alone: nobody sends it but routers' tests.
        Some(IpHeader { v6: true, protocol: direct(skb, 6)?, len: IPV6_LEN })
    } else {
        None
    }
}

/// The payload of a TCP packet.
pub struct Segment {
    pub seq: u32,
    pub len: u32,
    /// Where it begins in the packet.
    pub payload: u32,
}

/// The TCP payload, if there is any.
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

/// Reads from the headers, which lie in the packet's linear part. Of a single byte the next one must be there, too, as it is
/// in every header: for one alone the compiler compares with "at or behind the end", from which the verifier learns nothing
/// (kernel/bpf/verifier.c, `find_good_pkt_pointers`).
#[inline(always)]
pub fn direct<T: Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    // SAFETY: fields of the context.
    let (data, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    let place = data + offset as usize;
    let read = if size_of::<T>() == 1 { 2 } else { size_of::<T>() };
    if place + read > end {
        return None;
    }
    // SAFETY: the verifier accepts only what the comparison above has shown to lie inside.
    Some(unsafe { ptr::read_unaligned(place as *const T) })
}
