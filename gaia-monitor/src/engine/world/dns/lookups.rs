//! Lookups in progress: DNS queries and responses, grouped by getaddrinfo call.
//!
//! One lookup queries A and AAAA, tries search domains, and repeats queries without a response. Most resolvers use one
//! socket for all of them. Some open a socket for each query or search domain; their query joins the lookup of its
//! process that it completes: the same query again, the other type of the same name within 100 ms of the start, or
//! another name with the same first label within 100 ms of a refusal.
//!
//! Bound: [`LOOKUPS_CAP`] lookups; when reached, the oldest is evicted, and its late responses are ignored.
//! [`QUERIES_CAP`] queries and sockets of each; when reached, further ones are ignored. [`INDEX_CAP`] lookups of each
//! process and socket; when reached, the oldest gets no further messages.

use std::collections::{BTreeMap, VecDeque};

use crate::model::event::{DnsContent, DnsMessage, DnsResponse, DnsSocketClosed, Task};
use crate::model::ids::{Cookie, Pid};
use crate::model::time::{Nanos, Stamp};

pub use crate::engine::world::dns::lookup::{Lookup, LookupId, LookupState, Query};

const LOOKUPS_CAP: usize = 8_192;
const QUERIES_CAP: usize = 32;
/// Lookups searched for the one that a message belongs to, the latest first.
const INDEX_CAP: usize = 32;
/// A lookup without a response has failed after this time: the default timeout of the usual resolver.
pub const PATIENCE: Nanos = Nanos::from_secs(5);

/// A change of a lookup's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupChange {
    Begun(LookupId),
    /// It had failed, and sent a further query.
    Resumed(LookupId),
    /// A response gave an address, possibly after a failure.
    Resolved(LookupId),
    /// It failed, possibly again.
    Failed(LookupId),
}

#[derive(Debug, Default)]
pub struct Lookups {
    all: BTreeMap<LookupId, Lookup>,
    by_cookie: BTreeMap<Cookie, VecDeque<LookupId>>,
    by_pid: BTreeMap<Pid, VecDeque<LookupId>>,
    next: u64,
}

impl Lookups {
    #[must_use]
    pub fn get(&self, id: LookupId) -> Option<&Lookup> {
        self.all.get(&id)
    }

    /// Lookups with a response outstanding.
    pub fn open(&self) -> impl Iterator<Item = &Lookup> {
        self.all.values().filter(|lookup| lookup.state == LookupState::Open)
    }

    pub(in crate::engine::world) fn message(&mut self, at: Stamp, message: &DnsMessage) -> Option<LookupChange> {
        // Other types do not decide whether a name resolves.
        if message.qtype != "A" && message.qtype != "AAAA" {
            return None;
        }
        match &message.what {
            DnsContent::Query => self.query_sent(at, message),
            DnsContent::Response(answer) => self.response_received(at, message, answer),
        }
    }

    fn query_sent(&mut self, at: Stamp, message: &DnsMessage) -> Option<LookupChange> {
        let task = message.task.clone()?;
        let cookie = message.socket.cookie;
        let found = self.latest_match(self.by_cookie.get(&cookie), |lookup| lookup.is_continued_by(message));
        let found = found
            .or_else(|| self.latest_match(self.by_pid.get(&task.pid), |lookup| lookup.is_completed_by(message, at)));
        let Some(id) = found else { return Some(LookupChange::Begun(self.begin(at, message, task))) };
        let lookup = self.all.get_mut(&id)?;
        if !lookup.cookies.contains(&cookie) {
            if lookup.cookies.len() == QUERIES_CAP {
                return None;
            }
            lookup.cookies.push(cookie);
            index_insert(&mut self.by_cookie, cookie, id);
        }
        let room = lookup.queries.len() < QUERIES_CAP;
        let repeated = lookup.queries.iter_mut().find(|query| query.matches(message));
        match repeated {
            // Repeated after a server failure.
            Some(query) if matches!(query.answer, Some(DnsResponse::Failed { .. })) => {
                query.answer = None;
                query.cookie = cookie;
            }
            Some(query) => {
                query.cookie = cookie;
                return None;
            }
            None if room => lookup.queries.push(Query::new(message)),
            None => return None,
        }
        if lookup.state == LookupState::Refused {
            lookup.state = LookupState::Open;
            return Some(LookupChange::Resumed(id));
        }
        None
    }

    fn response_received(&mut self, at: Stamp, message: &DnsMessage, answer: &DnsResponse) -> Option<LookupChange> {
        let by_cookie = || self.by_cookie.get(&message.socket.cookie);
        let exact = self.latest_match(by_cookie(), |lookup| lookup.has_query(message));
        // The event of the query may have been lost.
        let id = exact.or_else(|| self.latest_match(by_cookie(), |lookup| lookup.is_related(&message.name)))?;
        let lookup = self.all.get_mut(&id)?;
        if !lookup.is_active() {
            return None;
        }
        let room = lookup.queries.len() < QUERIES_CAP;
        match lookup.queries.iter_mut().find(|query| query.matches(message)) {
            Some(query) => query.answer = Some(answer.clone()),
            None if room => {
                lookup.queries.push(Query { answer: Some(answer.clone()), ..Query::new(message) });
            }
            None => return None,
        }
        if matches!(answer, DnsResponse::Addresses(_)) {
            lookup.state = LookupState::Resolved;
            lookup.decided = at;
            return Some(LookupChange::Resolved(id));
        }
        if lookup.state == LookupState::Refused || !lookup.is_refused() {
            return None;
        }
        lookup.decided = at;
        lookup.state = LookupState::Refused;
        (!lookup.is_only_without_data()).then_some(LookupChange::Failed(id))
    }

    /// A socket was closed with a response outstanding.
    pub(in crate::engine::world) fn socket_closed(&mut self, at: Stamp, closed: &DnsSocketClosed) -> Vec<LookupChange> {
        let ids = self.by_cookie.get(&closed.cookie).cloned().unwrap_or_default();
        ids.into_iter().filter_map(|id| self.abandoned(at, id, Some(closed))).collect()
    }

    /// The lookup timed out at `at`.
    pub(in crate::engine) fn overdue(&mut self, at: Stamp, id: LookupId) -> Option<LookupChange> {
        self.abandoned(at, id, None)
    }

    fn abandoned(&mut self, at: Stamp, id: LookupId, closed: Option<&DnsSocketClosed>) -> Option<LookupChange> {
        let lookup = self.all.get_mut(&id).filter(|lookup| lookup.state == LookupState::Open)?;
        if let Some(closed) = closed {
            let mut waiting = lookup.queries.iter().filter(|query| query.answer.is_none());
            if waiting.any(|query| query.cookie != closed.cookie) {
                return None;
            }
            if closed.task.exiting {
                lookup.state = LookupState::Abandoned;
                return None;
            }
        }
        lookup.decided = at;
        lookup.state = LookupState::Unanswered;
        Some(LookupChange::Failed(id))
    }

    /// Events were lost; a response may have been among them.
    pub(in crate::engine::world) fn mark_doubtful(&mut self) {
        for lookup in self.all.values_mut().filter(|lookup| lookup.is_active()) {
            lookup.doubtful = true;
        }
    }

    fn begin(&mut self, at: Stamp, message: &DnsMessage, task: Task) -> LookupId {
        self.next += 1;
        let id = LookupId(self.next);
        index_insert(&mut self.by_cookie, message.socket.cookie, id);
        index_insert(&mut self.by_pid, task.pid, id);
        let lookup = Lookup {
            id,
            socket: message.socket,
            task,
            begun: at,
            decided: at,
            queries: vec![Query::new(message)],
            cookies: vec![message.socket.cookie],
            state: LookupState::Open,
            doubtful: false,
        };
        self.all.insert(id, lookup);
        if self.all.len() > LOOKUPS_CAP
            && let Some((oldest, evicted)) = self.all.pop_first()
        {
            for cookie in evicted.cookies {
                index_remove(&mut self.by_cookie, cookie, oldest);
            }
            index_remove(&mut self.by_pid, evicted.task.pid, oldest);
        }
        id
    }

    fn latest_match(&self, ids: Option<&VecDeque<LookupId>>, matches: impl Fn(&Lookup) -> bool) -> Option<LookupId> {
        let latest_first = ids?.iter().rev().filter_map(|id| self.all.get(id));
        latest_first.filter(|lookup| matches(lookup)).map(|lookup| lookup.id).next()
    }
}

fn index_insert<K: Ord>(index: &mut BTreeMap<K, VecDeque<LookupId>>, key: K, id: LookupId) {
    let ids = index.entry(key).or_default();
    if !ids.contains(&id) {
        ids.push_back(id);
        if ids.len() > INDEX_CAP {
            ids.pop_front();
        }
    }
}

fn index_remove<K: Ord>(index: &mut BTreeMap<K, VecDeque<LookupId>>, key: K, id: LookupId) {
    if let Some(ids) = index.get_mut(&key) {
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            index.remove(&key);
        }
    }
}
