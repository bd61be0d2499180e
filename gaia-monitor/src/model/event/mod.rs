//! Events: the one type that sources produce, the engine consumes and recordings contain.
//!
//! A fact states what was observed, not what it means. It contains no byte of a header section or body of observed
//! traffic.

// Observed by the probe in the kernel.
mod drops;
mod http;
mod process;
mod tcp;
// Observed by other sources.
mod docker;
mod links;
mod names;
mod traces;
// The grouping of all facts.
mod source;

use serde::{Deserialize, Serialize};

pub use docker::{
    ContainerInfo, DeclaredEndpoint, DockerAction, DockerEvent, NetworkAddress, PublishedPort, RecordedEnd,
};
pub use drops::{
    AcceptQueueCounts, AcceptQueueFull, Handshake, Hook, IcmpSent, PacketDropped, Retransmitted, Unreachable,
};
pub use http::{BodyFraming, HttpFact, HttpWhat};
pub use links::{AddressChange, Link, LinkChange, LinkKind, LinkState, LinksRead, NeighbourChange};
pub use names::{DnsContent, DnsMessage, DnsProbe, DnsResponse, DnsSocketClosed};
pub use process::{
    CrashSite, EngineUsed, ExitStatus, ModuleOffset, Process, ProcessExec, ProcessExited, ProcessSeen, ProcessStarted,
    ResourceLimit, Signal, SignalSender, Task,
};
pub use source::Source;
pub use tcp::{
    ProxySeen, ResetReceived, ResetSent, Socket, SocketError, SocketRead, SocketSeen, TcpState, TcpStateChange,
};
pub use traces::{CoreDump, LogLine, LogStream, LogsUnread, MaintenanceSeen, MemoryUse};

use super::ids::{ContainerId, Pid};
use super::time::Stamp;

/// One line of a recording and one step of the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts from 1 without gaps.
    pub seq: u64,
    /// Instant of release by the pipeline: monotonic, drives the engine's timers.
    pub seen: Stamp,
    /// Instant of the fact itself: may be in the past, and is the only instant that reaches an incident.
    pub at: Stamp,
    pub fact: Fact,
}

/// A fact as a source emits it, before the pipeline has numbered it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub at: Stamp,
    pub fact: Fact,
}

/// What was observed. The documentation of each variant names its source; [`Fact::source`] groups the variants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    // The probe: TCP.
    /// A TCP socket changed its state (tracepoint `sock:inet_sock_set_state`).
    TcpState(TcpStateChange),
    /// A TCP socket received an RST (tracepoint `tcp:tcp_receive_reset`).
    ResetReceived(ResetReceived),
    /// An RST was sent (tracepoint `tcp:tcp_send_reset`).
    ResetSent(ResetSent),
    /// The kernel set an error on a socket (tracepoint `sock:inet_sk_error_report`).
    SocketError(SocketError),
    /// A process read from a socket (tracepoint `tcp:tcp_rcv_space_adjust`).
    SocketRead(SocketRead),
    /// The kernel dropped a TCP packet (tracepoint `skb:kfree_skb`).
    PacketDropped(PacketDropped),
    /// The kernel sent an ICMP "destination unreachable" for a TCP packet (tracepoint `icmp:icmp_send`).
    IcmpSent(IcmpSent),
    /// A TCP socket retransmitted a packet (tracepoint `tcp:tcp_retransmit_skb`).
    Retransmitted(Retransmitted),
    /// A packet of a handshake reached a listener whose accept queue was full (cgroup ingress program).
    AcceptQueueFull(AcceptQueueFull),
    // The probe: application protocols.
    /// A step of HTTP/1.x framing on a connection (cgroup egress and ingress programs).
    Http(HttpFact),
    /// A DNS query of a container, or the response to it (cgroup egress and ingress programs).
    DnsMessage(Box<DnsMessage>),
    /// A socket closed while a DNS query on it had no response (cgroup program `BPF_CGROUP_INET_SOCK_RELEASE`).
    DnsSocketClosed(DnsSocketClosed),
    // The probe: processes.
    /// A process was created (tracepoint `sched:sched_process_fork`).
    ProcessStarted(ProcessStarted),
    /// A process replaced its program (tracepoint `sched:sched_process_exec`).
    ProcessExec(ProcessExec),
    /// The last thread of a process exited (tracepoint `sched:sched_process_exit`).
    ProcessExited(ProcessExited),
    /// A signal was generated for a process (tracepoint `signal:signal_generate`).
    Signal(Signal),
    /// The OOM killer selected this process (tracepoint `oom:mark_victim`).
    OomVictim { pid: Pid },
    /// A fatal signal of its own reached a process: where it crashed (tracepoint `signal:signal_deliver`).
    CrashSite(Box<CrashSite>),
    /// A process used the Docker engine's socket (tracepoint `sock:sk_data_ready`).
    EngineUsed(EngineUsed),
    // The inventory: state that is older than the probe, or that its events do not contain.
    /// An existing connection or listening socket (sock_diag(7)).
    SocketSeen(SocketSeen),
    /// An existing process (`/proc`).
    ProcessSeen(ProcessSeen),
    /// A running docker-proxy and the two addresses that it connects (its command line in `/proc`).
    ProxySeen(ProxySeen),
    // Network interfaces of the host and of containers.
    /// All interfaces and addresses of a network namespace (rtnetlink dumps `RTM_GETLINK` and `RTM_GETADDR`).
    LinksRead(LinksRead),
    /// An interface was added, changed or removed (rtnetlink `RTM_NEWLINK`, `RTM_DELLINK`).
    Link(LinkChange),
    /// An interface gained or lost an address (rtnetlink `RTM_NEWADDR`, `RTM_DELADDR`).
    Address(AddressChange),
    /// Address resolution of a neighbour failed, or works again (rtnetlink `RTM_NEWNEIGH`, `RTM_DELNEIGH`).
    Neighbour(NeighbourChange),
    // DNS probes.
    /// The result of a lookup by the monitor itself, inside a container's network namespace.
    DnsProbe(DnsProbe),
    // Counters of network namespaces.
    /// The kernel's counters of dropped handshakes grew (`/proc/PID/net/netstat`).
    AcceptQueueCounts(AcceptQueueCounts),
    // Docker.
    /// The result of an inspection of one container (Docker API).
    ContainerSeen(Box<ContainerInfo>),
    /// A full listing ended (Docker API): a container without a [`Fact::ContainerSeen`] since the previous listing was
    /// removed.
    InventoryRead { containers: Vec<ContainerId> },
    /// A container event of Docker's event stream.
    Docker(DockerEvent),
    // Enrichment that the engine requested for an incident.
    /// A line of a container's log (Docker API).
    Log(Box<LogLine>),
    /// A container's log could not be read (Docker API).
    LogsUnread(LogsUnread),
    /// Memory use of the container of an OOM victim (memory cgroup files).
    Memory(MemoryUse),
    /// The core pattern, and the values of its placeholders for one process (`/proc`).
    CoreDump(Box<CoreDump>),
    /// Whether the maintenance mode of a client is active (a file in its container).
    Maintenance(MaintenanceSeen),
    // The monitor itself.
    /// Events were lost at a stage before the engine.
    Lost { stage: String, count: u64 },
    /// Time passed without another fact.
    Tick,
    /// The run ends cleanly: every open incident is closed.
    Shutdown,
}
