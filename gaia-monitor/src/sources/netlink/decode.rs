//! Decoder for rtnetlink messages. Pure.

use std::net::IpAddr;

use netlink_packet_core::{DecodeError, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::model::event::{Link, LinkKind, LinkState};

/// NLMSG_ALIGNTO (include/uapi/linux/netlink.h).
const ALIGNMENT: usize = 4;

/// One message of a datagram.
#[derive(Debug)]
pub struct Message {
    /// Of the request to which the message responds.
    pub sequence: u32,
    /// NLM_F_*
    pub flags: u16,
    pub payload: Payload,
}

#[derive(Debug)]
pub enum Payload {
    Link {
        link: Link,
        removed: bool,
    },
    Address {
        index: u32,
        address: IpAddr,
        removed: bool,
    },
    Neighbour {
        index: u32,
        address: IpAddr,
        reachability: Reachability,
    },
    /// A dump ended.
    Done,
    /// The kernel refused a request.
    Refused,
    /// Loopback, a bridge's own view of its ports …
    Other,
}

/// The state of a neighbour entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// NUD_FAILED.
    Failed,
    /// NUD_REACHABLE or NUD_PERMANENT.
    Reachable,
    /// Being probed, or removed.
    Unknown,
}

/// The messages of one datagram. An unreadable message is an error in its place; those after it are decoded.
pub fn messages(datagram: &[u8]) -> Vec<Result<Message, DecodeError>> {
    let mut decoded = Vec::new();
    let mut rest = datagram;
    // The first four bytes are the length in native order, which includes the header of sixteen bytes.
    while let Some(length) = rest.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(message) = rest.get(..length).filter(|message| message.len() >= 16) else {
            decoded.push(Err(format!("a message of {length} bytes, where {} bytes remain", rest.len()).into()));
            break;
        };
        decoded.push(NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).map(|message| Message {
            sequence: message.header.sequence_number,
            flags: message.header.flags,
            payload: payload(message.payload),
        }));
        rest = rest.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    }
    decoded
}

fn payload(payload: NetlinkPayload<RouteNetlinkMessage>) -> Payload {
    match payload {
        NetlinkPayload::Done(_) => Payload::Done,
        NetlinkPayload::Error(error) if error.code.is_some() => Payload::Refused,
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => link(message, false),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => link(message, true),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message)) => address(message, false),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message)) => address(message, true),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message)) => neighbour(message, false),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(message)) => neighbour(message, true),
        // Nothing else was subscribed to or requested; both types are `#[non_exhaustive]`.
        _ => Payload::Other,
    }
}

fn link(message: LinkMessage, removed: bool) -> Payload {
    let header = &message.header;
    // A bridge reports its ports in its own address family; such a message does not describe the interface itself.
    if header.interface_family != AddressFamily::Unspec || header.flags.contains(LinkFlags::Loopback) {
        return Payload::Other;
    }
    let state = match (header.flags.contains(LinkFlags::Up), header.flags.contains(LinkFlags::Running)) {
        (false, _) => LinkState::Down,
        (true, false) => LinkState::NoCarrier,
        (true, true) => LinkState::Up,
    };
    let mut link =
        Link { index: header.index, name: String::new(), kind: LinkKind::Other, state, master: None, peer: None };
    let mut below = None;
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Controller(index) => link.master = Some(index).filter(|index| *index != 0),
            LinkAttribute::Link(index) => below = Some(index).filter(|index| *index != 0),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(InfoKind::Bridge) => link.kind = LinkKind::Bridge,
                        LinkInfo::Kind(InfoKind::Veth) => link.kind = LinkKind::Veth,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    // For other kinds, the attribute is the interface on which they are built.
    link.peer = below.filter(|_| link.kind == LinkKind::Veth);
    Payload::Link { link, removed }
}

fn address(message: AddressMessage, removed: bool) -> Payload {
    // On a point-to-point interface, `Address` is that of the peer.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    });
    match address {
        Some(address) => Payload::Address { index: message.header.index, address, removed },
        None => Payload::Other,
    }
}

fn neighbour(message: NeighbourMessage, removed: bool) -> Payload {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::from(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::from(*address)),
        _ => None,
    });
    let Some(address) = address else { return Payload::Other };
    let reachability = match message.header.state {
        _ if removed => Reachability::Unknown,
        NeighbourState::Failed => Reachability::Failed,
        NeighbourState::Reachable | NeighbourState::Permanent => Reachability::Reachable,
        // Stale, delayed and probed entries are neither known to be reachable nor to have failed.
        _ => Reachability::Unknown,
    };
    Payload::Neighbour { index: message.header.ifindex, address, reachability }
}
