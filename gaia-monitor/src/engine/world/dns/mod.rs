//! Names and lookups.

pub mod lookups;
pub mod names;
pub mod responses;
