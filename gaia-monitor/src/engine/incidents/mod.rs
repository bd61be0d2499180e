//! Incidents: cases of failures and terminations with one cause, from the first fact to the last revision.

/// Which failure belongs to which case.
mod binding;
/// A case, and all of them.
pub mod case;
/// From changes of the world to cases.
mod correlate;
pub use correlate::Pending;
/// Failed lookups that may still continue.
mod failed_lookups;
/// Traffic that passes a filter again, or is dropped again.
mod filter_recovery;
/// When a case is published, revised, settled and closed.
pub mod lifecycle;
/// From cases to effects.
mod publish;
/// When a container is back.
pub mod recovery;
pub use publish::Touched;
/// Data that is requested besides the events.
mod enrich;
