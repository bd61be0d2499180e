//! Reachability of containers: their interfaces and the packets that did not arrive.

// State of every interface, and its faults.
pub mod interfaces;

// One period without reachability.
mod outage;

// All outages, matched with Docker's network events.
pub mod outages;

// The outage between two endpoints.
pub mod reachability;

// Dropped and refused packets.
pub mod drops;
