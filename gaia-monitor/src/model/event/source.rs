//! The grouping of facts by their subject, under the names that metrics use.
//!
//! [`Fact::source`] assigns each variant once and without `_`, so that a new variant must be grouped. Code that needs
//! only a few facts matches the source and then the facts of that source.

use super::Fact;

/// A group of facts; the value of the label `source` in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Tcp,
    Http,
    Dns,
    Process,
    Link,
    Docker,
    Inventory,
    Log,
    Monitor,
}

impl Source {
    pub const ALL: [Source; 9] = [
        Source::Tcp,
        Source::Http,
        Source::Dns,
        Source::Process,
        Source::Link,
        Source::Docker,
        Source::Inventory,
        Source::Log,
        Source::Monitor,
    ];

    /// The value of the label in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Source::Tcp => "tcp",
            Source::Http => "http",
            Source::Dns => "dns",
            Source::Process => "process",
            Source::Link => "link",
            Source::Docker => "docker",
            Source::Inventory => "inventory",
            Source::Log => "log",
            Source::Monitor => "monitor",
        }
    }
}

impl Fact {
    /// The group of the fact.
    #[must_use]
    pub fn source(&self) -> Source {
        match self {
            Fact::TcpState(_)
            | Fact::ResetReceived(_)
            | Fact::ResetSent(_)
            | Fact::SocketError(_)
            | Fact::SocketRead(_)
            | Fact::PacketDropped(_)
            | Fact::IcmpSent(_)
            | Fact::Retransmitted(_)
            | Fact::AcceptQueueFull(_)
            | Fact::AcceptQueueCounts(_) => Source::Tcp,
            Fact::Http(_) => Source::Http,
            Fact::DnsMessage(_) | Fact::DnsSocketClosed(_) | Fact::DnsProbe(_) => Source::Dns,
            Fact::ProcessStarted(_)
            | Fact::ProcessExec(_)
            | Fact::ProcessExited(_)
            | Fact::Signal(_)
            | Fact::OomVictim { .. }
            | Fact::CrashSite(_)
            | Fact::EngineUsed(_)
            | Fact::Memory(_)
            | Fact::CoreDump(_)
            | Fact::Maintenance(_) => Source::Process,
            Fact::LinksRead(_) | Fact::Link(_) | Fact::Address(_) | Fact::Neighbour(_) => Source::Link,
            Fact::ContainerSeen(_) | Fact::InventoryRead { .. } | Fact::Docker(_) => Source::Docker,
            Fact::SocketSeen(_) | Fact::ProcessSeen(_) | Fact::ProxySeen(_) => Source::Inventory,
            Fact::Log(_) | Fact::LogsUnread(_) => Source::Log,
            Fact::Lost { .. } | Fact::Tick | Fact::Shutdown => Source::Monitor,
        }
    }
}
