//! Interfaces and packets.

pub mod drops;
pub mod interfaces;
pub mod outages;
pub mod reachability;
