//! Lookups in progress: DNS queries and responses, grouped by getaddrinfo call.
//!
//! One lookup queries A and AAAA, tries search domains, and repeats queries without a response. glibc uses one socket for
//! each name, musl as well, Go one for each query and try, c-ares another one for each try. A query joins the lookup of
//! its process that it completes: the same query again after a resolver's timeout, or another type or a name with the same
//! first label, while a query of the lookup is outstanding or within 100 ms of its last refusal or close. The same query
//! again within the timeout is another call of the process.
//!
//! A lookup is judged when its resolver is done: a response to every query, [`CONTINUES_WITHIN`] after the close of the last
//! socket, or [`PATIENCE`] after the first query.
//!
//! Bound: [`LOOKUPS_CAP`] lookups; when reached, the oldest is evicted, and its late responses are ignored.
//! [`QUERIES_CAP`] queries and sockets of each; when reached, further ones are ignored. [`INDEX_CAP`] lookups of each
//! process and socket; when reached, the oldest gets no further messages.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use crate::model::event::{DnsContent, DnsMessage, DnsResponse, DnsSocketClosed, Task};
use crate::model::ids::{Cookie, Pid};
use crate::model::time::{Nanos, Stamp};

pub use crate::engine::world::dns::lookup::{CONTINUES_WITHIN, Lookup, LookupId, LookupState, Query};

const LOOKUPS_CAP: usize = 8_192;
const QUERIES_CAP: usize = 32;
/// Lookups searched for the one that a message belongs to, the latest first.
const INDEX_CAP: usize = 32;
/// A lookup without a response has failed after this time: the usual resolvers give up after 5 to 20 s, and one that goes
/// on for longer has outlasted its client.
pub const PATIENCE: Nanos = Nanos::from_secs(30);

/// A change of a lookup's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupChange {
    Begun(LookupId),
    /// Its last socket was closed without a response; it fails unless its resolver goes on.
    Closed(LookupId),
    /// Its resolver goes on; it may have failed before.
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

    /// Whether one lookup of the process gave both addresses.
    #[must_use]
    pub fn gave_both(&self, pid: Pid, one: IpAddr, other: IpAddr) -> bool {
        self.of_process(pid).any(|lookup| lookup.gave(one) && lookup.gave(other))
    }

    /// Whether a lookup of the process gave this address and another one.
    #[must_use]
    pub fn has_other_address(&self, pid: Pid, address: IpAddr) -> bool {
        let is_other = |lookup: &Lookup| lookup.addresses().any(|other| other != address);
        self.of_process(pid).any(|lookup| lookup.gave(address) && is_other(lookup))
    }

    /// The latest lookup of the process that gave this address before an instant.
    #[must_use]
    pub fn that_gave(&self, pid: Pid, address: IpAddr, before: Stamp) -> Option<&Lookup> {
        self.of_process(pid).filter(|lookup| lookup.begun <= before && lookup.gave(address)).last()
    }

    /// The latest lookups of a process.
    fn of_process(&self, pid: Pid) -> impl Iterator<Item = &Lookup> {
        self.by_pid.get(&pid).into_iter().flatten().filter_map(|id| self.all.get(id))
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
        let found = self.latest_match(self.by_cookie.get(&cookie), |lookup| lookup.is_continued_by(message, at));
        let found = found.or_else(|| self.completed_by(at, message, task.pid));
        let Some(id) = found else { return Some(LookupChange::Begun(self.begin(at, message, task))) };
        let lookup = self.all.get_mut(&id)?;
        if !lookup.cookies.contains(&cookie) {
            if lookup.cookies.len() == QUERIES_CAP {
                return None;
            }
            lookup.cookies.push(cookie);
            index_insert(&mut self.by_cookie, cookie, id);
        }
        if !lookup.record_query(at, message, QUERIES_CAP) {
            return None;
        }
        let resumed = matches!(lookup.state, LookupState::Open | LookupState::Refused | LookupState::Unanswered);
        resumed.then(|| {
            lookup.state = LookupState::Open;
            LookupChange::Resumed(id)
        })
    }

    /// The lookup of the process that a query through another socket completes.
    fn completed_by(&self, at: Stamp, message: &DnsMessage, pid: Pid) -> Option<LookupId> {
        let fits = self.of_process(pid).filter_map(|lookup| Some((lookup.is_completed_by(message, at)?, lookup.id)));
        fits.max().map(|(_, id)| id)
    }

    fn response_received(&mut self, at: Stamp, message: &DnsMessage, answer: &DnsResponse) -> Option<LookupChange> {
        let by_cookie = || self.by_cookie.get(&message.socket.cookie);
        let exact = self.latest_match(by_cookie(), |lookup| lookup.has_query(message));
        // The event of the query may have been lost.
        let id = exact.or_else(|| self.latest_match(by_cookie(), |lookup| lookup.is_related(&message.name)))?;
        let lookup = self.all.get_mut(&id)?;
        if lookup.state == LookupState::Resolved {
            // The addresses of the other type are further ones of the name.
            let query = lookup.queries.iter_mut().find(|query| query.matches(message));
            query.into_iter().for_each(|query| query.answer = Some(answer.clone()));
        }
        if !lookup.is_active() {
            return None;
        }
        let room = lookup.queries.len() < QUERIES_CAP;
        match lookup.queries.iter_mut().find(|query| query.matches(message)) {
            Some(query) => query.answer = Some(answer.clone()),
            None if room => {
                lookup.queries.push(Query { answer: Some(answer.clone()), ..Query::new(at, message) });
            }
            None => return None,
        }
        if matches!(answer, DnsResponse::Addresses(_)) {
            lookup.state = LookupState::Resolved;
            lookup.decided = at;
            return Some(LookupChange::Resolved(id));
        }
        if lookup.state == LookupState::Refused || !lookup.is_decided() {
            return None;
        }
        lookup.decided = at;
        lookup.state = LookupState::Refused;
        (!lookup.is_only_without_data()).then_some(LookupChange::Failed(id))
    }

    /// A socket was closed with a response outstanding.
    pub(in crate::engine::world) fn socket_closed(&mut self, at: Stamp, closed: &DnsSocketClosed) -> Vec<LookupChange> {
        let ids = self.by_cookie.get(&closed.cookie).cloned().unwrap_or_default();
        let mut changes = Vec::new();
        for id in ids {
            let Some(lookup) = self.all.get_mut(&id).filter(|lookup| lookup.state == LookupState::Open) else {
                continue;
            };
            if !lookup.record_close(at, closed.cookie) {
                continue;
            }
            if closed.task.exiting {
                lookup.state = LookupState::Abandoned;
            } else {
                changes.push(LookupChange::Closed(id));
            }
        }
        changes
    }

    /// Its resolver is done without a response: it failed when its last socket was closed, or after [`PATIENCE`].
    pub(in crate::engine) fn overdue(&mut self, id: LookupId) -> Option<LookupChange> {
        let lookup = self.all.get_mut(&id).filter(|lookup| lookup.state == LookupState::Open)?;
        lookup.decided = lookup.closed.unwrap_or(lookup.begun.plus(PATIENCE));
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
            queries: vec![Query::new(at, message)],
            cookies: vec![message.socket.cookie],
            closed: None,
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
