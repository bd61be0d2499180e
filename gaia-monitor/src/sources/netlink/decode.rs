//! From rtnetlink's messages to what a watch keeps. Pure.

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
pub struct Heard {
    /// Of the request that it answers.
    pub sequence: u32,
    /// NLM_F_*
    pub flags: u16,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
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
        standing: Standing,
    },
    /// A dump ended.
    Done,
    /// The kernel refused a request.
    Refused,
    /// The loopback interface, a bridge's own view of its ports …
    Other,
}

/// What a neighbour's entry says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// NUD_FAILED.
    Failed,
    /// It answered.
    Answers,
    /// Being asked, or forgotten.
    Neither,
}

/// The messages of one datagram; one that cannot be read is an error in its place, and what follows it is read.
pub fn messages(datagram: &[u8]) -> Vec<Result<Heard, DecodeError>> {
    let mut heard = Vec::new();
    let mut rest = datagram;
    // The length stands in the first four bytes, in the machine's order; it counts the header of sixteen.
    while let Some(length) = rest.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(message) = rest.get(..length).filter(|message| message.len() >= 16) else {
            heard.push(Err(format!("a message of {length} bytes where {} are left", rest.len()).into()));
            break;
        };
        heard.push(NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).map(|message| Heard {
            sequence: message.header.sequence_number,
            flags: message.header.flags,
            what: what(message.payload),
        }));
        rest = rest.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    }
    heard
}

fn what(payload: NetlinkPayload<RouteNetlinkMessage>) -> What {
    match payload {
        NetlinkPayload::Done(_) => What::Done,
        NetlinkPayload::Error(error) if error.code.is_some() => What::Refused,
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => link(message, false),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => link(message, true),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message)) => address(message, false),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message)) => address(message, true),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message)) => neighbour(message, false),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(message)) => neighbour(message, true),
        // Nothing else was subscribed to or asked for; both types are open (`#[non_exhaustive]`).
        _ => What::Other,
    }
}

fn link(message: LinkMessage, removed: bool) -> What {
    let header = &message.header;
    // A bridge tells of its ports in its own family, also that one has left it: the interface itself is not meant.
    if header.interface_family != AddressFamily::Unspec || header.flags.contains(LinkFlags::Loopback) {
        return What::Other;
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
    // Of other kinds it is the interface that they are built on.
    link.peer = below.filter(|_| link.kind == LinkKind::Veth);
    What::Link { link, removed }
}

fn address(message: AddressMessage, removed: bool) -> What {
    // On a point-to-point interface `Address` is the other side's.
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
        Some(address) => What::Address { index: message.header.index, address, removed },
        None => What::Other,
    }
}

fn neighbour(message: NeighbourMessage, removed: bool) -> What {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::from(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::from(*address)),
        _ => None,
    });
    let Some(address) = address else { return What::Other };
    let standing = match message.header.state {
        _ if removed => Standing::Neither,
        NeighbourState::Failed => Standing::Failed,
        NeighbourState::Reachable | NeighbourState::Permanent => Standing::Answers,
        // Stale, delayed and probed entries are not known to answer, and not known to have failed.
        _ => Standing::Neither,
    };
    What::Neighbour { index: message.header.ifindex, address, standing }
}
