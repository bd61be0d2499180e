//! Change: the result of absorbing one event, to which the engine reacts.

use std::net::SocketAddr;

use crate::model::event::LogsUnread;
use crate::model::ids::{ContainerId, NetnsId, Pid};
use crate::model::time::Stamp;

use crate::engine::world::dns::lookups::LookupChange;
use crate::engine::world::logs::Line;
use crate::engine::world::network::outages::OutageId;
use crate::engine::world::tcp::sockets::SocketChange;
use crate::engine::world::terminations::TerminationId;

/// The effect of an event on the world, as far as the engine reacts to it.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Socket(SocketChange),
    Lookup(LookupChange),
    /// The responses for a name changed, or a holder of it is down.
    DnsChanged(String),
    /// A process started to listen.
    Listening {
        container: ContainerId,
        port: u16,
        since: Stamp,
    },
    /// A container's termination began or advanced.
    Termination(TerminationId),
    /// A process exited.
    Exited(Pid),
    Signalled(Pid),
    OomMarked(Pid),
    /// An outage began, changed or ended.
    Outage(OutageId),
    /// A packet between these addresses was dropped, or refused by ICMP.
    PacketDropped {
        netns: NetnsId,
        source: SocketAddr,
        destination: SocketAddr,
    },
    /// A full accept queue dropped a handshake in this namespace, or the kernel's counters of such handshakes grew.
    AcceptQueueFull(NetnsId),
    /// A Docker event or an inspection of the container was recorded.
    Docker(ContainerId),
    /// A new log line of a container was recorded.
    Logged(ContainerId, Line),
    LogsUnread(LogsUnread),
    Lost {
        stage: String,
        count: u64,
    },
    Shutdown,
}
