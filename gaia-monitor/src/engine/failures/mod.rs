//! Client-visible failures: which changes of the world are one, and what each is kept as.

/// Connections and connection attempts: is a change a failure for the client?
pub mod detect;
/// Lookups.
pub mod failed_lookup;
/// Refusals that another address made good.
pub mod happy_eyeballs;
/// The exception class of httpx.
pub mod httpx;
/// The failure with its `affected` entry.
pub mod record;
/// Whether the client's policy retries it.
pub mod retry_policy;
/// All failures.
pub mod table;
