//! What the engine tells: sinks are folds over these.

use crate::model::ids::{ContainerId, Pid};
use crate::model::incident::{CauseKind, HttpxClass, Incident};
use crate::model::time::{Nanos, Stamp};

#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A new revision of an incident. The first one has `revision` 1.
    Incident(Box<Incident>),
    /// Why a rule acted or held back; printed by `replay --explain` only.
    Explained { at: Stamp, text: String },
    /// Something that is counted and is no incident.
    Counted(Counted),
    /// Further facts that would help to tell an incident. A live run looks them up; a replay has them already.
    Wanted(Wanted),
}

/// What is to be looked up. Nothing waits for it: what comes too late, or never, is not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What the subject wrote since then, and which errors its clients' logs name.
    Logs { subject: Option<ContainerId>, clients: Vec<ContainerId>, since: Stamp },
    /// The memory that a container holds whose process the OOM killer has just chosen.
    Memory { container: ContainerId, victim: Pid },
    /// How cores are written here, and what the pattern's placeholders stand for in this process.
    Core { pid: Pid },
}

/// What is only counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counted {
    /// A client left with an answer owed.
    ClientCancelled { client: String, server: String },
    /// A server closed an idle connection.
    IdleClose { server: String },
    /// Docker cannot give a container's log back.
    LogsUnread { container: String, why: String },
    /// Events lost before the engine.
    Lost { stage: String, count: u64 },
    /// A broken connection, once its cause can be relied on; see `stats`. Services as metrics call them.
    Broken { client: String, server: String, httpx: HttpxClass, cause: CauseKind, retried: bool },
    /// A container that had run before was started again.
    Restarted { container: String, service: String },
    /// The kernel chose a process of this container when memory ran out.
    OomKill { container: String, service: String },
    /// After its container went down, a service, or its candidate, gave its first complete answer.
    ServedAgain { service: String, after: Nanos },
}
