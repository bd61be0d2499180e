//! What the engine tells: sinks are folds over these.

use crate::model::incident::Incident;
use crate::model::time::Stamp;

#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A new revision of an incident. The first one has `revision` 1.
    Incident(Box<Incident>),
    /// Why a rule acted or held back; printed by `replay --explain` only.
    Explained { at: Stamp, text: String },
    /// Something that is counted and is no incident.
    Counted(Counted),
}

/// What is only counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counted {
    /// A client left with an answer owed.
    ClientCancelled { client: String, server: String },
    /// A server closed an idle connection.
    IdleClose { server: String },
    /// Events lost before the engine.
    Lost { stage: String, count: u64 },
}
