//! Read-only view of the engine for causes and the report.

use std::cell::Cell;
use std::collections::BTreeSet;

use crate::model::ids::Pid;
use crate::model::settings::Settings;

use super::failures::table::{Failure, Failures};
use super::incidents::case::{Case, Cases};
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

    /// The comm of a process, as far as it is known.
    #[must_use]
    pub fn comm(self, pid: Pid) -> Option<String> {
        self.world.processes.get(pid).map(|process| process.comm.clone())
    }
}
