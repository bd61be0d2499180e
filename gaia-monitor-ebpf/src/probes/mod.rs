//! Probe programs, one file for each family of events. Each file header names the kernel versions, the fields, and the
//! fallback if one is missing.

mod accept_queue;
mod crash;
mod dns;
mod drops;
mod engine;
mod errors;
mod fds;
mod http;
mod oom;
mod packets;
mod process;
mod resets;
mod signals;
mod socket_read;
mod socket_state;
mod tcp_state;
