//! Reachability of containers: their interfaces and the packets that did not arrive.

// State of every interface, and its faults.
pub mod interfaces;

// One period without reachability.
mod outage_period;

// All outages, matched with Docker's network events.
pub mod outages;

// Interface changes and network events, joined with containers.
pub mod reachability;

// Dropped and refused packets.
pub mod drops;
