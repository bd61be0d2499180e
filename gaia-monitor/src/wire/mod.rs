//! Bytes that the probe copied → facts. Pure, and without a kernel: whatever the bytes are, it answers and never panics.
//! No byte of anybody's payload leaves it; of a DNS message that is the name, the addresses and the code.
#![deny(clippy::disallowed_types, clippy::disallowed_methods, clippy::disallowed_macros)]

pub mod dns;
