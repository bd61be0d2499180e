//! The correlation engine: events in, incidents out.
//!
//! PURE. It does no I/O, reads no clock, draws no randomness, spawns nothing, logs nothing and cannot fail; the same
//! events give the same effects, byte for byte. Clippy enforces what the signature cannot.
#![deny(clippy::disallowed_types, clippy::disallowed_methods, clippy::disallowed_macros, clippy::iter_over_hash_type)]

mod causes;
pub mod effect;
mod failures;
mod incidents;
pub mod report;
pub mod stats;
pub mod timers;
mod types;
mod world;

use std::collections::BTreeMap;

use crate::model::event::Event;
use crate::model::ids::Pid;
use crate::model::settings::Settings;
use crate::model::time::{Nanos, Stamp};
use effect::Effect;
use failures::table::{BreakId, Breaks};
use incidents::case::Cases;
use report::incident::Sheet;
use stats::Tally;
use timers::{Agenda, Alarm};
use world::World;
use world::dns::lookups::InquiryId;

/// How often containers without ports are asked whether they have run long enough.
const ROUND: Nanos = Nanos::from_secs(1);

/// The engine's whole state.
pub struct Engine {
    settings: Settings,
    world: World,
    breaks: Breaks,
    cases: Cases,
    agenda: Agenda,
    /// Broken connections whose server's exit has not been told yet.
    waiting: BTreeMap<Pid, Vec<BreakId>>,
    /// Look-ups that failed, for the time in which they may still go on.
    failed: BTreeMap<InquiryId, BreakId>,
    tally: Tally,
}

impl Engine {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            world: World::default(),
            breaks: Breaks::default(),
            cases: Cases::default(),
            agenda: Agenda::default(),
            waiting: BTreeMap::new(),
            failed: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// Takes one event and appends what follows from it. Timers that are due at `event.seen` fire first, each at its
    /// own deadline.
    pub fn step(&mut self, event: &Event, effects: &mut Vec<Effect>) {
        while let Some((deadline, alarm)) = self.agenda.pop(event.seen) {
            self.world.now = deadline;
            self.ring(alarm, effects);
        }
        for change in self.world.absorb(event) {
            self.react(event.at, &change, effects);
            self.tally.change(&self.world, &self.settings.scope, event.at, &change, effects);
        }
        self.tally.event(&self.world, &self.settings.scope, event, effects);
    }

    /// When the next timer is due: the pipeline sends a `Tick` then, if nothing else comes before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Stamp> {
        self.agenda.next()
    }

    fn sheet(&self) -> Sheet<'_> {
        Sheet { world: &self.world, breaks: &self.breaks, cases: &self.cases, settings: &self.settings }
    }

    fn ring(&mut self, alarm: Alarm, effects: &mut Vec<Effect>) {
        match alarm {
            Alarm::Case(id) => self.advance(id, effects),
            Alarm::Logs(id) => self.listen_again(id, effects),
            Alarm::ExitOverdue(pid) => self.exit_told(pid, effects),
            Alarm::Round => self.look_round(effects),
            Alarm::LookUpOverdue(id) => {
                for change in self.world.look_up_overdue(id) {
                    let at = self.world.now;
                    self.react(at, &change, effects);
                }
            }
            Alarm::Count => self.count_due(effects),
        }
    }
}
