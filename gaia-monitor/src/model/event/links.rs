//! Facts of network interfaces, their addresses and neighbours, each as the kernel of one namespace tells it
//! (rtnetlink(7)).
//!
//! rtnetlink carries no time of its own: the instant of these facts is that of their being read.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::ids::NetnsId;

/// What an interface is like now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub kind: LinkKind,
    pub state: LinkState,
    /// The bridge that it is a port of.
    pub master: Option<u32>,
    /// The other end of a veth pair: its index in the namespace that it lives in.
    pub peer: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    Bridge,
    Veth,
    /// Anything else that carries a container's traffic (macvlan, ipvlan …), or the host's own.
    Other,
}

/// Whether packets can pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Set up, and with a carrier (IFF_UP and IFF_RUNNING).
    Up,
    /// Set up without a carrier: the other end of a veth pair is down; a bridge has no port that is up.
    NoCarrier,
    /// Set down.
    Down,
}

/// An interface came, changed or went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkChange {
    pub netns: NetnsId,
    /// As it is now; of one that went, as it was.
    pub link: Link,
    /// It is gone from this namespace: deleted, or moved to another one.
    pub removed: bool,
}

/// All interfaces of a namespace with their addresses: at the start of its watch, and after changes were lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinksRead {
    pub netns: NetnsId,
    /// The host's own namespace.
    pub host: bool,
    pub links: Vec<Link>,
    /// By the interface's index.
    pub addresses: Vec<(u32, IpAddr)>,
}

/// An interface got or lost an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddressChange {
    pub netns: NetnsId,
    pub index: u32,
    pub address: IpAddr,
    pub removed: bool,
}

/// An address of the same network stopped, or began, to answer for itself (ARP, neighbour discovery). While it does
/// not, the kernel refuses connections to it with EHOSTUNREACH.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeighbourChange {
    pub netns: NetnsId,
    pub index: u32,
    pub address: IpAddr,
    /// NUD_FAILED; otherwise it answers again.
    pub failed: bool,
}
