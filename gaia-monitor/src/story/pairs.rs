//! Failover pairs, as far as incidents show them: `failover_of` joins primary and candidate, and `NAME-candidate` is GAIA's
//! convention. A pair that only an environment declares is known after the first incident of its candidate.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::candidate;
use crate::model::ids::IncidentId;
use crate::model::incident::Incident;

#[derive(Clone, Debug, Default)]
pub struct Pairs {
    /// Candidate → primary.
    declared: BTreeMap<String, String>,
    /// Every server that an incident names.
    named: BTreeSet<String>,
    /// Container → Compose service, as far as an incident names both.
    services: BTreeMap<String, String>,
}

impl Pairs {
    /// `subjects` keeps the subject of each incident: a candidate's may come before or after its primary's.
    pub fn learn(&mut self, incident: &Incident, subjects: &mut BTreeMap<IncidentId, Subjects>) {
        let own = incident.subject.service_label().map(str::to_owned);
        let known = subjects.entry(incident.id.clone()).or_default();
        known.own.clone_from(&own);
        let waiting = std::mem::take(&mut known.candidates);
        if let Some(primary) = &own {
            self.declared.extend(waiting.into_iter().map(|candidate| (candidate, primary.clone())));
            self.named.insert(primary.clone());
        }
        let subject = (&incident.subject.container, &incident.subject.service);
        let parties = incident.affected.iter().flat_map(|entry| [&entry.client, &entry.server]);
        for (container, service) in parties.map(|party| (&party.container, &party.service)).chain([subject]) {
            if let (Some(container), Some(service)) = (container, service) {
                self.services.insert(container.clone(), service.clone());
            }
        }
        for entry in &incident.affected {
            self.named.insert(super::server_of(entry));
        }
        if let (Some(candidate), Some(primary)) = (own, &incident.failover_of) {
            let other = subjects.entry(primary.clone()).or_default();
            match &other.own {
                Some(primary) => drop(self.declared.insert(candidate, primary.clone())),
                None => other.candidates.push(candidate),
            }
        }
    }

    /// The service label of a server that is known by its container or its service.
    #[must_use]
    pub fn service_of(&self, name: String) -> String {
        self.services.get(&name).cloned().unwrap_or(name)
    }

    /// The primary of a candidate.
    #[must_use]
    pub fn primary_of(&self, candidate: &str) -> Option<String> {
        let by_convention = || candidate::primary_of(candidate).map(str::to_owned);
        self.declared.get(candidate).cloned().or_else(by_convention)
    }

    /// The candidate of a primary, if an incident named it.
    #[must_use]
    pub fn candidate_of(&self, primary: &str) -> Option<String> {
        let declared =
            self.declared.iter().find(|(_, other)| *other == primary).map(|(candidate, _)| candidate.clone());
        declared.or_else(|| Some(candidate::candidate_of(primary)).filter(|candidate| self.named.contains(candidate)))
    }
}

/// The subject of an incident, and the candidates whose incidents name it as their primary's.
#[derive(Clone, Debug, Default)]
pub struct Subjects {
    own: Option<String>,
    candidates: Vec<String>,
}
