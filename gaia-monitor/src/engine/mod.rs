//! The correlation engine: events in, incidents out.
//!
//! PURE. It does no I/O, reads no clock, draws no randomness, spawns nothing, logs nothing and cannot fail; the same
//! events give the same effects, byte for byte. Clippy enforces what the signature cannot.
#![deny(clippy::disallowed_types, clippy::disallowed_methods, clippy::disallowed_macros, clippy::iter_over_hash_type)]

pub mod effect;
pub mod settings;

use crate::model::event::Event;
use crate::model::time::Stamp;
use effect::Effect;
use settings::Settings;

/// The engine's whole state.
pub struct Engine {
    settings: Settings,
}

impl Engine {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Takes one event and appends what follows from it. Timers that are due at `event.seen` fire first, each at its
    /// own deadline.
    pub fn step(&mut self, event: &Event, effects: &mut Vec<Effect>) {
        let _ = (event, effects, &self.settings);
    }

    /// When the next timer is due: the pipeline sends a `Tick` then, if nothing else comes before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Stamp> {
        None
    }
}
