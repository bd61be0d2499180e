//! Rules read what changed in the world and write cases; a rule never calls a rule.

pub mod connections;
pub mod deaths;
pub mod lookups;
pub mod recovery;
