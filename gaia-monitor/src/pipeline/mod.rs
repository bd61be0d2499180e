//! From many sources to one ordered stream.

pub mod alarm;
pub mod clock;
pub mod fd;
pub mod merge;
pub mod outlet;
