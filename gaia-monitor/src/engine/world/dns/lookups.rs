//! Look-ups under way: the queries and answers of one getaddrinfo, gathered.
//!
//! One look-up asks for A and AAAA, tries search domains, asks again where no answer comes. Mostly it all goes through one
//! socket. Where it does not (a resolver that opens one for each query or for each search domain), a query joins
//! the look-up of its process that it completes: the same query again, the other type of the same name within
//! [`TOGETHER`], or another name with the same first label after the one before was refused.
//!
//! Bound: [`CAP`] look-ups, the oldest go first: their late answers are nobody's then. [`QUERIES`] queries of each.

use std::collections::{BTreeMap, VecDeque};

use crate::model::event::{AskerClosed, LookUp, LookUpWhat, NameAnswer, Socket, Task};
use crate::model::ids::{Cookie, Pid};
use crate::model::time::{Nanos, Stamp};

const CAP: usize = 8_192;
const QUERIES: usize = 32;
/// Look-ups of one process that are searched for the one that a query belongs to, the latest first.
const REACH: usize = 32;
/// Questions of one look-up through several sockets come within this time.
const TOGETHER: Nanos = Nanos::from_millis(100);
/// A look-up without an answer has failed after this time: the usual resolver's first patience.
pub const PATIENCE: Nanos = Nanos::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LookupId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupState {
    /// An answer is awaited.
    Open,
    /// Every query was refused; another one may still follow.
    Refused,
    /// An address was given.
    Given,
    /// It was given up without an answer.
    Unanswered,
    /// It ended with its process.
    Abandoned,
}

#[derive(Clone, Debug)]
pub struct Query {
    cookie: Cookie,
    id: u16,
    pub name: String,
    qtype: String,
    pub answer: Option<NameAnswer>,
}

#[derive(Clone, Debug)]
pub struct Lookup {
    pub id: LookupId,
    /// That of the first query.
    pub socket: Socket,
    pub task: Task,
    pub begun: Stamp,
    /// When the last answer came, or it was given up.
    pub decided: Stamp,
    pub queries: Vec<Query>,
    /// Sockets that lead here.
    cookies: Vec<Cookie>,
    pub state: LookupState,
    /// Events were lost while it was open: an answer may have been among them.
    pub doubtful: bool,
}

/// What became of a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Begun(LookupId),
    /// It had failed, and goes on.
    Resumed(LookupId),
    /// An address was given, maybe after it had failed.
    Given(LookupId),
    /// It has failed, maybe once more.
    Failed(LookupId),
}

#[derive(Debug, Default)]
pub struct Lookups {
    all: BTreeMap<LookupId, Lookup>,
    by_cookie: BTreeMap<Cookie, VecDeque<LookupId>>,
    by_pid: BTreeMap<Pid, VecDeque<LookupId>>,
    next: u64,
}

impl Lookup {
    /// The name that was wanted: without the search domains that were tried behind it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.queries.iter().map(|query| query.name.as_str()).min_by_key(|name| name.len()).unwrap_or_default()
    }

    /// The resolver's error, as getaddrinfo returns it: a server that failed hides what another said.
    #[must_use]
    pub fn errno(&self) -> &'static str {
        let name = self.name();
        let answers = || self.queries.iter().filter(|query| query.name == name).map(|q| q.answer.as_ref());
        let again = answers().any(|answer| match answer {
            Some(NameAnswer::Failed { .. } | NameAnswer::Silent) | None => true,
            Some(NameAnswer::Addresses(_) | NameAnswer::NoData | NameAnswer::NoName) => false,
        });
        let none = answers().any(|answer| answer == Some(&NameAnswer::NoName));
        match (again, none) {
            (true, _) => "EAI_AGAIN",
            (false, true) => "EAI_NONAME",
            (false, false) => "EAI_NODATA",
        }
    }

    /// What the name server said last of the wanted name.
    #[must_use]
    pub fn answer(&self) -> NameAnswer {
        let name = self.name();
        let of_name = self.queries.iter().filter(|query| query.name == name);
        of_name.filter_map(|query| query.answer.clone()).next_back().unwrap_or(NameAnswer::Silent)
    }

    fn is_refused(&self) -> bool {
        self.queries.iter().all(|query| query.answer.is_some())
    }

    /// Only other types than A were asked and do not exist: nothing is missing.
    fn is_only_without_data(&self) -> bool {
        self.queries.iter().all(|q| q.qtype != "A" && q.answer == Some(NameAnswer::NoData))
    }

    fn has(&self, message: &LookUp) -> bool {
        self.queries.iter().any(|query| query.is(message))
    }

    fn asked(&self, message: &LookUp) -> bool {
        self.queries.iter().any(|q| q.name == message.name && q.qtype == message.qtype)
    }

    fn knows(&self, name: &str) -> bool {
        self.queries.iter().any(|query| query.name == name)
    }

    fn is_related(&self, name: &str) -> bool {
        self.queries.iter().any(|query| first_label(&query.name) == first_label(name))
    }

    fn goes_on(&self) -> bool {
        matches!(self.state, LookupState::Open | LookupState::Refused)
    }

    /// Through the socket of an earlier query.
    fn continues(&self, message: &LookUp) -> bool {
        self.has(message) || (self.goes_on() && self.is_related(&message.name) && !self.asked(message))
    }

    /// Through another socket of the same process.
    fn is_completed_by(&self, message: &LookUp, at: Stamp) -> bool {
        if self.has(message) {
            return true;
        }
        if !self.goes_on() || self.asked(message) {
            return false;
        }
        let other_type = self.knows(&message.name) && at.since(self.begun) <= TOGETHER;
        let refused = self.state == LookupState::Refused && at.since(self.decided) <= TOGETHER;
        other_type || (refused && !self.knows(&message.name) && self.is_related(&message.name))
    }
}

impl Query {
    fn is(&self, message: &LookUp) -> bool {
        self.id == message.id && self.name == message.name && self.qtype == message.qtype
    }
}

fn first_label(name: &str) -> &str {
    name.split_once('.').map_or(name, |(first, _)| first)
}

impl Lookups {
    #[must_use]
    pub fn get(&self, id: LookupId) -> Option<&Lookup> {
        self.all.get(&id)
    }

    /// Look-ups whose askers still wait.
    pub fn open(&self) -> impl Iterator<Item = &Lookup> {
        self.all.values().filter(|lookup| lookup.state == LookupState::Open)
    }

    pub(in crate::engine::world) fn seen(&mut self, at: Stamp, message: &LookUp) -> Option<Change> {
        // Nothing else decides whether a name leads anywhere.
        if message.qtype != "A" && message.qtype != "AAAA" {
            return None;
        }
        match &message.what {
            LookUpWhat::Asked => self.asked(at, message),
            LookUpWhat::Answered(answer) => self.answered(at, message, answer),
        }
    }

    fn asked(&mut self, at: Stamp, message: &LookUp) -> Option<Change> {
        let task = message.task.clone()?;
        let cookie = message.socket.cookie;
        let known = self.latest_of(self.by_cookie.get(&cookie), |lookup| lookup.continues(message));
        let known =
            known.or_else(|| self.latest_of(self.by_pid.get(&task.pid), |lookup| lookup.is_completed_by(message, at)));
        let Some(id) = known else { return Some(Change::Begun(self.begin(at, message, task))) };
        let lookup = self.all.get_mut(&id)?;
        if !lookup.cookies.contains(&cookie) {
            if lookup.cookies.len() == QUERIES {
                return None;
            }
            lookup.cookies.push(cookie);
            remember(&mut self.by_cookie, cookie, id);
        }
        let room = lookup.queries.len() < QUERIES;
        let again = lookup.queries.iter_mut().find(|query| query.is(message));
        match again {
            // A name server that failed is asked once more.
            Some(query) if matches!(query.answer, Some(NameAnswer::Failed { .. })) => {
                query.answer = None;
                query.cookie = cookie;
            }
            Some(query) => {
                query.cookie = cookie;
                return None;
            }
            None if room => lookup.queries.push(query(message)),
            None => return None,
        }
        if lookup.state == LookupState::Refused {
            lookup.state = LookupState::Open;
            return Some(Change::Resumed(id));
        }
        None
    }

    fn answered(&mut self, at: Stamp, message: &LookUp, answer: &NameAnswer) -> Option<Change> {
        let of_cookie = || self.by_cookie.get(&message.socket.cookie);
        let exact = self.latest_of(of_cookie(), |lookup| lookup.has(message));
        // The query may have been lost.
        let id = exact.or_else(|| self.latest_of(of_cookie(), |lookup| lookup.is_related(&message.name)))?;
        let lookup = self.all.get_mut(&id)?;
        if !lookup.goes_on() {
            return None;
        }
        let room = lookup.queries.len() < QUERIES;
        match lookup.queries.iter_mut().find(|query| query.is(message)) {
            Some(query) => query.answer = Some(answer.clone()),
            None if room => {
                lookup.queries.push(Query { answer: Some(answer.clone()), ..query(message) });
            }
            None => return None,
        }
        if matches!(answer, NameAnswer::Addresses(_)) {
            lookup.state = LookupState::Given;
            lookup.decided = at;
            return Some(Change::Given(id));
        }
        if lookup.state == LookupState::Refused || !lookup.is_refused() {
            return None;
        }
        lookup.decided = at;
        lookup.state = LookupState::Refused;
        (!lookup.is_only_without_data()).then_some(Change::Failed(id))
    }

    /// A socket closed with a query open.
    pub(in crate::engine::world) fn closed(&mut self, at: Stamp, closed: &AskerClosed) -> Vec<Change> {
        let ids = self.by_cookie.get(&closed.cookie).cloned().unwrap_or_default();
        ids.into_iter().filter_map(|id| self.abandoned(at, id, Some(closed))).collect()
    }

    /// The patience is over at the instant `at`.
    pub(in crate::engine) fn overdue(&mut self, at: Stamp, id: LookupId) -> Option<Change> {
        self.abandoned(at, id, None)
    }

    fn abandoned(&mut self, at: Stamp, id: LookupId, closed: Option<&AskerClosed>) -> Option<Change> {
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
        Some(Change::Failed(id))
    }

    /// Events were lost: an answer that was not seen may have come.
    pub(in crate::engine::world) fn doubt(&mut self) {
        for lookup in self.all.values_mut().filter(|lookup| lookup.goes_on()) {
            lookup.doubtful = true;
        }
    }

    fn begin(&mut self, at: Stamp, message: &LookUp, task: Task) -> LookupId {
        self.next += 1;
        let id = LookupId(self.next);
        remember(&mut self.by_cookie, message.socket.cookie, id);
        remember(&mut self.by_pid, task.pid, id);
        let lookup = Lookup {
            id,
            socket: message.socket,
            task,
            begun: at,
            decided: at,
            queries: vec![query(message)],
            cookies: vec![message.socket.cookie],
            state: LookupState::Open,
            doubtful: false,
        };
        self.all.insert(id, lookup);
        if self.all.len() > CAP
            && let Some((oldest, gone)) = self.all.pop_first()
        {
            for cookie in gone.cookies {
                let_go(&mut self.by_cookie, cookie, oldest);
            }
            let_go(&mut self.by_pid, gone.task.pid, oldest);
        }
        id
    }

    fn latest_of(&self, of: Option<&VecDeque<LookupId>>, fits: impl Fn(&Lookup) -> bool) -> Option<LookupId> {
        let known = of?.iter().rev().filter_map(|id| self.all.get(id));
        known.filter(|lookup| fits(lookup)).map(|lookup| lookup.id).next()
    }
}

fn query(message: &LookUp) -> Query {
    Query {
        cookie: message.socket.cookie,
        id: message.id,
        name: message.name.clone(),
        qtype: message.qtype.clone(),
        answer: None,
    }
}

fn remember<K: Ord>(index: &mut BTreeMap<K, VecDeque<LookupId>>, key: K, id: LookupId) {
    let ids = index.entry(key).or_default();
    if !ids.contains(&id) {
        ids.push_back(id);
        if ids.len() > REACH {
            ids.pop_front();
        }
    }
}

fn let_go<K: Ord>(index: &mut BTreeMap<K, VecDeque<LookupId>>, key: K, id: LookupId) {
    if let Some(ids) = index.get_mut(&key) {
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            index.remove(&key);
        }
    }
}
