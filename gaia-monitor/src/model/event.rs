//! The one type that sources make, the engine consumes and recordings hold.
//!
//! A fact says what was seen, never what it means. It carries no header or body byte of anybody's traffic.

mod docker;
mod drops;
mod http;
mod links;
mod names;
mod process;
mod tcp;
mod traces;

use serde::{Deserialize, Serialize};

pub use docker::{ContainerInfo, DeclaredEndpoint, DockerAction, DockerEvent, NetworkAddress, PublishedPort};
pub use drops::{Handshake, Hook, IcmpSent, ListenCounts, ListenOverflow, PacketDropped, Retransmitted, Unreachable};
pub use http::{BodyFraming, HttpFact, HttpWhat};
pub use links::{AddressChange, Link, LinkChange, LinkKind, LinkState, LinksRead, NeighbourChange};
pub use names::{AskerClosed, LookUp, LookUpWhat, NameAnswer, NameChecked};
pub use process::{
    ExitStatus, Process, ProcessExec, ProcessExited, ProcessSeen, ProcessStarted, Signal, SignalSender, Task,
};
pub use tcp::{
    ProxySeen, Reading, ResetReceived, ResetSent, Socket, SocketError, SocketSeen, TcpState, TcpStateChange,
};
pub use traces::{CoreDump, LogLine, LogStream, LogsUnread, MemoryUse};

use super::ids::{ContainerId, Pid};
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
    PacketDropped(PacketDropped),
    IcmpSent(IcmpSent),
    Retransmitted(Retransmitted),
    ListenOverflow(ListenOverflow),
    Http(HttpFact),
    LookUp(Box<LookUp>),
    AskerClosed(AskerClosed),
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
    // Network interfaces of the host and of containers, by rtnetlink.
    LinksRead(LinksRead),
    Link(LinkChange),
    Address(AddressChange),
    Neighbour(NeighbourChange),
    // Names, by the monitor's own look-ups.
    NameChecked(NameChecked),
    // Counters of network namespaces.
    ListenCounts(ListenCounts),
    // Docker.
    ContainerSeen(Box<ContainerInfo>),
    /// A full listing ended: a container that was not seen since the listing before is gone.
    InventoryRead {
        containers: Vec<ContainerId>,
    },
    Docker(DockerEvent),
    // What the engine asked for, when it told an incident.
    Log(Box<LogLine>),
    LogsUnread(LogsUnread),
    Memory(MemoryUse),
    CoreDump(Box<CoreDump>),
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
