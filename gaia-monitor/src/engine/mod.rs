//! The correlation engine: events in, incidents out.
//!
//! PURE. It does no I/O, reads no clock, draws no randomness, spawns nothing, logs nothing and cannot fail; the same
//! events give the same effects, byte for byte. Clippy enforces what the signature cannot.
#![deny(clippy::disallowed_types, clippy::disallowed_methods, clippy::disallowed_macros, clippy::iter_over_hash_type)]

/// Causes, and the order between them.
pub mod causes;
/// Read-only view for causes and the report.
mod context;
/// What the engine emits.
pub mod effect;
/// Client-visible failures.
mod failures;
/// Cases and their lifecycle.
mod incidents;
/// The incident line.
pub mod report;
/// Counters and gauges.
pub mod stats;
/// Requests that met trouble, followed to their end.
mod stories;
/// When something is due.
mod timers;
/// Data that the steps hand to each other.
mod types;
/// The state of the host as known from events.
mod world;

use std::cell::Cell;

use crate::model::event::Event;
use crate::model::settings::Settings;
use crate::model::time::{Nanos, Stamp};
use context::Context;
use effect::Effect;
use failures::table::Failures;
use incidents::case::Cases;
use incidents::{Pending, Touched};
use stats::gauges::Gauges;
use stats::{CounterDelta, Stats, Uncounted};
use stories::Stories;
use timers::{Timer, TimerQueue};
use world::{Change, World};

/// How often it is checked whether containers without ports have run long enough.
const RECOVERY_SWEEP: Nanos = Nanos::from_secs(1);

/// What the engine has done so far, see [`Engine::work`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Events and timers.
    pub steps: u64,
    pub judgements: u64,
    /// Cases that are open now.
    pub open: u64,
    /// Cases that were ever opened.
    pub opened: u64,
}

/// The engine's whole state.
pub struct Engine {
    settings: Settings,
    world: World,
    failures: Failures,
    cases: Cases,
    pending: Pending,
    touched: Touched,
    timers: TimerQueue,
    stats: Stats,
    stories: Stories,
    steps: u64,
    judgements: Cell<u64>,
}

impl Engine {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            world: World::default(),
            failures: Failures::default(),
            cases: Cases::default(),
            pending: Pending::default(),
            touched: Touched::default(),
            timers: TimerQueue::default(),
            stats: Stats::default(),
            stories: Stories::default(),
            steps: 0,
            judgements: Cell::new(0),
        }
    }

    /// Absorbs one event and appends the effects that follow from it. Timers that are due at `event.seen` fire first, each
    /// at its own deadline.
    pub fn step(&mut self, event: &Event, effects: &mut Vec<Effect>) {
        while let Some((deadline, timer)) = self.timers.pop(event.seen) {
            self.world.now = deadline;
            self.steps += 1;
            self.fire(timer, effects);
            self.publish(effects);
        }
        self.steps += 1;
        for change in self.world.absorb(event) {
            self.correlate(event.at, &change, effects);
            self.follow(event.at, &change, effects);
            self.stats.change(&self.world, &self.settings.scope, event.at, &change, effects);
        }
        let (ctx, stories, timers) = self.following();
        stories.event(ctx, timers, event, effects);
        self.publish(effects);
        self.stats.event(&self.world, &self.settings.scope, event, effects);
    }

    /// When the next timer is due: the pipeline sends a `Tick` then if no other event comes before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Stamp> {
        self.timers.next()
    }

    /// Passes each counter that grew since the last call to `each`.
    pub fn drain_counters(&mut self, each: impl FnMut(CounterDelta<'_>)) {
        self.stats.drain(each);
    }

    /// The gauges, if they may have changed since the last call.
    pub fn gauges(&mut self) -> Option<Gauges> {
        self.stats.gauges(&self.world, &self.settings.scope)
    }

    /// What the engine has done so far. A step (an event, or a timer) judges each case at most once; a test holds that.
    #[must_use]
    pub fn work(&self) -> Work {
        Work {
            steps: self.steps,
            judgements: self.judgements.get(),
            open: self.cases.open().count() as u64,
            opened: self.cases.opened(),
        }
    }

    fn context(&self) -> Context<'_> {
        Context {
            world: &self.world,
            failures: &self.failures,
            cases: &self.cases,
            settings: &self.settings,
            judgements: &self.judgements,
        }
    }

    /// The context, with what counts failures: it changes while the rest is read.
    fn counting(&mut self) -> (Context<'_>, &mut Uncounted, &mut TimerQueue) {
        let Self { world, failures, cases, settings, judgements, stats, timers, .. } = self;
        (Context { world, failures, cases, settings, judgements }, &mut stats.pending, timers)
    }

    /// The context, with the stories, which change while the rest is read.
    fn following(&mut self) -> (Context<'_>, &mut Stories, &mut TimerQueue) {
        let Self { world, failures, cases, settings, judgements, stories, timers, .. } = self;
        (Context { world, failures, cases, settings, judgements }, stories, timers)
    }

    fn follow(&mut self, at: Stamp, change: &Change, effects: &mut Vec<Effect>) {
        let (ctx, stories, timers) = self.following();
        stories.change(ctx, timers, at, change, effects);
    }

    fn fire(&mut self, timer: Timer, effects: &mut Vec<Effect>) {
        match timer {
            Timer::Case(id) => self.touched.add(id),
            Timer::Logs(id) => self.request_logs_again(id, effects),
            Timer::ExitOverdue(pid) => self.exit_known(pid, effects),
            Timer::RecoverySweep => self.sweep_recoveries(),
            Timer::LookupOverdue(id) => {
                let at = self.world.now;
                for change in self.world.lookup_overdue(id) {
                    self.correlate(at, &change, effects);
                    self.follow(at, &change, effects);
                }
            }
            Timer::Story(id) => {
                let (ctx, stories, timers) = self.following();
                stories.due(ctx, timers, id, effects);
            }
            Timer::Count => {
                let (ctx, uncounted, timers) = self.counting();
                uncounted.count_due(ctx, timers, effects);
            }
        }
    }
}
