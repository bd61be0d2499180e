//! Look-ups under way: the questions and answers of one getaddrinfo, gathered.
//!
//! One look-up asks for A and AAAA, tries search domains, asks again where no answer comes. Mostly it all goes through one
//! socket. Where it does not (a resolver that opens one for each question or for each search domain), a question joins
//! the look-up of its process that it completes: the same question again, the other type of the same name within
//! [`TOGETHER`], or another name with the same first label after the one before was refused.
//!
//! Bound: [`CAP`] look-ups, the oldest go first: their late answers are nobody's then. [`QUESTIONS`] questions of each.

use std::collections::{BTreeMap, VecDeque};

use crate::model::event::{AskerClosed, LookUp, LookUpWhat, NameAnswer, Socket, Task};
use crate::model::ids::{Cookie, Pid};
use crate::model::time::{Nanos, Stamp};

const CAP: usize = 8_192;
const QUESTIONS: usize = 32;
/// Look-ups of one process that are searched for the one that a question belongs to, the latest first.
const REACH: usize = 32;
/// Questions of one look-up through several sockets come within this time.
const TOGETHER: Nanos = Nanos::from_millis(100);
/// A look-up without an answer has failed after this time: the usual resolver's first patience.
pub const PATIENCE: Nanos = Nanos::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InquiryId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// An answer is awaited.
    Open,
    /// Every question was refused; another one may still follow.
    Refused,
    /// An address was given.
    Given,
    /// It was given up without an answer.
    Unanswered,
    /// It ended with its process.
    Abandoned,
}

#[derive(Clone, Debug)]
pub struct Question {
    cookie: Cookie,
    id: u16,
    pub name: String,
    qtype: String,
    pub answer: Option<NameAnswer>,
}

#[derive(Clone, Debug)]
pub struct Inquiry {
    pub id: InquiryId,
    /// That of the first question.
    pub socket: Socket,
    pub task: Task,
    pub begun: Stamp,
    /// When the last answer came, or it was given up.
    pub decided: Stamp,
    pub questions: Vec<Question>,
    /// Sockets that lead here.
    cookies: Vec<Cookie>,
    pub progress: Progress,
    /// Events were lost while it was open: an answer may have been among them.
    pub doubtful: bool,
}

/// What became of a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Begun(InquiryId),
    /// It had failed, and goes on.
    Resumed(InquiryId),
    /// An address was given, maybe after it had failed.
    Given(InquiryId),
    /// It has failed, maybe once more.
    Failed(InquiryId),
}

#[derive(Debug, Default)]
pub struct LookUps {
    all: BTreeMap<InquiryId, Inquiry>,
    by_cookie: BTreeMap<Cookie, VecDeque<InquiryId>>,
    by_pid: BTreeMap<Pid, VecDeque<InquiryId>>,
    next: u64,
}

impl Inquiry {
    /// The name that was wanted: without the search domains that were tried behind it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.questions.iter().map(|question| question.name.as_str()).min_by_key(|name| name.len()).unwrap_or_default()
    }

    /// The resolver's error, as getaddrinfo returns it: a server that failed hides what another said.
    #[must_use]
    pub fn errno(&self) -> &'static str {
        let name = self.name();
        let answers = || self.questions.iter().filter(|question| question.name == name).map(|q| q.answer.as_ref());
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
        let of_name = self.questions.iter().filter(|question| question.name == name);
        of_name.filter_map(|question| question.answer.clone()).next_back().unwrap_or(NameAnswer::Silent)
    }

    fn is_refused(&self) -> bool {
        self.questions.iter().all(|question| question.answer.is_some())
    }

    /// Only other types than A were asked and do not exist: nothing is missing.
    fn is_only_without_data(&self) -> bool {
        self.questions.iter().all(|q| q.qtype != "A" && q.answer == Some(NameAnswer::NoData))
    }

    fn has(&self, look_up: &LookUp) -> bool {
        self.questions.iter().any(|question| question.is(look_up))
    }

    fn asked(&self, look_up: &LookUp) -> bool {
        self.questions.iter().any(|q| q.name == look_up.name && q.qtype == look_up.qtype)
    }

    fn knows(&self, name: &str) -> bool {
        self.questions.iter().any(|question| question.name == name)
    }

    fn is_related(&self, name: &str) -> bool {
        self.questions.iter().any(|question| first_label(&question.name) == first_label(name))
    }

    fn goes_on(&self) -> bool {
        matches!(self.progress, Progress::Open | Progress::Refused)
    }

    /// Through the socket of an earlier question.
    fn continues(&self, look_up: &LookUp) -> bool {
        self.has(look_up) || (self.goes_on() && self.is_related(&look_up.name) && !self.asked(look_up))
    }

    /// Through another socket of the same process.
    fn is_completed_by(&self, look_up: &LookUp, at: Stamp) -> bool {
        if self.has(look_up) {
            return true;
        }
        if !self.goes_on() || self.asked(look_up) {
            return false;
        }
        let other_type = self.knows(&look_up.name) && at.since(self.begun) <= TOGETHER;
        let refused = self.progress == Progress::Refused && at.since(self.decided) <= TOGETHER;
        other_type || (refused && !self.knows(&look_up.name) && self.is_related(&look_up.name))
    }
}

impl Question {
    fn is(&self, look_up: &LookUp) -> bool {
        self.id == look_up.id && self.name == look_up.name && self.qtype == look_up.qtype
    }
}

fn first_label(name: &str) -> &str {
    name.split_once('.').map_or(name, |(first, _)| first)
}

impl LookUps {
    #[must_use]
    pub fn get(&self, id: InquiryId) -> Option<&Inquiry> {
        self.all.get(&id)
    }

    /// Look-ups whose askers still wait.
    pub fn open(&self) -> impl Iterator<Item = &Inquiry> {
        self.all.values().filter(|inquiry| inquiry.progress == Progress::Open)
    }

    pub(in crate::engine::world) fn seen(&mut self, at: Stamp, look_up: &LookUp) -> Option<Change> {
        // Nothing else decides whether a name leads anywhere.
        if look_up.qtype != "A" && look_up.qtype != "AAAA" {
            return None;
        }
        match &look_up.what {
            LookUpWhat::Asked => self.asked(at, look_up),
            LookUpWhat::Answered(answer) => self.answered(at, look_up, answer),
        }
    }

    fn asked(&mut self, at: Stamp, look_up: &LookUp) -> Option<Change> {
        let task = look_up.task.clone()?;
        let cookie = look_up.socket.cookie;
        let known = self.latest_of(self.by_cookie.get(&cookie), |inquiry| inquiry.continues(look_up));
        let known = known
            .or_else(|| self.latest_of(self.by_pid.get(&task.pid), |inquiry| inquiry.is_completed_by(look_up, at)));
        let Some(id) = known else { return Some(Change::Begun(self.begin(at, look_up, task))) };
        let inquiry = self.all.get_mut(&id)?;
        if !inquiry.cookies.contains(&cookie) {
            if inquiry.cookies.len() == QUESTIONS {
                return None;
            }
            inquiry.cookies.push(cookie);
            remember(&mut self.by_cookie, cookie, id);
        }
        let room = inquiry.questions.len() < QUESTIONS;
        let again = inquiry.questions.iter_mut().find(|question| question.is(look_up));
        match again {
            // A name server that failed is asked once more.
            Some(question) if matches!(question.answer, Some(NameAnswer::Failed { .. })) => {
                question.answer = None;
                question.cookie = cookie;
            }
            Some(question) => {
                question.cookie = cookie;
                return None;
            }
            None if room => inquiry.questions.push(question(look_up)),
            None => return None,
        }
        if inquiry.progress == Progress::Refused {
            inquiry.progress = Progress::Open;
            return Some(Change::Resumed(id));
        }
        None
    }

    fn answered(&mut self, at: Stamp, look_up: &LookUp, answer: &NameAnswer) -> Option<Change> {
        let of_cookie = || self.by_cookie.get(&look_up.socket.cookie);
        let exact = self.latest_of(of_cookie(), |inquiry| inquiry.has(look_up));
        // The question may have been lost.
        let id = exact.or_else(|| self.latest_of(of_cookie(), |inquiry| inquiry.is_related(&look_up.name)))?;
        let inquiry = self.all.get_mut(&id)?;
        if !inquiry.goes_on() {
            return None;
        }
        let room = inquiry.questions.len() < QUESTIONS;
        match inquiry.questions.iter_mut().find(|question| question.is(look_up)) {
            Some(question) => question.answer = Some(answer.clone()),
            None if room => {
                inquiry.questions.push(Question { answer: Some(answer.clone()), ..question(look_up) });
            }
            None => return None,
        }
        if matches!(answer, NameAnswer::Addresses(_)) {
            inquiry.progress = Progress::Given;
            inquiry.decided = at;
            return Some(Change::Given(id));
        }
        if inquiry.progress == Progress::Refused || !inquiry.is_refused() {
            return None;
        }
        inquiry.decided = at;
        inquiry.progress = Progress::Refused;
        (!inquiry.is_only_without_data()).then_some(Change::Failed(id))
    }

    /// A socket closed with a question open.
    pub(in crate::engine::world) fn closed(&mut self, at: Stamp, closed: &AskerClosed) -> Vec<Change> {
        let ids = self.by_cookie.get(&closed.cookie).cloned().unwrap_or_default();
        ids.into_iter().filter_map(|id| self.given_up(at, id, Some(closed))).collect()
    }

    /// The patience is over at the instant `at`.
    pub(in crate::engine) fn overdue(&mut self, at: Stamp, id: InquiryId) -> Option<Change> {
        self.given_up(at, id, None)
    }

    fn given_up(&mut self, at: Stamp, id: InquiryId, closed: Option<&AskerClosed>) -> Option<Change> {
        let inquiry = self.all.get_mut(&id).filter(|inquiry| inquiry.progress == Progress::Open)?;
        if let Some(closed) = closed {
            let mut waiting = inquiry.questions.iter().filter(|question| question.answer.is_none());
            if waiting.any(|question| question.cookie != closed.cookie) {
                return None;
            }
            if closed.task.exiting {
                inquiry.progress = Progress::Abandoned;
                return None;
            }
        }
        inquiry.decided = at;
        inquiry.progress = Progress::Unanswered;
        Some(Change::Failed(id))
    }

    /// Events were lost: an answer that was not seen may have come.
    pub(in crate::engine::world) fn doubt(&mut self) {
        for inquiry in self.all.values_mut().filter(|inquiry| inquiry.goes_on()) {
            inquiry.doubtful = true;
        }
    }

    fn begin(&mut self, at: Stamp, look_up: &LookUp, task: Task) -> InquiryId {
        self.next += 1;
        let id = InquiryId(self.next);
        remember(&mut self.by_cookie, look_up.socket.cookie, id);
        remember(&mut self.by_pid, task.pid, id);
        let inquiry = Inquiry {
            id,
            socket: look_up.socket,
            task,
            begun: at,
            decided: at,
            questions: vec![question(look_up)],
            cookies: vec![look_up.socket.cookie],
            progress: Progress::Open,
            doubtful: false,
        };
        self.all.insert(id, inquiry);
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

    fn latest_of(&self, of: Option<&VecDeque<InquiryId>>, fits: impl Fn(&Inquiry) -> bool) -> Option<InquiryId> {
        let known = of?.iter().rev().filter_map(|id| self.all.get(id));
        known.filter(|inquiry| fits(inquiry)).map(|inquiry| inquiry.id).next()
    }
}

fn question(look_up: &LookUp) -> Question {
    Question {
        cookie: look_up.socket.cookie,
        id: look_up.id,
        name: look_up.name.clone(),
        qtype: look_up.qtype.clone(),
        answer: None,
    }
}

fn remember<K: Ord>(index: &mut BTreeMap<K, VecDeque<InquiryId>>, key: K, id: InquiryId) {
    let ids = index.entry(key).or_default();
    if !ids.contains(&id) {
        ids.push_back(id);
        if ids.len() > REACH {
            ids.pop_front();
        }
    }
}

fn let_go<K: Ord>(index: &mut BTreeMap<K, VecDeque<InquiryId>>, key: K, id: InquiryId) {
    if let Some(ids) = index.get_mut(&key) {
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            index.remove(&key);
        }
    }
}
