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
use stats::Stats;
use timers::{Timer, TimerQueue};
use world::World;
use world::dns::lookups::LookupId;

/// How often containers without ports are asked whether they have run long enough.
const ROUND: Nanos = Nanos::from_secs(1);

/// The engine's whole state.
pub struct Engine {
    settings: Settings,
    world: World,
    breaks: Breaks,
    cases: Cases,
    timers: TimerQueue,
    /// Broken connections whose server's exit has not been told yet.
    waiting: BTreeMap<Pid, Vec<BreakId>>,
    /// Look-ups that failed, for the time in which they may still go on.
    failed: BTreeMap<LookupId, BreakId>,
    stats: Stats,
}

impl Engine {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            world: World::default(),
            breaks: Breaks::default(),
            cases: Cases::default(),
            timers: TimerQueue::default(),
            waiting: BTreeMap::new(),
            failed: BTreeMap::new(),
            stats: Stats::default(),
        }
    }

    /// Takes one event and appends what follows from it. Timers that are due at `event.seen` fire first, each at its
    /// own deadline.
    pub fn step(&mut self, event: &Event, effects: &mut Vec<Effect>) {
        while let Some((deadline, timer)) = self.timers.pop(event.seen) {
            self.world.now = deadline;
            self.ring(timer, effects);
        }
        for change in self.world.absorb(event) {
            self.react(event.at, &change, effects);
            self.stats.change(&self.world, &self.settings.scope, event.at, &change, effects);
        }
        self.stats.event(&self.world, &self.settings.scope, event, effects);
    }

    /// When the next timer is due: the pipeline sends a `Tick` then, if nothing else comes before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Stamp> {
        self.timers.next()
    }

    fn sheet(&self) -> Sheet<'_> {
        Sheet { world: &self.world, breaks: &self.breaks, cases: &self.cases, settings: &self.settings }
    }

    fn ring(&mut self, timer: Timer, effects: &mut Vec<Effect>) {
        match timer {
            Timer::Case(id) => self.advance(id, effects),
            Timer::Logs(id) => self.listen_again(id, effects),
            Timer::ExitOverdue(pid) => self.exit_known(pid, effects),
            Timer::Round => self.look_round(effects),
            Timer::LookupOverdue(id) => {
                for change in self.world.lookup_overdue(id) {
                    let at = self.world.now;
                    self.react(at, &change, effects);
                }
            }
            Timer::Count => self.count_due(effects),
        }
    }
}
