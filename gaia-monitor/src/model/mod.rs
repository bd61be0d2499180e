//! What flows through the program: plain data with public fields, and a newtype for every id and instant.
//!
//! Nothing in here decides anything; that is the engine's work.

pub mod event;
pub mod ids;
pub mod incident;
pub mod scope;
pub mod settings;
pub mod time;
