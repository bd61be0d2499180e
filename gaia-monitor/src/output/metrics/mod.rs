//! Metrics: counters and gauges over the engine's effects and levels, kept as series that another thread renders.
//!
//! They are updated on the driver's thread, which never waits: a scrape reads atomics. A counter cannot decrease, so an
//! incident is counted once, when its verdict is final, at the latest after [`COUNTED_AFTER`](collector::COUNTED_AFTER).

pub mod catalogue;
#[cfg(feature = "live")]
pub mod collector;
#[cfg(feature = "live")]
pub mod series;

#[cfg(feature = "live")]
pub use collector::{Metrics, Readings};
