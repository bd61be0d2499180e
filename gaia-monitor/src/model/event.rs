//! The one type that sources make, the engine consumes and recordings hold.
//!
//! A fact says what was seen, never what it means. It carries no header or body byte of anybody's traffic.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::ids::{CgroupId, ContainerId, Cookie, NetnsId, Pid};
use super::time::Stamp;

/// One line of a recording, one step of the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts from 1 without holes.
    pub seq: u64,
    /// When the pipeline released it: never goes back, drives the engine's timers.
    pub seen: Stamp,
    /// The fact's own instant: may lie in the past; the only one that reaches an incident.
    pub at: Stamp,
    pub fact: Fact,
}

/// What a source saw, before the pipeline has numbered it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub at: Stamp,
    pub fact: Fact,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    // The kernel, by the probe.
    TcpState(TcpStateChange),
    ResetReceived(ResetReceived),
    ResetSent(ResetSent),
    SocketError(SocketError),
    Reading(Reading),
    Http(HttpFact),
    ProcessStarted(ProcessStarted),
    ProcessExec(ProcessExec),
    ProcessExited(ProcessExited),
    Signal(Signal),
    OomVictim {
        pid: Pid,
    },
    // What was there before the start, or is looked up beside the events.
    SocketSeen(SocketSeen),
    ProcessSeen(ProcessSeen),
    /// A running docker-proxy and the address pair that it joins.
    ProxySeen(ProxySeen),
    // Docker.
    ContainerSeen(Box<ContainerInfo>),
    /// A full listing ended: a container that was not seen since the listing before is gone.
    InventoryRead {
        containers: Vec<ContainerId>,
    },
    Docker(DockerEvent),
    // The monitor itself.
    Lost {
        stage: String,
        count: u64,
    },
    /// Nothing happened; only time passed.
    Tick,
    /// The run ends in order: every incident that is not closed is closed.
    Shutdown,
}

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

/// The task in whose context a fact was seen. On a bridge one side's facts run in the other side's task: only
/// transitions that a process makes itself (connect, listen, close) may trust it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub pid: Pid,
    pub comm: String,
    /// It is past `exit_signals()` (PF_EXITING).
    pub exiting: bool,
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
    /// When this socket last sent payload, and last got some; `None` where the framing layer saw none.
    pub last_sent: Option<Stamp>,
    pub last_received: Option<Stamp>,
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

/// What the framing of plain HTTP/1.x shows, seen at the egress of the side that sent the bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpFact {
    /// The sender's socket.
    pub cookie: Cookie,
    pub what: HttpWhat,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpWhat {
    RequestBegun,
    RequestComplete,
    /// The first byte of an answer.
    AnswerBegun,
    /// A 1xx answer other than 101: not the answer that is owed.
    Informational {
        status: u16,
    },
    /// The end of the header; with an empty body also of the answer.
    AnswerHead {
        status: u16,
        body: BodyFraming,
        close: bool,
    },
    AnswerComplete,
    /// 101, or a successful CONNECT: what follows is not HTTP.
    Upgraded,
    /// Bytes that break the framing of HTTP/1.x after it had begun.
    Malformed,
    /// Not HTTP/1.x (TLS, HTTP/2 …), or the framing could not be followed.
    Opaque,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyFraming {
    Empty,
    Length { bytes: u64 },
    Chunked,
    UntilClose,
}

/// `sched:sched_process_fork` for a new process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessStarted {
    pub process: Process,
    pub parent: Pid,
    /// The parent stands outside the child's pid namespace: entered (docker exec, a health check, runc itself).
    pub parent_outside: bool,
}

/// `sched:sched_process_exec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessExec {
    pub process: Process,
}

/// `sched:sched_process_exit` of the last thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessExited {
    pub process: Process,
    pub parent: Pid,
    pub parent_outside: bool,
    pub status: ExitStatus,
}

/// A process as the kernel names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: Pid,
    /// Its number in its own pid namespace: 1 is a container's first process.
    pub ns_pid: u32,
    /// Depth of its pid namespace; 0 is the host's.
    pub ns_level: u32,
    pub cgroup: CgroupId,
    /// 0 where the dying task had no namespaces any more.
    pub netns: NetnsId,
    pub comm: String,
}

/// As `wait(2)` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    Code { code: u8 },
    Signal { signal: String, core: bool },
}

impl ExitStatus {
    /// The exit code of a process that ended by itself.
    #[must_use]
    pub fn code(&self) -> Option<u8> {
        match self {
            Self::Code { code } => Some(*code),
            Self::Signal { .. } => None,
        }
    }

    /// The signal that ended it.
    #[must_use]
    pub fn signal(&self) -> Option<&str> {
        match self {
            Self::Signal { signal, .. } => Some(signal),
            Self::Code { .. } => None,
        }
    }

    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code() == Some(0)
    }
}

/// `signal:signal_generate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// SIGKILL …
    pub signal: String,
    pub target: Process,
    pub sender: SignalSender,
    /// The kernel accepted it for delivery; false: ignored or already pending.
    pub delivered: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalSender {
    /// The kernel itself: a fault (SEGV, BUS …), the OOM killer, a tty.
    Kernel,
    Process(Process),
}

/// A connection that was there before the probe (sock_diag).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SocketSeen {
    pub socket: Socket,
    pub state: TcpState,
    /// The process that holds it, where `/proc` could tell.
    pub task: Option<Task>,
}

/// A process found in `/proc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessSeen {
    pub process: Process,
    pub parent: Pid,
    pub parent_outside: bool,
    /// It holds a listening socket or an accepted connection.
    pub serves: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProxySeen {
    pub pid: Pid,
    pub listen: SocketAddr,
    pub backend: SocketAddr,
}

/// What `docker inspect` says of a container, reduced to what a verdict needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerInfo {
    pub id: ContainerId,
    /// Without slash.
    pub name: String,
    pub image: String,
    pub project: Option<String>,
    pub service: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub running: bool,
    pub paused: bool,
    pub started_at: Option<Stamp>,
    /// The first process, while it runs.
    pub pid: Option<Pid>,
    pub cgroup: Option<CgroupId>,
    pub netns: Option<NetnsId>,
    /// An init (docker-init) is the first process.
    pub init: bool,
    /// Network mode host: its sockets live in the host's namespace.
    pub host_network: bool,
    /// `SIGTERM` unless the image or the command line says otherwise.
    pub stop_signal: String,
    pub health: Option<String>,
    pub restart_policy: Option<String>,
    /// Bytes.
    pub memory_limit: Option<u64>,
    pub networks: Vec<NetworkAddress>,
    pub published: Vec<PublishedPort>,
    pub endpoints: Vec<Endpoint>,
    pub exit_code: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAddress {
    pub network: String,
    pub addresses: Vec<IpAddr>,
    /// Names by which the others find it there.
    pub aliases: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    pub host_ip: IpAddr,
    pub host_port: u16,
    pub container_port: u16,
}

/// `X_ENDPOINT` or `X_FALLBACK_ENDPOINT` of a container's environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The `X`.
    pub prefix: String,
    pub fallback: bool,
    /// Host part of the URL.
    pub host: String,
    pub port: Option<u16>,
}

/// One event of Docker's stream; the event's own time is the observation's `at`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DockerEvent {
    pub container: ContainerId,
    pub name: String,
    pub action: DockerAction,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DockerAction {
    Create,
    Start,
    Die {
        exit_code: Option<i64>,
    },
    Oom,
    /// `docker kill`, and each signal of a `docker stop`.
    Kill {
        signal: String,
    },
    Stop,
    Pause,
    Unpause,
    HealthStatus {
        status: String,
    },
    Restart,
    Rename {
        old_name: String,
    },
    Destroy,
    NetworkConnect {
        network: String,
    },
    NetworkDisconnect {
        network: String,
    },
}
