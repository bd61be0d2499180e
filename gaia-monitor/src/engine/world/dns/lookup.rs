//! Lookup: the DNS queries of one getaddrinfo call and their responses.

use std::cmp::Reverse;
use std::net::IpAddr;

use crate::model::event::{DnsMessage, DnsResponse, Socket, Task};
use crate::model::ids::Cookie;
use crate::model::time::{Nanos, Stamp};

/// A resolver that goes on to another name, type or socket does so within this time of a final response, or of the close
/// of its last socket.
pub const CONTINUES_WITHIN: Nanos = Nanos::from_millis(100);
/// The same query again from another port is a retry if it comes so long after the first: resolvers wait at least 1 s
/// (`options timeout:1`), less a tenth for timers. Sooner, it belongs to another call of the same process.
const RETRIED_AFTER: Nanos = Nanos::from_millis(900);

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
    /// Its last socket was closed, or it took too long, without a response.
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
    /// When it was last sent.
    pub(super) sent: Stamp,
    /// Its socket was closed before a response.
    pub(super) abandoned: bool,
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
    /// When the last socket with a query outstanding was closed.
    pub(super) closed: Option<Stamp>,
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

    /// The addresses that its responses gave.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let answers = self.queries.iter().filter_map(|query| query.answer.as_ref());
        let given = answers.flat_map(|answer| match answer {
            DnsResponse::Addresses(addresses) => addresses.as_slice(),
            DnsResponse::NoData | DnsResponse::NoName | DnsResponse::Failed { .. } | DnsResponse::Silent => &[],
        });
        given.copied()
    }

    pub(super) fn gave(&self, address: IpAddr) -> bool {
        self.addresses().any(|given| given == address)
    }

    /// No query can still be answered.
    pub(super) fn is_decided(&self) -> bool {
        self.queries.iter().all(|query| query.answer.is_some() || query.abandoned)
    }

    /// Whether only types other than A were queried and do not exist, which is no failure.
    pub(super) fn is_only_without_data(&self) -> bool {
        self.queries.iter().all(|q| q.qtype != "A" && q.answer == Some(DnsResponse::NoData))
    }

    pub(super) fn has_query(&self, message: &DnsMessage) -> bool {
        self.queries.iter().any(|query| query.matches(message))
    }

    fn query_for(&self, message: &DnsMessage) -> Option<&Query> {
        self.queries.iter().find(|query| query.is_for(message))
    }

    fn has_query_for(&self, message: &DnsMessage) -> bool {
        self.query_for(message).is_some()
    }

    pub(super) fn is_related(&self, name: &str) -> bool {
        self.queries.iter().any(|query| first_label(&query.name) == first_label(name))
    }

    pub(super) fn is_active(&self) -> bool {
        matches!(self.state, LookupState::Open | LookupState::Refused)
    }

    /// Whether its resolver may send a further query for it at `at`.
    fn may_continue(&self, at: Stamp) -> bool {
        let recent = |since: Stamp| at.since(since) <= CONTINUES_WITHIN;
        match self.state {
            LookupState::Open => true,
            LookupState::Refused => recent(self.decided),
            LookupState::Unanswered => self.closed.is_some_and(recent),
            LookupState::Resolved | LookupState::Abandoned => false,
        }
    }

    /// Whether a query through a socket of this lookup belongs to it.
    pub(super) fn is_continued_by(&self, message: &DnsMessage, at: Stamp) -> bool {
        let further = || self.is_related(&message.name) && !self.has_query_for(message);
        self.has_query(message) || (self.may_continue(at) && further())
    }

    /// How well a query through another socket of the same process fits; `None`: it belongs to another lookup. Of several
    /// lookups the greatest wins: the resolver goes on where it has been waiting longest.
    pub(super) fn is_completed_by(&self, message: &DnsMessage, at: Stamp) -> Option<(Fit, Reverse<Stamp>)> {
        if self.is_active() && self.has_query(message) {
            return Some((Fit::Same, Reverse(self.begun)));
        }
        if !self.may_continue(at) {
            return None;
        }
        if let Some(query) = self.query_for(message) {
            let waits = query.answer.is_none() && (query.abandoned || at.since(query.sent) >= RETRIED_AFTER);
            return waits.then_some((Fit::Retry, Reverse(query.sent)));
        }
        if !self.is_related(&message.name) {
            return None;
        }
        match (self.state, self.closed) {
            (LookupState::Refused, _) => Some((Fit::Next, Reverse(self.decided))),
            (_, Some(closed)) => Some((Fit::Next, Reverse(closed))),
            (_, None) => Some((Fit::Parallel, Reverse(self.begun))),
        }
    }

    /// A query joins it. Returns false if there is nothing new to wait for.
    pub(super) fn record_query(&mut self, at: Stamp, message: &DnsMessage, cap: usize) -> bool {
        let sent = Query::new(at, message);
        let waited = self.closed.take().is_some() || self.state != LookupState::Open;
        if let Some(same) = self.queries.iter_mut().find(|query| query.matches(message)) {
            // Repeated by its resolver, after no response or a server failure.
            let fails = matches!(same.answer, Some(DnsResponse::Failed { .. }));
            let answer = same.answer.take().filter(|_| !fails);
            let is_new = answer.is_none() && (fails || waited);
            *same = Query { answer, ..sent };
            return is_new;
        }
        let retried = |query: &&mut Query| query.is_for(message) && query.answer.is_none();
        if let Some(first) = self.queries.iter_mut().find(retried) {
            *first = sent;
        } else if self.queries.len() < cap {
            self.queries.push(sent);
        } else {
            return false;
        }
        waited
    }

    /// A socket of it was closed with a query outstanding. Returns whether it was the last one.
    pub(super) fn record_close(&mut self, at: Stamp, cookie: Cookie) -> bool {
        let own = |query: &&mut Query| query.cookie == cookie && query.answer.is_none();
        for query in self.queries.iter_mut().filter(own) {
            query.abandoned = true;
        }
        let last = self.is_decided();
        if last {
            self.closed = Some(at);
        }
        last
    }
}

/// How a query continues a lookup, the best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// Another type, or another name, while the first is outstanding.
    Parallel,
    /// Another type, or another name, after the last socket was closed or the last query was refused.
    Next,
    /// The same query again, from another port.
    Retry,
    /// The same query with the same id.
    Same,
}

impl Query {
    pub(super) fn new(sent: Stamp, message: &DnsMessage) -> Self {
        Self {
            sent,
            abandoned: false,
            cookie: message.socket.cookie,
            id: message.id,
            name: message.name.clone(),
            qtype: message.qtype.clone(),
            answer: None,
        }
    }

    pub(super) fn matches(&self, message: &DnsMessage) -> bool {
        self.id == message.id && self.is_for(message)
    }

    fn is_for(&self, message: &DnsMessage) -> bool {
        self.name == message.name && self.qtype == message.qtype
    }
}

fn first_label(name: &str) -> &str {
    name.split_once('.').map_or(name, |(first, _)| first)
}
