//! Cases: what one cause broke, gathered while facts come. A case that is worth telling becomes an incident.
//!
//! Bound: [`OPEN_CAP`] cases that are not closed, the oldest is closed first; [`BREAKS_CAP`] broken connections kept
//! for each, remote_peer it they are counted only.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::ids::{IncidentId, Pid};
use crate::model::incident::{HttpxClass, Incident, State};
use crate::model::time::Stamp;

use crate::engine::failures::table::BreakId;
use crate::engine::types::cause::CaseKey;
use crate::engine::world::logs::Line;
use crate::engine::world::terminations::TerminationId;

const OPEN_CAP: usize = 4_096;
const BREAKS_CAP: usize = 10_000;
/// Keys of closed cases kept, so that what they break later can name them.
const CLOSED_CAP: usize = 4_096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CaseId(pub u64);

#[derive(Clone, Debug)]
pub struct Case {
    pub id: CaseId,
    pub key: CaseKey,
    /// The instant of the fact that opened it.
    pub opened: Stamp,
    pub opened_seen: Stamp,
    pub breaks: BTreeSet<(Stamp, BreakId)>,
    /// All broken connections, kept or not.
    pub broken: BTreeMap<HttpxClass, u64>,
    /// The first one that cost its client something, when the engine learned of it.
    pub first_break: Option<Stamp>,
    /// Deaths of the container, in order.
    pub terminations: Vec<TerminationId>,
    /// Deaths of workers, in order.
    pub workers: Vec<Pid>,
    /// When the last fact came.
    pub last_fact: Stamp,
    /// The instant of the latest connection that broke, or worker that died: what gaps are counted from.
    pub latest: Stamp,
    pub told: Option<Incident>,
    pub told_at: Stamp,
    /// Something changed since it was told.
    pub dirty: bool,
    /// Events lost while it was open, by stage: when it was last told, and how many.
    pub losses: BTreeMap<String, (Stamp, u64)>,
    /// The closed incident before it with the same key.
    pub because: Option<IncidentId>,
    /// Where the last of its broken connections went that was put down to something else.
    pub moved_to: Option<CaseId>,
    /// When traffic passed again where packets had been filtered.
    pub passed: Option<Stamp>,
    /// Docker's health status of the subject when it opened.
    pub health: Option<String>,
    /// The subject's log around the moment, as far as it is told.
    pub log: BTreeSet<Line>,
    pub heard: Heard,
}

/// How far the logs have been asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// When they were last asked for.
    pub at: Option<Stamp>,
    /// The last fact of the case by then; [`None`] until the time after it has been asked for.
    pub after: Option<Stamp>,
    /// How often.
    pub times: u32,
    /// Of so many deaths Docker's `die` was known.
    pub dies: usize,
}

impl Case {
    #[must_use]
    pub fn state(&self) -> Option<State> {
        self.told.as_ref().map(|told| told.state)
    }

    /// It broke something for a client.
    #[must_use]
    pub fn hurts(&self) -> bool {
        self.broken.iter().any(|(class, count)| *class != HttpxClass::None && *count > 0)
    }
}

#[derive(Debug, Default)]
pub struct Cases {
    all: BTreeMap<CaseId, Case>,
    by_key: BTreeMap<CaseKey, CaseId>,
    closed: BTreeMap<CaseKey, IncidentId>,
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

    #[must_use]
    pub fn of_key(&self, key: &CaseKey) -> Option<CaseId> {
        self.by_key.get(key).copied()
    }

    /// There was an incident of this key, and it is closed.
    #[must_use]
    pub fn was_closed(&self, key: &CaseKey) -> bool {
        self.closed.contains_key(key)
    }

    /// The open case of a key, or a new one.
    pub fn of_key_or_new(&mut self, key: CaseKey, opened: Stamp, seen: Stamp, health: Option<String>) -> CaseId {
        if let Some(id) = self.of_key(&key) {
            return id;
        }
        self.next += 1;
        let id = CaseId(self.next);
        let because = self.closed.get(&key).cloned();
        self.by_key.insert(key.clone(), id);
        let case = Case {
            id,
            key,
            opened,
            opened_seen: seen,
            breaks: BTreeSet::new(),
            broken: BTreeMap::new(),
            first_break: None,
            terminations: Vec::new(),
            workers: Vec::new(),
            last_fact: seen,
            latest: opened,
            told: None,
            told_at: seen,
            dirty: true,
            losses: BTreeMap::new(),
            because,
            moved_to: None,
            passed: None,
            health,
            log: BTreeSet::new(),
            heard: Heard::default(),
        };
        self.all.insert(id, case);
        id
    }

    /// The oldest case remote_peer the bound.
    #[must_use]
    pub fn overflow(&self) -> Option<CaseId> {
        (self.all.len() > OPEN_CAP).then(|| self.all.keys().next().copied()).flatten()
    }

    /// Lets another key lead to the case, too (a worker's death that took its container along).
    pub fn also_known_as(&mut self, id: CaseId, key: CaseKey) {
        self.by_key.insert(key, id);
    }

    /// Gives a case a new main key.
    pub fn rename(&mut self, id: CaseId, key: CaseKey) {
        self.by_key.insert(key.clone(), id);
        if let Some(case) = self.all.get_mut(&id) {
            case.key = key;
        }
    }

    /// The key leads to a new case from now on.
    pub fn release(&mut self, key: &CaseKey) {
        self.by_key.remove(key);
    }

    /// Takes a case out; what it broke later is another one, `because` of it.
    pub fn remove(&mut self, id: CaseId) -> Option<Case> {
        let case = self.all.remove(&id)?;
        let keys: Vec<CaseKey> = self.by_key.iter().filter(|(_, at)| **at == id).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.by_key.remove(&key);
            if let Some(told) = case.told.as_ref().filter(|told| told.state == State::Closed && key.names_an_event()) {
                self.closed.insert(key, told.id.clone());
                if self.closed.len() > CLOSED_CAP {
                    self.closed.pop_first();
                }
            }
        }
        Some(case)
    }
}

impl Case {
    pub fn add(&mut self, at: Stamp, id: BreakId, class: HttpxClass, seen: Stamp) {
        if self.breaks.len() < BREAKS_CAP {
            self.breaks.insert((at, id));
        }
        *self.broken.entry(class).or_default() += 1;
        if class != HttpxClass::None {
            self.first_break.get_or_insert(seen);
        }
    }

    pub fn take(&mut self, at: Stamp, id: BreakId, class: HttpxClass) {
        self.breaks.remove(&(at, id));
        if let Some(count) = self.broken.get_mut(&class) {
            *count = count.saturating_sub(1);
        }
        self.broken.retain(|_, count| *count > 0);
        if !self.hurts() {
            self.first_break = None;
        }
    }
}
