//! Data that the steps of the engine hand to each other. No behaviour beyond constructors and accessors.

/// What makes failures one case, and the attribution of one failure.
pub mod cause;
/// Observations behind an attribution, kept with the failure.
pub mod evidence;
/// Ids of failures and cases.
pub mod ids;
/// What a case amounts to.
pub mod verdict;
