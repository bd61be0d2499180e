//! Client-visible failures, each with everything that its `affected` entry and its cause need, so that the sockets
//! themselves may be evicted.
//!
//! Bound: [`CAP`] failures; the oldest are evicted first and can then no longer move to another incident.

use std::collections::{BTreeMap, VecDeque};

use crate::engine::types::evidence::Evidence;
use crate::engine::types::ids::{CaseId, FailureId};
use crate::engine::world::logs::Line;
use crate::engine::world::tcp::proxy::Route;
use crate::model::ids::{ContainerId, Cookie, Pid};
use crate::model::incident::{Affected, Confidence, HttpxClass};
use crate::model::time::{Stamp, Utc};

const CAP: usize = 65_536;
/// Log lines of the client that are joined to one failure: a helper's message and the last line of a traceback.
const LOG_LINES: usize = 3;

/// What the client's socket received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Symptom {
    /// connect() failed before a packet left.
    NotSent,
    /// A RST in response to the SYN, or an ICMP port unreachable.
    Refused,
    /// Another ICMP error, or no neighbour.
    Unreachable,
    SynUnanswered,
    Fin,
    Reset,
    ResetAfterFin,
    /// The kernel timed out an established connection.
    TimedOut,
    /// The response stopped being HTTP.
    Malformed,
    /// The client closed after a long silence.
    Silence,
    /// The client closed early.
    Cancelled,
    /// The client's own process died.
    ClientDied,
    /// The resolver returned no address for the name.
    NameRefused,
    /// The resolver did not respond.
    NameUnanswered,
}

impl Symptom {
    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Symptom::NotSent => "no packet sent",
            Symptom::Refused => "refused",
            Symptom::Unreachable => "unreachable",
            Symptom::SynUnanswered => "SYN unanswered",
            Symptom::Fin => "FIN",
            Symptom::Reset => "reset",
            Symptom::ResetAfterFin => "reset after FIN",
            Symptom::TimedOut => "kernel timeout",
            Symptom::Malformed => "malformed response",
            Symptom::Silence => "silence",
            Symptom::Cancelled => "cancelled by the client",
            Symptom::ClientDied => "client died",
            Symptom::NameRefused => "lookup refused",
            Symptom::NameUnanswered => "lookup unanswered",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Failure {
    pub id: FailureId,
    pub symptom: Symptom,
    pub route: Route,
    pub client_container: Option<ContainerId>,
    pub client_pid: Option<Pid>,
    /// First byte of the request, or the connect.
    pub begun: Stamp,
    pub entry: Affected,
    /// The name, if it is a failed lookup.
    pub name: Option<String>,
    /// Behind the current attribution.
    pub evidence: Evidence,
    pub case: Option<CaseId>,
    /// As what its case counts it; `None` without a case, or if it is not counted.
    pub counted: Option<HttpxClass>,
    /// The case that it last left.
    pub previous_case: Option<CaseId>,
    /// When the engine learned of it.
    pub seen: Stamp,
    /// The framing was not followed: the class is derived from TCP alone.
    pub opaque: bool,
    /// The connection may have been idle (see `detect`).
    pub maybe_idle: bool,
    /// Facts are missing: the progress of the exchange is derived from TCP alone, or a port refused that was not
    /// observed to close.
    pub uncertain: bool,
    /// Events were lost while the connection was open.
    pub lossy: bool,
    /// No endpoint is in scope: it is neither listed nor counted.
    pub foreign: bool,
    /// Log lines of the client about it, and the error that each names.
    pub log: Vec<(Line, &'static str)>,
}

impl Failure {
    /// How sure it is that its case broke it. Missing events lower the confidence of the cause instead.
    #[must_use]
    pub fn confidence(&self) -> Confidence {
        match self.evidence {
            _ if self.evidence.is_ambiguous() || self.maybe_idle => Confidence::Possible,
            Evidence::Upstream { .. } | Evidence::Descendant { .. } => Confidence::Likely,
            _ if self.opaque || self.uncertain || self.evidence.is_inferred() => Confidence::Likely,
            _ => Confidence::Certain,
        }
    }

    /// The instant at which the client's socket received the fact.
    #[must_use]
    pub fn at(&self) -> Stamp {
        let Utc(at) = self.entry.at;
        at
    }

    #[must_use]
    pub fn is_lookup(&self) -> bool {
        self.name.is_some()
    }

    #[must_use]
    pub fn has_room_for_log_line(&self) -> bool {
        self.log.len() < LOG_LINES
    }

    /// The client got an error; false for class `none`.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.entry.client_error.httpx != HttpxClass::None
    }
}

#[derive(Debug, Default)]
pub struct Failures {
    all: BTreeMap<FailureId, Failure>,
    by_client: BTreeMap<Cookie, FailureId>,
    order: VecDeque<FailureId>,
    next: u64,
}

impl Failures {
    #[must_use]
    pub fn get(&self, id: FailureId) -> Option<&Failure> {
        self.all.get(&id)
    }

    #[must_use]
    pub fn of_client(&self, client: Cookie) -> Option<&Failure> {
        self.all.get(self.by_client.get(&client)?)
    }

    /// The latest first.
    pub fn latest(&self) -> impl Iterator<Item = &Failure> {
        self.order.iter().rev().filter_map(|id| self.all.get(id))
    }

    /// Adds a failure and assigns its id.
    pub fn add(&mut self, mut new: Failure) -> FailureId {
        self.next += 1;
        let id = FailureId(self.next);
        new.id = id;
        self.by_client.insert(new.route.client, id);
        self.all.insert(id, new);
        self.order.push_back(id);
        if self.order.len() > CAP
            && let Some(oldest) = self.order.pop_front()
        {
            self.remove(oldest);
        }
        id
    }

    /// It was no failure after all, or it is evicted.
    pub fn remove(&mut self, id: FailureId) {
        if let Some(removed) = self.all.remove(&id)
            && self.by_client.get(&removed.route.client) == Some(&id)
        {
            self.by_client.remove(&removed.route.client);
        }
    }

    pub fn change(&mut self, id: FailureId, change: impl FnOnce(&mut Failure)) {
        if let Some(failure) = self.all.get_mut(&id) {
            change(failure);
        }
    }
}
