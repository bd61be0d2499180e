//! From many sources to one ordered stream.

pub mod clock;
pub mod merge;
pub mod outlet;
