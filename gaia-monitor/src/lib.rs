//! The library behind the `gaia-monitor` command.
//!
//! Facts flow from left to right: `sources` observe, `pipeline` orders, `engine` derives incidents, `output` publishes.
//! Everything but `sources`, `pipeline` and `daemon` builds without the `live` feature and replays recordings anywhere.

pub mod access;
pub mod assets;
pub mod bounded;
pub mod cli;
pub mod cmd;
pub mod config;
#[cfg(feature = "live")]
pub mod daemon;
#[cfg(feature = "live")]
pub mod doctor;
pub mod driver;
pub mod engine;
pub mod exit;
pub mod explain;
pub mod model;
pub mod output;
#[cfg(feature = "live")]
pub mod pipeline;
#[cfg(feature = "live")]
pub mod privileges;
pub mod recording;
pub mod selection;
#[cfg(feature = "live")]
pub mod serve;
#[cfg(feature = "live")]
pub mod sources;
pub mod stderr;
pub mod story;
pub mod text;
pub mod wire;
