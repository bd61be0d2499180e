//! Outputs. Each consumes the engine's effects: writers on threads of their own, folds on the driver's.
//!
//! No output delays the engine or changes what another one prints.

pub mod journal;
pub mod json;
pub mod metrics;
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
use crate::model::time::Stamp;
use queue::{OutputLoss, OutputQueue, Overflow, Writer};
use summary::Summary;

/// Effects that may wait for one writer. An incident of full length has some 50 KiB, and all queues share it.
const QUEUE: usize = 512;

/// An output on the driver's own thread: it keeps counts or incidents in memory and must not block.
pub trait Fold {
    /// Takes an effect that was emitted at `seen`.
    fn fold(&mut self, effect: &Effect, seen: Stamp);

    /// Publishes the counters of the engine and the losses of the outputs, about once a second.
    fn publish(&mut self, _now: Stamp, _engine: &mut Engine, _lost: &[(&'static str, u64)]) {}
}

/// All outputs of a run.
pub struct Outputs<'a> {
    overflow: Overflow,
    queues: Vec<OutputQueue<Arc<Effect>>>,
    folds: Vec<Box<dyn Fold + 'a>>,
    pub summary: Summary,
}

impl<'a> Outputs<'a> {
    #[must_use]
    pub fn new(overflow: Overflow) -> Self {
        Self { overflow, queues: Vec::new(), folds: Vec::new(), summary: Summary::default() }
    }

    /// Adds a writer.
    ///
    /// # Errors
    /// Its thread cannot be started.
    pub fn add(&mut self, writer: impl Writer<Arc<Effect>>) -> io::Result<()> {
        self.queues.push(OutputQueue::start(writer, self.overflow, QUEUE)?);
        Ok(())
    }

    pub fn add_fold(&mut self, fold: impl Fold + 'a) {
        self.folds.push(Box::new(fold));
    }

    /// The run reached this instant.
    pub fn advance(&mut self, seen: Stamp) {
        self.summary.advance(seen);
    }

    pub fn emit(&mut self, effect: Effect, seen: Stamp) {
        self.summary.fold(&effect, seen);
        for fold in &mut self.folds {
            fold.fold(&effect, seen);
        }
        match effect {
            Effect::Incident(_) | Effect::Story(_) | Effect::Explained(_) => {}
            // For folds only. A flood of them would wake every writer for nothing and crowd incidents out of its queue.
            Effect::Count(_) | Effect::Enrich(_) => return,
        }
        let effect = Arc::new(effect);
        for queue in &mut self.queues {
            queue.push(Arc::clone(&effect));
        }
    }

    /// `recording`: the losses of an output that the driver feeds itself.
    pub fn publish(&mut self, now: Stamp, engine: &mut Engine, recording: Option<(&'static str, u64)>) {
        if self.folds.is_empty() {
            return;
        }
        let lost: Vec<_> = self.queues.iter().map(OutputQueue::lost).chain(recording).collect();
        for fold in &mut self.folds {
            fold.publish(now, engine, &lost);
        }
    }

    /// All writers have closed; further effects would be dropped.
    #[must_use]
    pub fn are_closed(&self) -> bool {
        !self.queues.is_empty() && self.queues.iter().all(OutputQueue::is_closed)
    }

    /// Lets the writers finish; returns the loss of each.
    #[must_use]
    pub fn finish(self) -> (Summary, Vec<OutputLoss>) {
        (self.summary, self.queues.into_iter().map(OutputQueue::finish).collect())
    }
}
