//! Facts of packets that do not arrive: dropped, refused by ICMP, sent again, or met by a full queue.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::tcp::{Socket, TcpState};
use crate::model::ids::NetnsId;
use crate::model::time::Stamp;

/// `skb:kfree_skb` of a TCP packet, for a reason that is no everyday one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PacketDropped {
    /// The namespace in which it was thrown away.
    pub netns: NetnsId,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// The running kernel's name of the reason (`enum skb_drop_reason`), without prefix.
    pub reason: String,
    pub hook: Hook,
    pub seq: u32,
    pub syn: bool,
    /// Bytes of payload.
    pub payload: u32,
}

/// Where on its way through a namespace a packet was, by netfilter's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// `icmp:icmp_send`: a TCP packet is answered with "destination unreachable". The packet is the refused one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IcmpSent {
    pub netns: NetnsId,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub code: Unreachable,
}

/// What an ICMP error says (RFC 792, RFC 1812).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unreachable {
    Network,
    Host,
    Protocol,
    Port,
    NetworkProhibited,
    HostProhibited,
    AdminProhibited,
    Other,
}

/// `tcp:tcp_retransmit_skb`: this socket sent a packet again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retransmitted {
    pub socket: Socket,
    pub state: TcpState,
}

/// A listener's queue of accepted connections was full when a packet of a handshake came: the packet was dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenOverflow {
    pub netns: NetnsId,
    pub packet: Handshake,
}

/// The kernel's own counters of a namespace have grown (`TcpExt` in `/proc/PID/net/netstat`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenCounts {
    pub netns: NetnsId,
    /// When they were read before.
    pub since: Stamp,
    /// Packets of handshakes that met a full queue (`ListenOverflows`).
    pub overflows: u64,
    /// Those that listeners dropped for whatever reason, a full queue among them (`ListenDrops`).
    pub drops: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// Connections that waited to be accepted, and how many may.
    pub queued: u32,
    pub limit: u32,
}
