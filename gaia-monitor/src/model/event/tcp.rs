//! Facts of TCP sockets, by the probe, and of those that were there before it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::process::Task;
use crate::model::ids::{CgroupId, Cookie, NetnsId, Pid};
use crate::model::time::Stamp;

/// The connection end that a kernel fact belongs to. `local` is the socket's own side.
/// IPv4-mapped IPv6 addresses are already IPv4 here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// [`Cookie::NONE`] where there is no full socket (a reset for a closed port).
    pub cookie: Cookie,
    pub netns: NetnsId,
    /// The cgroup that the socket was created in; 0 where there is no full socket.
    pub cgroup: CgroupId,
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

/// States of a TCP socket by their kernel names (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TcpState {
    Established,
    SynSent,
    SynRecv,
    #[serde(rename = "FIN_WAIT1")]
    FinWait1,
    #[serde(rename = "FIN_WAIT2")]
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    NewSynRecv,
    BoundInactive,
    /// A state that this version has no name for.
    Unknown,
}

/// `sock:inet_sock_set_state`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TcpStateChange {
    pub socket: Socket,
    pub old: TcpState,
    pub new: TcpState,
    pub task: Task,
    /// `sk_err` at the transition, by name (ECONNREFUSED …).
    pub errno: Option<String>,
    /// Bytes that arrived and that no process has read.
    pub unread: u32,
    /// Only its sending side is shut: the process still reads.
    #[serde(default)]
    pub half: bool,
    /// Bytes that were sent and that the other end has not acknowledged.
    #[serde(default)]
    pub unacknowledged: u32,
    /// When this socket last sent payload, and last got some; `None` where the framing layer saw none.
    pub last_sent: Option<Stamp>,
    pub last_received: Option<Stamp>,
    /// When the process that acts here last read from it; `None` where no read was seen.
    #[serde(default)]
    pub last_read: Option<Stamp>,
}

/// `tcp:tcp_receive_reset`: this socket got an RST.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResetReceived {
    pub socket: Socket,
    /// The socket's state when the RST came.
    pub state: TcpState,
}

/// `tcp:tcp_send_reset` and active resets: this side sent an RST. `socket.local` is the sender's address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResetSent {
    pub socket: Socket,
    /// The running kernel's name of the reason (`enum sk_rst_reason`), without prefix.
    pub reason: String,
    /// Sent by this side's own close, not as an answer to a packet.
    pub active: bool,
}

/// `sock:inet_sk_error_report`: the kernel put an error on a socket for its process to find.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SocketError {
    pub socket: Socket,
    pub state: TcpState,
    pub errno: String,
}

/// `tcp:tcp_rcv_space_adjust`: this process read from this socket (told once for each pair).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    pub socket: Socket,
    pub task: Task,
}

/// A connection that was there before the probe (sock_diag).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SocketSeen {
    pub socket: Socket,
    pub state: TcpState,
    /// The process that holds it, where `/proc` could tell.
    pub task: Option<Task>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProxySeen {
    pub pid: Pid,
    pub listen: SocketAddr,
    pub backend: SocketAddr,
}
