//! Parsers of foreign bytes: DNS messages copied by the probe, log lines of containers. Pure: every input has a result, and
//! none panics. No payload leaves it: of a DNS message, only the name, the addresses and the code.
#![deny(clippy::disallowed_types, clippy::disallowed_methods, clippy::disallowed_macros)]

pub mod dns;
pub mod log_line;
