//! TCP packets without a socket: endpoints, flags and netfilter hook, derived from the headers and the `sk_buff`.
//!
//! Used for events that have a packet but no socket. `local` is the source of the packet, `remote` its destination. The
//! length field of the IP header locates the TCP header, because a packet that crosses a bridge has no transport offset
//! yet.

use gaia_monitor_abi::{
    AF_INET, AF_INET6, HOOK_FORWARD, HOOK_INPUT, HOOK_OUTPUT, HOOK_POSTROUTING, HOOK_PREROUTING, SocketRecord,
};

use crate::{
    kernel::{Raw, Typed, layout, netns_of},
    socket,
};

/// The parsed headers.
pub struct Packet {
    pub endpoints: SocketRecord,
    pub seq: u32,
    /// TCP flags as in the header.
    pub flags: u32,
    /// Bytes of payload.
    pub payload: u32,
}

/// Parses the headers. `None` if the packet is not TCP over IPv4 or IPv6, or is a fragment other than the first.
#[inline(always)]
pub fn tcp(skb: Typed, netns: u32) -> Option<Packet> {
    let data = Raw(skb.load(layout!(skb_head)));
    let network = data.at(skb.load::<u16>(layout!(skb_network_header)) as u32);
    let first: u8 = network.read(0)?;
    let mut endpoints = SocketRecord {
        cookie: 0,
        cgroup: 0,
        netns,
        family: AF_INET,
        local_port: 0,
        remote_port: 0,
        reserved: 0,
        local: [0; 16],
        remote: [0; 16],
    };
    let (transport, below_ip) = if first >> 4 == 4 {
        let fragment = u16::from_be(network.read(ipv4::FRAGMENT)?) & ipv4::FRAGMENT_OFFSET;
        if network.read::<u8>(ipv4::PROTOCOL)? != PROTOCOL_TCP || fragment != 0 {
            return None;
        }
        let source = network.read::<u32>(ipv4::SOURCE)?.to_ne_bytes();
        let destination = network.read::<u32>(ipv4::DESTINATION)?.to_ne_bytes();
        endpoints.local[..4].copy_from_slice(&source);
        endpoints.remote[..4].copy_from_slice(&destination);
        let header = u32::from(first & 0xf) * 4;
        let whole = u32::from(u16::from_be(network.read(ipv4::LENGTH)?));
        (network.at(header), whole.saturating_sub(header))
    } else if first >> 4 == 6 {
        if network.read::<u8>(ipv6::NEXT_HEADER)? != PROTOCOL_TCP {
            return None;
        }
        endpoints.family = AF_INET6;
        network.copy(ipv6::SOURCE, &mut endpoints.local)?;
        network.copy(ipv6::DESTINATION, &mut endpoints.remote)?;
        (network.at(ipv6::HEADER), u32::from(u16::from_be(network.read(ipv6::LENGTH)?)))
    } else {
        return None;
    };
    endpoints.local_port = u16::from_be(transport.read(tcp_header::SOURCE)?);
    endpoints.remote_port = u16::from_be(transport.read(tcp_header::DESTINATION)?);
    let header = u32::from(transport.read::<u8>(tcp_header::OFFSET)? >> 4) * 4;
    Some(Packet {
        endpoints,
        seq: u32::from_be(transport.read(tcp_header::SEQUENCE)?),
        flags: u32::from(transport.read::<u8>(tcp_header::FLAGS)?),
        // 0 if the packet is too long for the field (BIG TCP); such a packet has payload.
        payload: if below_ip == 0 { u32::MAX } else { below_ip.saturating_sub(header) },
    })
}

/// Network namespace of a packet: that of its device, or of the sending socket before the packet has a device.
#[inline(always)]
pub fn netns(skb: Typed) -> u32 {
    let device = skb.follow(layout!(skb_dev));
    if !device.is_null() {
        return netns_of(device.follow(layout!(dev_net)));
    }
    let sender = skb.follow(layout!(skb_sk));
    // The verifier requires the check, because a packet may have no socket.
    if sender.is_null() { 0 } else { socket::netns(sender) }
}

/// The netfilter hook at which a packet was dropped. A locally sent packet has no device until `ip_output` sets it
/// (net/ipv4/ip_output.c). A packet for the namespace itself is routed to the loopback device (`ip_route_input_slow`,
/// net/ipv4/route.c). A packet that arrives is routed after PREROUTING.
#[inline(always)]
pub fn hook(skb: Typed, netns: u32) -> u32 {
    if skb.follow(layout!(skb_dev)).is_null() {
        return HOOK_OUTPUT;
    }
    let sender = skb.follow(layout!(skb_sk));
    // The lowest bit is SKB_DST_NOREF: the reference is not counted (include/linux/skbuff.h).
    let route = Raw(skb.load::<u64>(layout!(skb_dst)) & !7);
    if route.0 == 0 {
        return HOOK_PREROUTING;
    }
    let device = Raw(route.read::<u64>(layout!(dst_dev)).unwrap_or(0));
    if device.read::<u32>(layout!(dev_flags)).unwrap_or(0) & LOOPBACK_DEVICE != 0 {
        return HOOK_INPUT;
    }
    // A bridge keeps the sending socket on forwarded packets; it is in another namespace.
    if !sender.is_null() && socket::netns(sender) == netns { HOOK_POSTROUTING } else { HOOK_FORWARD }
}

const PROTOCOL_TCP: u8 = 6;
/// IFF_LOOPBACK (include/uapi/linux/if.h).
const LOOPBACK_DEVICE: u32 = 1 << 3;

/// Header offsets (RFC 9293, 791 and 8200).
mod tcp_header {
    pub const SOURCE: u32 = 0;
    pub const DESTINATION: u32 = 2;
    pub const SEQUENCE: u32 = 4;
    pub const OFFSET: u32 = 12;
    pub const FLAGS: u32 = 13;
}

mod ipv4 {
    pub const LENGTH: u32 = 2;
    pub const FRAGMENT: u32 = 6;
    /// Not 0 in all fragments but the first.
    pub const FRAGMENT_OFFSET: u16 = 0x1fff;
    pub const PROTOCOL: u32 = 9;
    pub const SOURCE: u32 = 12;
    pub const DESTINATION: u32 = 16;
}

mod ipv6 {
    pub const LENGTH: u32 = 4;
    pub const NEXT_HEADER: u32 = 6;
    pub const SOURCE: u32 = 8;
    pub const DESTINATION: u32 = 24;
    pub const HEADER: u32 = 40;
}
