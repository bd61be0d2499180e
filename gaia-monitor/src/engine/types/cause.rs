//! Case keys and attributions. A failure is attributed to a key; all failures and terminations with one key are one
//! case.

use crate::engine::world::network::outages::OutageId;
use crate::engine::world::terminations::TerminationId;
use crate::model::ids::{ContainerId, Pid};
use crate::model::incident::{CauseKind, How};
use crate::model::time::Stamp;

use super::evidence::{Evidence, PacketFilter};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CaseKey {
    Termination(TerminationId),
    /// Workers of one container that died in the same way.
    Workers {
        container: Option<ContainerId>,
        how: How,
        status: WorkerStatus,
    },
    Paused {
        container: ContainerId,
        since: Stamp,
    },
    /// A container, or a bridge with everything behind it, could not be reached.
    Outage(OutageId),
    /// Each closed port is a condition of its own.
    ClosedPort {
        container: ContainerId,
        port: u16,
    },
    /// docker-proxy accepted, and the container's port is closed.
    Backend {
        container: ContainerId,
        port: u16,
    },
    /// A name that does not resolve. `server`: its own failed lookup broke its outstanding response, and a container
    /// event had removed the name (the lookup belongs to that event).
    Name {
        target: LookupTarget,
        server: Option<ContainerId>,
    },
    /// What one place does to the packets of one server, or of a client whose server is outside this host.
    PacketFilter {
        container: Option<ContainerId>,
        filter: PacketFilter,
    },
    /// A full accept queue.
    AcceptQueue(ContainerId),
    /// Causes of single connections: one case for each server process and cause.
    Process {
        container: Option<ContainerId>,
        pid: Option<Pid>,
        kind: CauseKind,
    },
    Client {
        container: Option<ContainerId>,
        pid: Option<Pid>,
    },
}

/// The exit status that workers of one case share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkerStatus {
    Code(i32),
    Signal(String),
}

/// What a failed lookup asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LookupTarget {
    /// The container that last had the name.
    Container(ContainerId),
    /// A name that no container ever had and that an environment variable contains.
    Name(String),
}

/// The cause of one failure, with the reason for `--explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribution {
    pub outcome: Outcome,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Case {
        key: CaseKey,
        evidence: Evidence,
    },
    /// The deciding fact, the exit of a dying process, may still arrive until an instant.
    Pending {
        exit_of: Pid,
        until: Stamp,
    },
    /// No incident.
    Ignored,
}

impl Attribution {
    #[must_use]
    pub fn to(key: CaseKey, evidence: Evidence, reason: impl Into<String>) -> Self {
        Self { outcome: Outcome::Case { key, evidence }, reason: reason.into() }
    }

    /// The same, where the death itself did not end the connection.
    #[must_use]
    pub fn inferred(mut self) -> Self {
        if let Outcome::Case {
            evidence: Evidence::Termination { inferred, .. } | Evidence::Worker { inferred, .. },
            ..
        } = &mut self.outcome
        {
            *inferred = true;
        }
        self
    }

    #[must_use]
    pub fn pending(exit_of: Pid, until: Stamp) -> Self {
        let reason = format!("process {exit_of} is dying and its exit has not been observed yet");
        Self { outcome: Outcome::Pending { exit_of, until }, reason }
    }

    #[must_use]
    pub fn ignored(reason: &str) -> Self {
        Self { outcome: Outcome::Ignored, reason: reason.to_owned() }
    }
}
