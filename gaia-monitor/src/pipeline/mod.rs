//! From many sources to one ordered stream.

pub mod alarm;
pub mod clock;
pub mod merge;
pub mod outlet;
