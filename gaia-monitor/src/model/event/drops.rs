//! Facts about packets that were not delivered: dropped, rejected with ICMP, retransmitted, or met by a full accept
//! queue.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::tcp::{Socket, TcpState};
use crate::model::ids::NetnsId;
use crate::model::time::Stamp;

/// `skb:kfree_skb` of a TCP packet, excluding routine drop reasons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PacketDropped {
    /// The network namespace in which the packet was dropped.
    pub netns: NetnsId,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// The running kernel's name of the reason (`enum skb_drop_reason`), without the prefix.
    pub reason: String,
    pub hook: Hook,
    /// TCP sequence number.
    pub seq: u32,
    pub syn: bool,
    /// Bytes of payload.
    pub payload: u32,
}

/// The netfilter hook that a packet had reached in its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// `icmp:icmp_send`: the kernel rejected a TCP packet with "destination unreachable". The addresses are those of the
/// rejected packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IcmpSent {
    pub netns: NetnsId,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub code: Unreachable,
}

/// The code of an ICMP "destination unreachable" (RFC 792, RFC 1812).
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

/// `tcp:tcp_retransmit_skb`: this socket retransmitted a packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retransmitted {
    pub socket: Socket,
    pub state: TcpState,
}

/// The accept queue of a listener was full when a packet of a handshake arrived, so the kernel dropped the packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AcceptQueueFull {
    pub netns: NetnsId,
    pub packet: Handshake,
}

/// Growth of the kernel's counters of one network namespace (`TcpExt` in `/proc/PID/net/netstat`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AcceptQueueCounts {
    pub netns: NetnsId,
    /// The previous reading.
    pub since: Stamp,
    /// Packets of handshakes that met a full accept queue (`ListenOverflows`).
    pub overflows: u64,
    /// Packets of handshakes that listeners dropped for any reason, including a full accept queue (`ListenDrops`).
    pub drops: u64,
}

/// A packet of a handshake, and the accept queue that it met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// Established connections in the queue.
    pub queued: u32,
    /// Length of the queue (the backlog).
    pub limit: u32,
}
