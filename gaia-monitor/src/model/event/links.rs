//! Facts about network interfaces, their addresses and neighbours, as rtnetlink(7) reports them per network namespace.
//!
//! rtnetlink messages carry no time, so `at` of these facts is the instant at which the message was read.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::ids::NetnsId;

/// The current state of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub kind: LinkKind,
    pub state: LinkState,
    /// The bridge of which it is a port.
    pub master: Option<u32>,
    /// The peer of a veth: its index in the peer's own namespace.
    pub peer: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    Bridge,
    Veth,
    /// Any other interface that carries traffic of a container (macvlan, ipvlan …) or of the host.
    Other,
}

/// Whether packets can pass an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Administratively up, with carrier (IFF_UP and IFF_RUNNING).
    Up,
    /// Administratively up, without carrier: the peer of a veth is down, or no port of a bridge is up.
    NoCarrier,
    /// Administratively down.
    Down,
}

/// An interface was added, changed or removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkChange {
    pub netns: NetnsId,
    /// The current state; of a removed interface the last one.
    pub link: Link,
    /// Removed from this namespace: deleted, or moved to another namespace.
    pub removed: bool,
}

/// All interfaces of a namespace with their addresses, read when its watch starts and after messages were lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinksRead {
    pub netns: NetnsId,
    /// The host's own namespace.
    pub host: bool,
    pub links: Vec<Link>,
    /// Pairs of interface index and address.
    pub addresses: Vec<(u32, IpAddr)>,
}

/// An interface gained or lost an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddressChange {
    pub netns: NetnsId,
    pub index: u32,
    pub address: IpAddr,
    pub removed: bool,
}

/// Address resolution (ARP, neighbour discovery) of an address on the same network failed, or works again. While it
/// fails, the kernel refuses connections to the address with EHOSTUNREACH.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeighbourChange {
    pub netns: NetnsId,
    pub index: u32,
    pub address: IpAddr,
    /// The neighbour is in state NUD_FAILED; otherwise resolution works again.
    pub failed: bool,
}
