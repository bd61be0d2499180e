//! The belt that every event travels: recorded first, then judged, then told. A live run and a replay use the same one.
//!
//! It never waits for a writer in a live run, and no writer changes what the engine says.

use std::io;

#[cfg(feature = "live")]
use crate::daemon::health::Health;
use crate::engine::Engine;
use crate::engine::effect::{Effect, Wanted};
use crate::model::event::Event;
use crate::model::settings::Settings;
use crate::model::time::Stamp;
use crate::recording::writer;
use crate::sinks::Sinks;
use crate::sinks::lane::{Drain, Lane, Pace, Shortfall};
#[cfg(feature = "live")]
use crate::sinks::metrics::{Metrics, Readings};
use crate::sinks::summary::Summary;

pub struct Belt {
    engine: Engine,
    sinks: Sinks,
    recording: Option<Lane<Event>>,
    /// Somebody waits for the outcome, whatever becomes of the writers.
    awaited: bool,
    #[cfg(feature = "live")]
    metrics: Option<(Metrics, std::sync::Arc<Health>)>,
    /// Reused by every step.
    effects: Vec<Effect>,
    /// What the last event made the engine ask for.
    wanted: Vec<Wanted>,
}

/// What is left when a run is over.
pub struct Outcome {
    pub summary: Summary,
    /// What each writer lost, if it lost anything.
    pub shortfalls: Vec<Shortfall>,
    /// Every sink's writer ended early.
    pub unheard: bool,
}

impl Belt {
    #[must_use]
    pub fn new(settings: Settings, mut sinks: Sinks) -> Self {
        sinks.summary = std::mem::take(&mut sinks.summary).with_waits(settings.policy.waits.clone());
        Self {
            engine: Engine::new(settings),
            sinks,
            recording: None,
            awaited: false,
            #[cfg(feature = "live")]
            metrics: None,
            effects: Vec::new(),
            wanted: Vec::new(),
        }
    }

    /// Records every event from now on; `writer` works on a thread of its own.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn record(&mut self, writer: impl Drain<Event>) -> io::Result<()> {
        self.recording = Some(Lane::start(writer, Pace::Live, writer::QUEUE)?);
        Ok(())
    }

    /// Measures from now on.
    #[cfg(feature = "live")]
    pub fn measure(&mut self, metrics: Metrics, health: std::sync::Arc<Health>) {
        self.metrics = Some((metrics, health));
    }

    /// Hands what was counted over to whoever renders metrics.
    #[cfg(feature = "live")]
    pub fn keep_house(&mut self, now: Stamp) {
        let Some((metrics, health)) = &mut self.metrics else { return };
        let outputs = self.sinks.lost().chain(self.recording.as_ref().map(Lane::lost)).collect();
        metrics.publish(now, &mut self.engine, &Readings { outputs, ..health.read() });
    }

    /// Records the event, lets the engine judge it, and tells what follows.
    pub fn feed(&mut self, event: &Event) {
        if let Some(recording) = &mut self.recording {
            recording.offer(event.clone());
        }
        self.sinks.summary.pass(event.seen);
        self.wanted.clear();
        self.engine.step(event, &mut self.effects);
        for effect in self.effects.drain(..) {
            #[cfg(feature = "live")]
            if let Some((metrics, _)) = &mut self.metrics {
                metrics.fold(&effect, event.seen);
            }
            match effect {
                Effect::Wanted(wanted) => self.wanted.push(wanted),
                told @ (Effect::Incident(_) | Effect::Explained { .. } | Effect::Counted(_)) => self.sinks.tell(told),
            }
        }
    }

    /// Takes what the last event made the engine ask for.
    #[must_use]
    pub fn wanted(&mut self) -> Vec<Wanted> {
        std::mem::take(&mut self.wanted)
    }

    /// When the engine wants to be fed a `Tick`, if nothing else comes before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Stamp> {
        self.engine.next_deadline()
    }

    /// The outcome counts (`--fail-on`): the run goes on even when every writer has ended.
    pub fn await_outcome(&mut self) {
        self.awaited = true;
    }

    /// Every writer has ended, and nobody waits for anything else: nothing is left to run for.
    #[must_use]
    pub fn is_unheard(&self) -> bool {
        !self.awaited && self.sinks.are_gone() && self.recording.as_ref().is_none_or(Lane::is_gone)
    }

    /// Lets every writer finish. It feeds nothing: a run that ends in order has fed `Shutdown` before.
    #[must_use]
    pub fn finish(self) -> Outcome {
        let (summary, mut shortfalls) = self.sinks.finish();
        let unheard = !shortfalls.is_empty() && shortfalls.iter().all(|shortfall| shortfall.gone);
        shortfalls.extend(self.recording.map(Lane::finish));
        shortfalls.retain(|shortfall| shortfall.count > 0);
        Outcome { summary, shortfalls, unheard }
    }
}

#[cfg(feature = "live")]
impl crate::daemon::Belt for Belt {
    fn feed(&mut self, event: &Event) {
        Self::feed(self, event);
    }

    fn wanted(&mut self) -> Vec<Wanted> {
        Self::wanted(self)
    }

    fn next_deadline(&self) -> Option<Stamp> {
        Self::next_deadline(self)
    }

    fn is_unheard(&self) -> bool {
        Self::is_unheard(self)
    }

    fn keep_house(&mut self, now: Stamp) {
        Self::keep_house(self, now);
    }
}
