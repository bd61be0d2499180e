//! DNS: lookups of containers, and the names that they resolve.

// One getaddrinfo call.
mod lookup;

// All lookups, with their queries and responses grouped.
pub mod lookups;

// Names, their holders and the responses for them.
pub mod names;

// Joins responses to names.
mod responses;
