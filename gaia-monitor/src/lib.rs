//! The library behind the `gaia-monitor` command.
//!
//! Facts flow from left to right: `sources` observe, `pipeline` orders, `engine` derives incidents, `sinks` tell.
//! Everything but `sources`, `pipeline` and `daemon` builds without the `live` feature and replays recordings anywhere.

pub mod engine;
pub mod model;
#[cfg(feature = "live")]
pub mod pipeline;
#[cfg(feature = "live")]
pub mod sources;
