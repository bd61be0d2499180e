//! The attempts of a whole run, kept for its summary.
//!
//! Bound: [`CAP`] attempts; those of the incident that came first go first, and are counted.

use std::collections::BTreeMap;

use crate::model::ids::IncidentId;
use crate::model::incident::{Incident, State};
use crate::model::settings::Waits;

use super::pairs::Pairs;
use super::{Attempt, Story, attempts_of, tell};

/// Attempts kept, some 500 bytes each.
const CAP: usize = 10_000;

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// When it came, and its attempts as its last revision lists them.
    incidents: BTreeMap<IncidentId, (u64, Vec<Attempt>)>,
    order: BTreeMap<u64, IncidentId>,
    pairs: Pairs,
    subjects: BTreeMap<IncidentId, super::pairs::Subjects>,
    next: u64,
    count: usize,
    /// Attempts that went.
    left_out: u64,
}

impl Ledger {
    /// Takes a revision in.
    pub fn put(&mut self, incident: &Incident) {
        if incident.state == State::Withdrawn {
            self.remove(&incident.id);
            return;
        }
        self.pairs.learn(incident, &mut self.subjects);
        let attempts: Vec<Attempt> = attempts_of(incident).collect();
        self.count += attempts.len();
        match self.incidents.get_mut(&incident.id) {
            Some((_, known)) => {
                self.count -= known.len();
                *known = attempts;
            }
            None => {
                self.next += 1;
                self.order.insert(self.next, incident.id.clone());
                self.incidents.insert(incident.id.clone(), (self.next, attempts));
            }
        }
        while self.count > CAP
            && let Some(oldest) = self.order.values().next().cloned()
        {
            self.left_out += self.remove(&oldest) as u64;
        }
        // A primary's name is wanted by its candidate's incident within the failover, not for ever.
        while self.subjects.len() > CAP {
            self.subjects.pop_first();
        }
    }

    fn remove(&mut self, id: &IncidentId) -> usize {
        let Some((number, attempts)) = self.incidents.remove(id) else { return 0 };
        self.order.remove(&number);
        self.count -= attempts.len();
        attempts.len()
    }

    #[must_use]
    pub fn stories(&self, waits: &Waits) -> Vec<Story> {
        tell(self.incidents.values().flat_map(|(_, attempts)| attempts.iter().cloned()).collect(), &self.pairs, waits)
    }

    /// Attempts that are in no story any more.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}
