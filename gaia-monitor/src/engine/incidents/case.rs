//! Cases: failures and terminations with one cause, gathered while facts arrive. A case that is reportable becomes an
//! incident.
//!
//! Bounds: [`OPEN_CAP`] cases that are not closed, the oldest is closed first; [`FAILURES_CAP`] failures kept for each,
//! further ones are only counted; [`CLOSED_CAP`] keys of closed incidents, after which a later one no longer names them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::engine::causes;
use crate::engine::types::cause::CaseKey;
use crate::engine::types::ids::{CaseId, FailureId};
use crate::engine::world::logs::Line;
use crate::engine::world::terminations::TerminationId;
use crate::model::ids::{IncidentId, Pid};
use crate::model::incident::{HttpxClass, Incident, State};
use crate::model::time::Stamp;

const OPEN_CAP: usize = 4_096;
const FAILURES_CAP: usize = 10_000;
const CLOSED_CAP: usize = 4_096;
/// Ids that are compared. One that is older than this many incidents differs by its instant.
const PUBLISHED_CAP: usize = 8_192;

#[derive(Clone, Debug)]
pub struct Case {
    pub id: CaseId,
    pub key: CaseKey,
    /// The instant of the fact that opened it.
    pub opened: Stamp,
    pub opened_seen: Stamp,
    pub failures: BTreeSet<(Stamp, FailureId)>,
    /// All errors by class, kept or not.
    pub by_class: BTreeMap<HttpxClass, u64>,
    /// When the engine learned of the first error.
    pub first_error: Option<Stamp>,
    /// Terminations of the container, in order.
    pub terminations: Vec<TerminationId>,
    /// Deaths of workers, in order.
    pub workers: Vec<Pid>,
    /// When the last fact arrived.
    pub last_fact: Stamp,
    /// The instant of the latest failure or worker's death, from which gaps are counted.
    pub latest: Stamp,
    pub published: Option<Incident>,
    pub published_at: Stamp,
    /// Something has changed since it was published.
    pub dirty: bool,
    /// Events lost while it was open, by stage: when last, and how many.
    pub losses: BTreeMap<String, (Stamp, u64)>,
    /// The closed incident before it with the same key, or the incident behind it.
    pub caused_by: Option<IncidentId>,
    /// The case that the last failure to leave it moved to.
    pub moved_to: Option<CaseId>,
    /// When traffic passed again where packets had been filtered.
    pub passed: Option<Stamp>,
    /// Docker's health status of the subject when the case opened.
    pub health: Option<String>,
    /// Lines of the subject's log around the moment.
    pub log: BTreeSet<Line>,
    pub log_requests: LogRequests,
}

/// How far the logs have been requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogRequests {
    /// When they were last requested.
    pub at: Option<Stamp>,
    /// The last fact of the case by then; [`None`] until the time after it has been requested.
    pub after: Option<Stamp>,
    pub count: u32,
    /// The number of deaths with a known `die` of Docker.
    pub dies: usize,
}

impl LogRequests {
    /// A request was made; by then `dies` of Docker were known.
    pub fn made(&mut self, now: Stamp, dies: usize) {
        *self = Self { at: Some(now), count: self.count.saturating_add(1), dies, ..*self };
    }
}

impl Case {
    #[must_use]
    pub fn state(&self) -> Option<State> {
        self.published.as_ref().map(|incident| incident.state)
    }

    /// A client got an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.by_class.values().any(|count| *count > 0)
    }

    /// Adds a failure; `counted`: the class of its error, if it is counted.
    pub fn add(&mut self, at: Stamp, id: FailureId, counted: Option<HttpxClass>, seen: Stamp) {
        if self.failures.len() < FAILURES_CAP {
            self.failures.insert((at, id));
        }
        if let Some(class) = counted {
            *self.by_class.entry(class).or_default() += 1;
            self.first_error.get_or_insert(seen);
        }
    }

    pub fn take(&mut self, at: Stamp, id: FailureId, counted: Option<HttpxClass>) {
        self.failures.remove(&(at, id));
        if let Some(count) = counted.and_then(|class| self.by_class.get_mut(&class)) {
            *count = count.saturating_sub(1);
        }
        self.by_class.retain(|_, count| *count > 0);
        if !self.has_errors() {
            self.first_error = None;
        }
    }
}

#[derive(Debug, Default)]
pub struct Cases {
    all: BTreeMap<CaseId, Case>,
    by_key: BTreeMap<CaseKey, CaseId>,
    closed: BTreeMap<CaseKey, IncidentId>,
    /// The latest published ids, which are never reused.
    published: BTreeSet<IncidentId>,
    published_order: VecDeque<IncidentId>,
    next: u64,
}

impl Cases {
    #[must_use]
    pub fn get(&self, id: CaseId) -> Option<&Case> {
        self.all.get(&id)
    }

    pub fn get_mut(&mut self, id: CaseId) -> Option<&mut Case> {
        self.all.get_mut(&id)
    }

    pub fn open(&self) -> impl Iterator<Item = &Case> {
        self.all.values()
    }

    /// The number of cases that were ever opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.next
    }

    /// Whether an incident with this id was published.
    #[must_use]
    pub fn has_published(&self, id: &IncidentId) -> bool {
        self.published.contains(id)
    }

    /// An incident has its first revision.
    pub fn record_published(&mut self, id: &IncidentId) {
        if self.published.insert(id.clone()) {
            self.published_order.push_back(id.clone());
            if self.published_order.len() > PUBLISHED_CAP
                && let Some(oldest) = self.published_order.pop_front()
            {
                self.published.remove(&oldest);
            }
        }
    }

    #[must_use]
    pub fn of_key(&self, key: &CaseKey) -> Option<CaseId> {
        self.by_key.get(key).copied()
    }

    /// There was an incident of this key, and it is closed.
    #[must_use]
    pub fn was_closed(&self, key: &CaseKey) -> bool {
        self.closed.contains_key(key)
    }

    /// Opens a case; the key leads to it from now on.
    pub fn add(&mut self, key: CaseKey, opened: Stamp, seen: Stamp, health: Option<String>) -> CaseId {
        self.next += 1;
        let id = CaseId(self.next);
        let caused_by = self.closed.get(&key).cloned();
        self.by_key.insert(key.clone(), id);
        let case = Case {
            id,
            key,
            opened,
            opened_seen: seen,
            failures: BTreeSet::new(),
            by_class: BTreeMap::new(),
            first_error: None,
            terminations: Vec::new(),
            workers: Vec::new(),
            last_fact: seen,
            latest: opened,
            published: None,
            published_at: seen,
            dirty: true,
            losses: BTreeMap::new(),
            caused_by,
            moved_to: None,
            passed: None,
            health,
            log: BTreeSet::new(),
            log_requests: LogRequests::default(),
        };
        self.all.insert(id, case);
        id
    }

    /// The oldest case beyond the bound.
    #[must_use]
    pub fn overflow(&self) -> Option<CaseId> {
        (self.all.len() > OPEN_CAP).then(|| self.all.keys().next().copied()).flatten()
    }

    /// Another key leads to the case, too (a further death of a crash loop).
    pub fn add_key(&mut self, id: CaseId, key: CaseKey) {
        self.by_key.insert(key, id);
    }

    /// Replaces the main key of a case (a worker's death that took its container with it).
    pub fn replace_key(&mut self, id: CaseId, key: CaseKey) {
        self.by_key.insert(key.clone(), id);
        if let Some(case) = self.all.get_mut(&id) {
            case.key = key;
        }
    }

    /// The key leads to a new case from now on.
    pub fn release(&mut self, key: &CaseKey) {
        self.by_key.remove(key);
    }

    /// Removes a case. What it breaks later is another one, which names it as its cause.
    pub fn remove(&mut self, id: CaseId) {
        let Some(case) = self.all.remove(&id) else { return };
        let keys: Vec<CaseKey> = self.by_key.iter().filter(|(_, at)| **at == id).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.by_key.remove(&key);
            let closed = case.published.as_ref().filter(|incident| incident.state == State::Closed);
            if let Some(incident) = closed.filter(|_| causes::of(&key).is_event()) {
                self.closed.insert(key, incident.id.clone());
                if self.closed.len() > CLOSED_CAP {
                    self.closed.pop_first();
                }
            }
        }
    }
}
