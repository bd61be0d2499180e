//! Those who are told: folds over the engine's effects, each writer on a thread of its own.
//!
//! No sink can delay the engine or change what another one says.

pub mod journal;
pub mod json;
pub mod lane;
pub mod metrics;
pub mod notice;
#[cfg(test)]
pub mod sample;
pub mod summary;
pub mod terminal;

use std::io;
use std::sync::Arc;

use crate::engine::effect::Effect;
use lane::{Drain, Lane, Pace, Shortfall};
use summary::Summary;

/// Effects that may wait for one writer. An incident of full length has some 50 KiB, and all lanes share it.
const QUEUE: usize = 512;

/// Everybody who is told.
pub struct Sinks {
    pace: Pace,
    lanes: Vec<Lane<Arc<Effect>>>,
    pub summary: Summary,
}

impl Sinks {
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self { pace, lanes: Vec::new(), summary: Summary::default() }
    }

    /// Adds a writer.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn add(&mut self, drain: impl Drain<Arc<Effect>>) -> io::Result<()> {
        self.lanes.push(Lane::start(drain, self.pace, QUEUE)?);
        Ok(())
    }

    pub fn tell(&mut self, effect: Effect) {
        self.summary.fold(&effect);
        match effect {
            Effect::Incident(_) | Effect::Explained { .. } => {}
            // Only the summary tells these. A flood of them would wake every writer for nothing, and crowd incidents out
            // of its queue.
            Effect::Counted(_) | Effect::Wanted(_) => return,
        }
        let effect = Arc::new(effect);
        for lane in &mut self.lanes {
            lane.offer(Arc::clone(&effect));
        }
    }

    /// What each writer has lost so far.
    pub fn lost(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.lanes.iter().map(Lane::lost)
    }

    /// Every writer has ended: nobody would hear what comes.
    #[must_use]
    pub fn are_gone(&self) -> bool {
        !self.lanes.is_empty() && self.lanes.iter().all(Lane::is_gone)
    }

    /// Lets the writers finish; tells of each what it lost.
    #[must_use]
    pub fn finish(self) -> (Summary, Vec<Shortfall>) {
        (self.summary, self.lanes.into_iter().map(Lane::finish).collect())
    }
}
