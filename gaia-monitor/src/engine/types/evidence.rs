//! Observations behind an attribution. The world evicts the facts sooner than an incident needs them, so the failure
//! keeps what its cause was derived from.

use crate::model::event::{Hook, Unreachable};
use crate::model::ids::{NetnsId, Pid};
use crate::model::time::Stamp;

use super::ids::FailureId;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Evidence {
    /// The case key holds everything.
    #[default]
    None,
    /// The termination of a container, after a failure of its own where there was one. `inferred`: that the failure is its
    /// doing follows from names, order or timing.
    Termination { after: Option<FailureId>, inferred: bool },
    /// The death of this worker; `after` and `inferred` as for a termination.
    Worker { pid: Pid, after: Option<FailureId>, inferred: bool },
    /// The death of a descendant without sockets of its own. `unambiguous`: nothing else qualifies as well; `by_status`:
    /// only its exit code, and that the response broke immediately after it, connect the two.
    Descendant { pid: Pid, unambiguous: bool, by_status: bool },
    /// Dropped or rejected packets.
    Drop(DropEvidence),
    /// A full accept queue. `observed`: the probe saw this SYN meet it; otherwise the kernel's counters did.
    AcceptQueue { since: Stamp, observed: bool },
    /// Nothing that the client sent since this instant was acknowledged, however often it was retransmitted.
    Unacknowledged { since: Stamp, retransmits: u32 },
    /// A failed connection of the server itself. `unambiguous`: no failure of another cause qualifies as well.
    Upstream { failure: FailureId, unambiguous: bool },
    /// A failed lookup of the server itself.
    OwnLookup { failure: FailureId },
}

impl Evidence {
    /// The failure that the server itself had met before, except the upstream of a chain, which takes the entry.
    #[must_use]
    pub fn earlier_failure(&self) -> Option<FailureId> {
        match self {
            Self::Termination { after, .. } | Self::Worker { after, .. } => *after,
            Self::OwnLookup { failure } => Some(*failure),
            Self::None
            | Self::Drop(_)
            | Self::AcceptQueue { .. }
            | Self::Unacknowledged { .. }
            | Self::Upstream { .. }
            | Self::Descendant { .. } => None,
        }
    }

    /// The process other than a container's first whose death it is.
    #[must_use]
    pub fn worker(&self) -> Option<Pid> {
        match self {
            Self::Worker { pid, .. } | Self::Descendant { pid, .. } => Some(*pid),
            Self::None
            | Self::Termination { .. }
            | Self::Drop(_)
            | Self::AcceptQueue { .. }
            | Self::Unacknowledged { .. }
            | Self::Upstream { .. }
            | Self::OwnLookup { .. } => None,
        }
    }

    /// The death itself did not end the connection: what connects the two is inferred.
    #[must_use]
    pub fn is_inferred(&self) -> bool {
        matches!(self, Self::Termination { inferred: true, .. } | Self::Worker { inferred: true, .. })
    }

    /// Several upstream failures with different causes qualify.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Upstream { unambiguous: false, .. } | Self::Descendant { unambiguous: false, .. })
    }
}

/// What makes two drops one event: the same place does the same for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PacketFilter {
    /// It sent a RST or an ICMP error instead of dropping silently.
    pub rejects: bool,
    /// Namespace and the kernel's drop reason; `None` if only the RST was observed.
    pub place: Option<(NetnsId, String)>,
}

/// What one connection met.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DropEvidence {
    pub filter: PacketFilter,
    pub hook: Option<Hook>,
    /// The ICMP error that was sent.
    pub icmp: Option<Unreachable>,
    /// The first packet of the connection that was dropped.
    pub first: Stamp,
}
