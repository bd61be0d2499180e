//! Metrics: a fold over effects, and over what the engine counts in place, kept as series that another thread renders.
//!
//! It works on the belt's own thread and never waits: whoever scrapes, and however slowly, reads atomics. A counter
//! cannot go down, so an incident is counted when its verdict can be relied on ([`STANDS`] at the latest), once.

pub mod catalogue;
#[cfg(feature = "live")]
pub mod series;

#[cfg(feature = "live")]
mod fold;
#[cfg(feature = "live")]
pub use fold::{Metrics, Readings};
