//! Lookup: the DNS queries of one getaddrinfo call and their responses.

use crate::model::event::{DnsMessage, DnsResponse, Socket, Task};
use crate::model::ids::Cookie;
use crate::model::time::{Nanos, Stamp};

/// Queries of one lookup through several sockets are sent within this time.
const QUERY_SPREAD: Nanos = Nanos::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LookupId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupState {
    /// A response is outstanding.
    Open,
    /// Every query was refused; a further one may follow.
    Refused,
    /// A response gave an address.
    Resolved,
    /// It timed out, or its socket was closed, without a response.
    Unanswered,
    /// The process exited during the lookup.
    Abandoned,
}

#[derive(Clone, Debug)]
pub struct Query {
    pub(super) cookie: Cookie,
    pub(super) id: u16,
    pub name: String,
    pub(super) qtype: String,
    pub answer: Option<DnsResponse>,
}

#[derive(Clone, Debug)]
pub struct Lookup {
    pub id: LookupId,
    /// The socket of the first query.
    pub socket: Socket,
    pub task: Task,
    pub begun: Stamp,
    /// When the last response arrived, or the lookup was abandoned.
    pub decided: Stamp,
    pub queries: Vec<Query>,
    /// The sockets of all its queries.
    pub(super) cookies: Vec<Cookie>,
    pub state: LookupState,
    /// Events were lost while it was open; a response may have been among them.
    pub doubtful: bool,
}

impl Lookup {
    /// The requested name, without search domains.
    #[must_use]
    pub fn name(&self) -> &str {
        self.queries.iter().map(|query| query.name.as_str()).min_by_key(|name| name.len()).unwrap_or_default()
    }

    /// The error that getaddrinfo returns. A failed query takes precedence over the responses of the others.
    #[must_use]
    pub fn errno(&self) -> &'static str {
        let name = self.name();
        let responses = || self.queries.iter().filter(|query| query.name == name).map(|q| q.answer.as_ref());
        let is_temporary = responses().any(|answer| match answer {
            Some(DnsResponse::Failed { .. } | DnsResponse::Silent) | None => true,
            Some(DnsResponse::Addresses(_) | DnsResponse::NoData | DnsResponse::NoName) => false,
        });
        let has_no_name = responses().any(|answer| answer == Some(&DnsResponse::NoName));
        match (is_temporary, has_no_name) {
            (true, _) => "EAI_AGAIN",
            (false, true) => "EAI_NONAME",
            (false, false) => "EAI_NODATA",
        }
    }

    /// The last response for the requested name.
    #[must_use]
    pub fn answer(&self) -> DnsResponse {
        let name = self.name();
        let of_name = self.queries.iter().filter(|query| query.name == name);
        of_name.filter_map(|query| query.answer.clone()).next_back().unwrap_or(DnsResponse::Silent)
    }

    pub(super) fn is_refused(&self) -> bool {
        self.queries.iter().all(|query| query.answer.is_some())
    }

    /// Whether only types other than A were queried and do not exist, which is no failure.
    pub(super) fn is_only_without_data(&self) -> bool {
        self.queries.iter().all(|q| q.qtype != "A" && q.answer == Some(DnsResponse::NoData))
    }

    pub(super) fn has_query(&self, message: &DnsMessage) -> bool {
        self.queries.iter().any(|query| query.matches(message))
    }

    fn has_query_for(&self, message: &DnsMessage) -> bool {
        self.queries.iter().any(|q| q.name == message.name && q.qtype == message.qtype)
    }

    fn has_name(&self, name: &str) -> bool {
        self.queries.iter().any(|query| query.name == name)
    }

    pub(super) fn is_related(&self, name: &str) -> bool {
        self.queries.iter().any(|query| first_label(&query.name) == first_label(name))
    }

    pub(super) fn is_active(&self) -> bool {
        matches!(self.state, LookupState::Open | LookupState::Refused)
    }

    /// Whether a query through a socket of this lookup belongs to it.
    pub(super) fn is_continued_by(&self, message: &DnsMessage) -> bool {
        self.has_query(message) || (self.is_active() && self.is_related(&message.name) && !self.has_query_for(message))
    }

    /// Whether a query through another socket of the same process belongs to it.
    pub(super) fn is_completed_by(&self, message: &DnsMessage, at: Stamp) -> bool {
        if self.has_query(message) {
            return true;
        }
        if !self.is_active() || self.has_query_for(message) {
            return false;
        }
        let other_type = self.has_name(&message.name) && at.since(self.begun) <= QUERY_SPREAD;
        let refused = self.state == LookupState::Refused && at.since(self.decided) <= QUERY_SPREAD;
        other_type || (refused && !self.has_name(&message.name) && self.is_related(&message.name))
    }
}

impl Query {
    pub(super) fn new(message: &DnsMessage) -> Self {
        Self {
            cookie: message.socket.cookie,
            id: message.id,
            name: message.name.clone(),
            qtype: message.qtype.clone(),
            answer: None,
        }
    }

    pub(super) fn matches(&self, message: &DnsMessage) -> bool {
        self.id == message.id && self.name == message.name && self.qtype == message.qtype
    }
}

fn first_label(name: &str) -> &str {
    name.split_once('.').map_or(name, |(first, _)| first)
}
