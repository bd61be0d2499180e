//! The failed attempts of a whole run, kept for its summary.
//!
//! Bound: [`CAP`] attempts; those of the oldest incident are evicted first and counted.

use std::collections::BTreeMap;

use crate::model::ids::IncidentId;
use crate::model::incident::{Incident, State};
use crate::model::settings::Waits;

use super::pairs::Pairs;
use super::{Attempt, Story, attempts_of, build};

/// Attempts kept, some 500 bytes each.
const CAP: usize = 10_000;

#[derive(Clone, Debug, Default)]
pub struct History {
    /// Position in `order`, and the attempts of the last revision.
    incidents: BTreeMap<IncidentId, (u64, Vec<Attempt>)>,
    order: BTreeMap<u64, IncidentId>,
    pairs: Pairs,
    subjects: BTreeMap<IncidentId, super::pairs::Subjects>,
    next: u64,
    count: usize,
    /// Evicted attempts.
    left_out: u64,
}

impl History {
    /// Takes a revision.
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
        // A candidate's incident needs its primary's name during the failover only.
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
        build(self.incidents.values().flat_map(|(_, attempts)| attempts.iter().cloned()).collect(), &self.pairs, waits)
    }

    /// Evicted attempts, which are in no story.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}
