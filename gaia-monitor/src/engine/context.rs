//! Read-only view of the engine for causes and the report.

use std::cell::Cell;
use std::collections::BTreeSet;

use crate::model::ids::{ContainerId, Pid};
use crate::model::scope;
use crate::model::settings::Settings;

use super::failures::table::{Failure, Failures};
use super::incidents::case::{Case, Cases};
use super::types::evidence::Evidence;
use super::world::World;

#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub world: &'a World,
    pub failures: &'a Failures,
    pub cases: &'a Cases,
    pub settings: &'a Settings,
    /// The number of judgements so far.
    pub judgements: &'a Cell<u64>,
}

impl<'a> Context<'a> {
    /// The failures of a case, by instant.
    pub fn failures_of(self, case: &'a Case) -> impl Iterator<Item = &'a Failure> {
        case.failures.iter().filter_map(move |(_, id)| self.failures.get(*id))
    }

    /// Those that an incident lists: with an endpoint in scope.
    pub fn entries_of(self, case: &'a Case) -> impl Iterator<Item = &'a Failure> {
        self.failures_of(case).filter(|failure| !failure.foreign)
    }

    /// Failures that the servers themselves had met before they broke the connections of a case.
    pub fn earlier_failures_of(self, case: &'a Case) -> impl Iterator<Item = &'a Failure> {
        self.failures_of(case).filter_map(move |failure| self.failures.get(failure.evidence.earlier_failure()?))
    }

    /// Names whose lookups failed.
    #[must_use]
    pub fn names_of(self, case: &'a Case) -> BTreeSet<&'a str> {
        let failures = self.failures_of(case).chain(self.earlier_failures_of(case));
        failures.filter_map(|failure| failure.name.as_deref()).collect()
    }

    /// Whether one of these containers is in scope; always, if the run is not limited.
    pub fn any_in_scope<'b>(self, containers: impl IntoIterator<Item = Option<&'b ContainerId>>) -> bool {
        let limits = &self.settings.scope;
        let mut known = containers.into_iter().flatten().filter_map(|id| self.world.containers.get(id));
        !scope::is_limited(limits) || known.any(|container| scope::contains(limits, &container.info))
    }

    /// Whether a failure with this evidence has no endpoint in scope. One whose server is not known yet may have.
    #[must_use]
    pub fn is_foreign(self, failure: &Failure, evidence: &Evidence) -> bool {
        let behind = match evidence {
            Evidence::Upstream { failure, .. } => self.failures.get(*failure),
            _ => None,
        };
        let server = failure.route.container.as_ref();
        let behind = behind.and_then(|upstream| upstream.route.container.as_ref());
        server.is_some() && !self.any_in_scope([failure.client_container.as_ref(), server, behind])
    }

    /// The comm of a process, as far as it is known.
    #[must_use]
    pub fn comm(self, pid: Pid) -> Option<String> {
        self.world.processes.get(pid).map(|process| process.comm.clone())
    }
}
