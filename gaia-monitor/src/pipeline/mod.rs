//! From many sources to one ordered stream of events.

pub mod channel;
pub mod clock;
pub mod fd;
pub mod merge;
pub mod timer;
