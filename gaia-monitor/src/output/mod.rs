//! Outputs. Each consumes the engine's effects: writers on threads of their own, folds on the driver's.
//!
//! No output delays the engine or changes what another one prints.

#[cfg(test)]
mod hostile_tests;
pub mod journal;
pub mod json;
pub mod metrics;
pub mod neutral;
pub mod queue;
pub mod summary;
pub mod terminal;
#[cfg(test)]
pub mod test_fixtures;
#[cfg(feature = "live")]
pub mod unprivileged;

use std::io;
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::effect::Effect;
use crate::model::incident::{Affected, Alternative, Incident, State, TimelineEntry};
use crate::model::story::{Attempt, Story};
use crate::model::time::Stamp;
use queue::{Bound, OutputLoss, OutputQueue, Overflow, Queued, Revision, Writer};
use summary::Summary;

/// What may wait for one writer: the last revisions of as many incidents as the engine keeps open. An incident of full
/// length has some 50 KiB, and all queues share it.
const QUEUE: Bound = Bound { items: 4_096, bytes: 32 << 20 };

/// An output on the driver's own thread: it keeps counts or incidents in memory and must not block.
pub trait Fold {
    /// Takes an effect that was emitted at `seen`.
    fn fold(&mut self, effect: &Effect, seen: Stamp);

    /// Publishes the counters of the engine and the losses of the outputs, about once a second.
    fn publish(&mut self, _now: Stamp, _engine: &mut Engine, _lost: &[(&'static str, u64)]) {}
}

/// A writer's queue.
struct Sink {
    queue: OutputQueue<Arc<Effect>>,
    /// The writer prints explanations as well.
    explanations: bool,
}

/// All outputs of a run.
pub struct Outputs<'a> {
    overflow: Overflow,
    sinks: Vec<Sink>,
    folds: Vec<Box<dyn Fold + 'a>>,
    pub summary: Summary,
}

impl<'a> Outputs<'a> {
    #[must_use]
    pub fn new(overflow: Overflow) -> Self {
        Self { overflow, sinks: Vec::new(), folds: Vec::new(), summary: Summary::default() }
    }

    /// Adds a writer of incidents.
    ///
    /// # Errors
    /// Its thread cannot be started.
    pub fn add(&mut self, writer: impl Writer<Arc<Effect>>) -> io::Result<()> {
        self.add_sink(writer, false)
    }

    /// Adds a writer of incidents and explanations.
    ///
    /// # Errors
    /// Its thread cannot be started.
    pub fn add_explaining(&mut self, writer: impl Writer<Arc<Effect>>) -> io::Result<()> {
        self.add_sink(writer, true)
    }

    fn add_sink(&mut self, writer: impl Writer<Arc<Effect>>, explanations: bool) -> io::Result<()> {
        let queue = OutputQueue::start(writer, self.overflow, QUEUE)?;
        self.sinks.push(Sink { queue, explanations });
        Ok(())
    }

    pub fn add_fold(&mut self, fold: impl Fold + 'a) {
        self.folds.push(Box::new(fold));
    }

    /// The run reached this instant.
    pub fn advance(&mut self, seen: Stamp) {
        self.summary.advance(seen);
    }

    pub fn emit(&mut self, mut effect: Effect, seen: Stamp) {
        match &mut effect {
            Effect::Incident(incident) => neutral::neutralise(incident),
            Effect::Story(story) => neutral::neutralise_story(story),
            Effect::Explained(_) | Effect::Count(_) | Effect::Enrich(_) => {}
        }
        self.summary.fold(&effect, seen);
        for fold in &mut self.folds {
            fold.fold(&effect, seen);
        }
        // What a writer does not print would crowd incidents out of its queue, and be counted as lost output.
        let is_incident = match effect {
            Effect::Incident(_) | Effect::Story(_) => true,
            Effect::Explained(_) => false,
            Effect::Count(_) | Effect::Enrich(_) => return,
        };
        let takes = |sink: &&mut Sink| is_incident || sink.explanations;
        let mut sinks = self.sinks.iter_mut().filter(takes).peekable();
        if sinks.peek().is_none() {
            return;
        }
        let effect = Arc::new(effect);
        for sink in sinks {
            sink.queue.push(Arc::clone(&effect));
        }
    }

    /// `recording`: the losses of an output that the driver feeds itself.
    pub fn publish(&mut self, now: Stamp, engine: &mut Engine, recording: Option<(&'static str, u64)>) {
        if self.folds.is_empty() {
            return;
        }
        let lost: Vec<_> = self.sinks.iter().map(|sink| sink.queue.lost()).chain(recording).collect();
        for fold in &mut self.folds {
            fold.publish(now, engine, &lost);
        }
    }

    /// All writers have closed; further effects would be dropped.
    #[must_use]
    pub fn are_closed(&self) -> bool {
        !self.sinks.is_empty() && self.sinks.iter().all(|sink| sink.queue.is_closed())
    }

    /// Lets the writers finish; returns the loss of each.
    #[must_use]
    pub fn finish(self) -> (Summary, Vec<OutputLoss>) {
        (self.summary, self.sinks.into_iter().map(|sink| sink.queue.finish()).collect())
    }
}

impl Queued for Arc<Effect> {
    fn revision(&self) -> Option<Revision<'_>> {
        let Effect::Incident(incident) = self.as_ref() else { return None };
        Some(Revision { of: &incident.id, is_last: matches!(incident.state, State::Closed | State::Withdrawn) })
    }

    fn bytes(&self) -> usize {
        match self.as_ref() {
            Effect::Incident(incident) => bytes_of(incident),
            Effect::Story(story) => size_of::<Story>() + story.attempts.len() * size_of::<Attempt>(),
            Effect::Explained(_) | Effect::Count(_) | Effect::Enrich(_) => size_of::<Effect>(),
        }
    }
}

/// The memory of an incident, roughly: names and numbers of a fixed size each, and its texts.
fn bytes_of(incident: &Incident) -> usize {
    const NAMES: usize = 256;
    let text: usize = incident.timeline.iter().map(|entry| entry.text.len()).sum();
    let against: usize = incident.alternatives.iter().map(|other| other.against.len()).sum();
    size_of::<Incident>()
        + NAMES
        + incident.cause.summary.len()
        + incident.affected.len() * (size_of::<Affected>() + NAMES)
        + incident.timeline.len() * size_of::<TimelineEntry>()
        + incident.alternatives.len() * size_of::<Alternative>()
        + text
        + against
}
