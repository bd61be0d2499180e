//! Effects of the engine; outputs are folds over them.

use std::fmt;
use std::net::SocketAddr;

use crate::model::ids::{ContainerId, Pid};
use crate::model::incident::{CauseKind, HttpxClass, Incident};
use crate::model::story::Story;
use crate::model::time::{Nanos, Stamp};

/// One result of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A new revision of an incident. The first one has `revision` 1.
    Incident(Box<Incident>),
    /// A request that met trouble is over.
    Story(Box<Story>),
    /// Why a rule applied or did not; only `replay --explain` prints it.
    Explained(Explanation),
    /// A count of something that is not an incident.
    Count(Counter),
    /// A request for facts that enrich an incident. A live run collects them; a recording already contains them.
    Enrich(Request),
}

/// A request for enrichment. Nothing waits for the result; a late or missing one is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Log lines of the subject since an instant, and lines of its clients that name an error.
    Logs { subject: Option<ContainerId>, clients: Vec<ContainerId>, since: Stamp },
    /// Memory use of a container, right after the OOM killer selected one of its processes.
    Memory { container: ContainerId, victim: Pid },
    /// Whether maintenance mode is active in the container of a client whose request failed.
    Maintenance { container: ContainerId, client: Pid },
    /// The core pattern of the host, and the values of its placeholders for this process.
    Core { pid: Pid },
}

/// An increment of a counter. Names of clients, servers and services are the labels of metrics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// A client disconnected before its response.
    ClientCancelled { client: String, server: String },
    /// A server closed an idle connection.
    IdleClose { server: String },
    /// Docker could not return a container's log.
    LogsUnread { container: String, why: String },
    /// Events lost before the engine.
    Lost { stage: String, count: u64 },
    /// A client failure, counted once its cause has settled; see `stats/failures.rs`.
    Broken { client: String, server: String, httpx: HttpxClass, cause: CauseKind, retried: bool },
    /// A container was restarted.
    Restarted { container: String, service: String },
    /// The OOM killer selected a process of this container.
    OomKill { container: String, service: String },
    /// A service, or its candidate, sent its first complete response after the exit of the service's container.
    ServedAgain { service: String, after: Nanos },
}

/// Why a failure was attributed to a cause, or was not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub at: Stamp,
    /// Label of the client.
    pub client: String,
    /// Address that the client asked.
    pub server: SocketAddr,
    /// What the client's socket received.
    pub symptom: &'static str,
    /// Row of the decision table; `None` if the failure was ignored before.
    pub row: Option<&'static str>,
    pub reason: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, client, server, symptom, row, reason } = self;
        write!(f, "{at} {client} to {server}: {symptom}")?;
        if let Some(row) = row {
            write!(f, " [{row}]")?;
        }
        write!(f, ": {reason}")
    }
}
