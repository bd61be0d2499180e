//! Client-visible failures.

pub mod detect;
pub mod failed_lookup;
pub mod happy_eyeballs;
pub mod httpx;
pub mod record;
pub mod retry_policy;
pub mod table;
