//! Facts about TCP sockets, from the probe and, for sockets that are older than the probe, from the inventory.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::process::Task;
use crate::model::ids::{CgroupId, Cookie, NetnsId, Pid};
use crate::model::time::Stamp;

/// The socket that a kernel fact belongs to. IPv4-mapped IPv6 addresses are already converted to IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// [`Cookie::NONE`] if there is no full socket (a reset for a closed port).
    pub cookie: Cookie,
    pub netns: NetnsId,
    /// The cgroup in which the socket was created; 0 if there is no full socket.
    pub cgroup: CgroupId,
    /// The socket's own address.
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

/// The state of a TCP socket, by its kernel name (include/net/tcp_states.h).
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
    /// A state that this version does not know.
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
    /// Bytes received that no process has read.
    pub unread: u32,
    /// Only the sending side is shut down; the process still reads.
    #[serde(default)]
    pub half: bool,
    /// Bytes sent that the peer has not acknowledged.
    #[serde(default)]
    pub unacknowledged: u32,
    /// When this socket last sent payload; `None` if the framing layer observed none.
    pub last_sent: Option<Stamp>,
    /// When this socket last received payload; `None` if the framing layer observed none.
    pub last_received: Option<Stamp>,
    /// When the process in `task` last read from this socket; `None` if no read was observed.
    #[serde(default)]
    pub last_read: Option<Stamp>,
}

/// `tcp:tcp_receive_reset`: this socket received an RST.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResetReceived {
    pub socket: Socket,
    /// The state of the socket when the RST arrived.
    pub state: TcpState,
}

/// `tcp:tcp_send_reset`, including active resets: an RST was sent. `socket.local` is the sender's address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResetSent {
    pub socket: Socket,
    /// The running kernel's name of the reason (`enum sk_rst_reason`), without the prefix.
    pub reason: String,
    /// Sent by the socket's own close, not in response to a packet.
    pub active: bool,
}

/// `sock:inet_sk_error_report`: the kernel set an error on a socket, which its process receives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SocketError {
    pub socket: Socket,
    pub state: TcpState,
    /// The name: ECONNRESET …
    pub errno: String,
}

/// `tcp:tcp_rcv_space_adjust`: this process read from this socket (reported once for each pair).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SocketRead {
    pub socket: Socket,
    pub task: Task,
}

/// A socket that is older than the probe: a connection or a listener (sock_diag(7)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SocketSeen {
    pub socket: Socket,
    pub state: TcpState,
    /// The process that holds the socket, if `/proc` shows one; of several the oldest.
    pub task: Option<Task>,
    /// When it last sent and received payload, as the kernel holds it (`tcp_info`); `None`: it has not. Older recordings lack
    /// both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sent: Option<Stamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_received: Option<Stamp>,
}

/// A docker-proxy, which accepts connections at `listen` and forwards them to `backend`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProxySeen {
    pub pid: Pid,
    pub listen: SocketAddr,
    pub backend: SocketAddr,
}
