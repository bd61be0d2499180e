//! Incidents.

pub mod case;
pub mod correlate;
pub mod enrich;
pub mod lifecycle;
pub mod lookup_failures;
pub mod passage;
pub mod publish;
pub mod recovery;
