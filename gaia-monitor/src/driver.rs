//! The driver: feeds each event to the recording, the engine and the outputs, in this order.
//!
//! A live run, `replay` and `explain` share it, so that they cannot differ. In a live run it never waits for an output,
//! and no output changes the engine's effects.

use std::io;

use crate::engine::Engine;
use crate::engine::effect::{Effect, Request};
use crate::model::event::Event;
use crate::model::settings::Settings;
use crate::model::time::Stamp;
use crate::output::Outputs;
use crate::output::queue::{Bound, OutputLoss, OutputQueue, Overflow, Writer};
use crate::output::summary::Summary;
use crate::recording::writer;

pub struct Driver<'a> {
    engine: Engine,
    outputs: Outputs<'a>,
    recording: Option<OutputQueue<Event>>,
    /// The exit code depends on the outcome (`--fail-on`), so keep running after every output has closed.
    outcome_required: bool,
    /// Reused by every step.
    effects: Vec<Effect>,
    /// Requested by the engine during the last event.
    wanted: Vec<Request>,
}

/// The result of a finished run.
pub struct RunOutcome {
    pub summary: Summary,
    /// One entry for each output that lost something.
    pub losses: Vec<OutputLoss>,
    /// Every output closed before the run ended.
    pub all_closed: bool,
}

impl<'a> Driver<'a> {
    #[must_use]
    pub fn new(settings: Settings, outputs: Outputs<'a>) -> Self {
        Self {
            engine: Engine::new(settings),
            outputs,
            recording: None,
            outcome_required: false,
            effects: Vec::new(),
            wanted: Vec::new(),
        }
    }

    /// Records every event from now on, on a thread of its own.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn record(&mut self, writer: impl Writer<Event>) -> io::Result<()> {
        self.recording = Some(OutputQueue::start(writer, Overflow::Drop, Bound::of_items(writer::QUEUE))?);
        Ok(())
    }

    /// Records the event, steps the engine and emits the effects.
    pub fn feed(&mut self, event: &Event) {
        if let Some(recording) = &mut self.recording {
            recording.push(event.clone());
        }
        self.outputs.advance(event.seen);
        self.wanted.clear();
        self.engine.step(event, &mut self.effects);
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Enrich(wanted) => self.wanted.push(wanted),
                emitted @ (Effect::Incident(_) | Effect::Story(_) | Effect::Explained(_) | Effect::Count(_)) => {
                    self.outputs.emit(emitted, event.seen);
                }
            }
        }
    }

    /// Takes the enrichment that the engine requested during the last event.
    #[must_use]
    pub fn wanted(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.wanted)
    }

    /// When the engine needs a `Tick`, if no event comes before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Stamp> {
        self.engine.next_deadline()
    }

    /// Work that is not due with each event. To be called about once a second.
    pub fn housekeeping(&mut self, now: Stamp) {
        let recording = self.recording.as_ref().map(OutputQueue::lost);
        self.outputs.publish(now, &mut self.engine, recording);
    }

    /// Keeps the run going after every output has closed: its outcome is the exit code.
    pub fn require_outcome(&mut self) {
        self.outcome_required = true;
    }

    /// Every output has closed and the exit code does not depend on the outcome: nothing is left to run for.
    #[must_use]
    pub fn all_outputs_closed(&self) -> bool {
        !self.outcome_required
            && self.outputs.are_closed()
            && self.recording.as_ref().is_none_or(OutputQueue::is_closed)
    }

    /// Lets every output finish. It feeds nothing: a run that ends cleanly has fed `Shutdown` before.
    #[must_use]
    pub fn finish(self) -> RunOutcome {
        let (summary, mut losses) = self.outputs.finish();
        let all_closed = !losses.is_empty() && losses.iter().all(|loss| loss.closed);
        losses.extend(self.recording.map(OutputQueue::finish));
        losses.retain(|loss| loss.count > 0);
        RunOutcome { summary, losses, all_closed }
    }
}
