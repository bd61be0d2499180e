//! Failed lookups that may still continue. A lookup fails as soon as every query was refused; if its resolver continues
//! (the other type, a search domain, another try), the failure is taken back until that is decided, too.
//!
//! Bound: [`CAP`] lookups; when reached, the lowest id is evicted, and what follows is a lookup of its own.

use std::collections::BTreeMap;

use crate::engine::failures::table::Failures;
use crate::engine::failures::{failed_lookup, record};
use crate::engine::types::ids::{CaseId, FailureId};
use crate::engine::world::World;
use crate::engine::world::dns::lookups::LookupId;
use crate::model::policy::Policy;
use crate::model::time::Utc;

use super::binding;
use super::case::Cases;

const CAP: usize = 4_096;

#[derive(Debug, Default)]
pub struct FailedLookups {
    by_lookup: BTreeMap<LookupId, FailureId>,
}

impl FailedLookups {
    /// The lookup failed, maybe once more. Returns the failure that has to be attributed, if it is one.
    pub fn failed(
        &mut self,
        world: &World,
        policy: &Policy,
        failures: &mut Failures,
        cases: &mut Cases,
        id: LookupId,
    ) -> Option<FailureId> {
        let failed = failed_lookup::detect(world, id)?;
        let new = record::lookup(world, &failed, policy)?;
        if let Some(known) = self.by_lookup.get(&id).copied() {
            binding::unbind(failures, cases, known);
            failures.change(known, |failure| {
                failure.symptom = new.symptom;
                failure.entry.at = Utc(new.at());
                failure.entry.client_error = new.entry.client_error;
            });
            return Some(known);
        }
        let added = failures.add(new);
        self.by_lookup.insert(id, added);
        if self.by_lookup.len() > CAP {
            self.by_lookup.pop_first();
        }
        Some(added)
    }

    /// The lookup continues. Returns the case that has lost it for now.
    pub fn continues(&self, failures: &mut Failures, cases: &mut Cases, id: LookupId) -> Option<CaseId> {
        let known = self.by_lookup.get(&id).copied()?;
        let case = failures.get(known).and_then(|failure| failure.case);
        binding::unbind(failures, cases, known);
        case
    }

    /// The lookup succeeded after all.
    pub fn succeeded(&mut self, failures: &mut Failures, id: LookupId) {
        if let Some(known) = self.by_lookup.remove(&id) {
            failures.remove(known);
        }
    }
}
