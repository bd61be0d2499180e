//! What makes two facts one case.

use crate::model::ids::{ContainerId, Pid};
use crate::model::incident::CauseKind;
use crate::model::time::Stamp;

use crate::engine::causes::packet_filter::Filter;
use crate::engine::world::World;
use crate::engine::world::network::outages::OutageId;
use crate::engine::world::terminations::TerminationId;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CaseKey {
    Termination(TerminationId),
    /// Workers of one container that ended in the same way (`how` and status, in words).
    Workers(Option<ContainerId>, String),
    Paused(ContainerId, Stamp),
    /// A container was cut off, or a bridge with all behind it.
    Outage(OutageId),
    /// A closed port: each is opened by an event of its own.
    NotListening(ContainerId, u16),
    Backend(ContainerId, u16),
    /// A name without an answer. With the server whose own failed look-up broke its answer, where a container's event had
    /// removed the name: the look-up itself is that event's.
    NameGone(Lost, Option<ContainerId>),
    /// What one place does to the packets of one server, or of a client whose server is nobody's.
    Filtered(Option<ContainerId>, Filter),
    /// A listener of this container has no room for another connection.
    Backlog(ContainerId),
    /// Causes that belong to connections: one case for each server process and cause.
    Process(Option<ContainerId>, Option<Pid>, CauseKind),
    Client(Option<ContainerId>, Option<Pid>),
}

/// What a failed look-up was for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lost {
    /// The container that last had the name.
    Container(ContainerId),
    /// No container ever had it: it stands in an environment.
    Name(String),
}

impl CaseKey {
    /// The container that the case is about.
    #[must_use]
    pub fn container<'a>(&'a self, world: &'a World) -> Option<&'a ContainerId> {
        match self {
            Self::Termination(id) => world.terminations.get(*id).map(|termination| &termination.container),
            Self::Outage(id) => world.interfaces.outages.get(*id)?.container.as_ref(),
            Self::Paused(id, _) | Self::NotListening(id, _) | Self::Backend(id, _) | Self::Backlog(id) => Some(id),
            Self::Workers(id, _) | Self::Process(id, _, _) | Self::Client(id, _) | Self::Filtered(id, _) => id.as_ref(),
            Self::NameGone(_, Some(server)) => Some(server),
            Self::NameGone(Lost::Container(id), None) => Some(id),
            Self::NameGone(Lost::Name(_), None) => None,
        }
    }

    /// An event of its own, which can break something long after: the next case names it.
    #[must_use]
    pub fn names_an_event(&self) -> bool {
        match self {
            Self::Termination(_) | Self::Paused(..) | Self::Outage(_) => true,
            Self::Workers(..)
            | Self::NotListening(..)
            | Self::Backend(..)
            | Self::NameGone(..)
            | Self::Filtered(..)
            | Self::Backlog(_)
            | Self::Process(..)
            | Self::Client(..) => false,
        }
    }

    /// How long the gap between two facts of one case may be.
    #[must_use]
    pub fn gap(&self) -> Option<crate::model::time::Nanos> {
        match self {
            Self::Process(..) | Self::Client(..) => Some(crate::model::time::Nanos::from_secs(1)),
            Self::Workers(..) => Some(crate::model::time::Nanos::from_secs(10)),
            Self::Termination(_)
            | Self::Paused(..)
            | Self::Outage(_)
            | Self::NotListening(..)
            | Self::Backend(..)
            | Self::NameGone(..)
            | Self::Filtered(..)
            | Self::Backlog(_) => None,
        }
    }
}
