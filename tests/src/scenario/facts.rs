//! The clock of a scenario and the facts gathered so far, each with its own instant and that of its release.

use std::collections::BTreeMap;

use gaia_monitor::model::event::{Event, Fact};
use gaia_monitor::model::time::{Nanos, Stamp};

/// Where a scenario begins: 2025-01-01T00:00:00Z.
pub const BASE: Stamp = Stamp(1_735_689_600_000_000_000);
/// Kernel facts of one story follow each other this closely.
const STEP: Nanos = Nanos(10_000);
/// The ring is drained every 2 ms, or immediately for deciding records.
const KERNEL_LAG: Nanos = Nanos(500_000);
/// From Docker's own instant to its event being read.
const DOCKER_LAG: Nanos = Nanos::from_millis(2);

#[derive(Debug)]
pub struct Facts {
    pub now: Stamp,
    /// Added to the release of what follows, until the statement ends.
    pub late: Nanos,
    gathered: Vec<(Stamp, Stamp, Fact)>,
    pub labels: BTreeMap<String, Stamp>,
    /// The instant of the statement's first fact, unless the statement defines another one.
    pub marked: Option<Stamp>,
}

impl Facts {
    pub fn new() -> Self {
        Self { now: BASE, late: Nanos(0), gathered: Vec::new(), labels: BTreeMap::new(), marked: None }
    }

    pub fn kernel(&mut self, fact: Fact) {
        self.gather(fact, KERNEL_LAG);
    }

    pub fn docker(&mut self, fact: Fact) {
        self.gather(fact, DOCKER_LAG);
    }

    /// Known from the beginning, or the monitor's own.
    pub fn own(&mut self, fact: Fact) {
        self.gather(fact, Nanos(0));
    }

    fn gather(&mut self, fact: Fact, lag: Nanos) {
        self.marked.get_or_insert(self.now);
        let seen = self.now.plus(lag).plus(self.late);
        self.gathered.push((seen, self.now, fact));
        self.now = self.now.plus(STEP);
    }

    /// In order of release, as the pipeline numbers them.
    pub fn events(mut self) -> Vec<Event> {
        self.gathered.sort_by_key(|(seen, ..)| *seen);
        let numbered = (1..).zip(self.gathered);
        numbered.map(|(seq, (seen, at, fact))| Event { seq, seen, at, fact }).collect()
    }
}
