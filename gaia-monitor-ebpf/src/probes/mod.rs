//! One file for each family of events. A file's header names the kernels, the fields and what stands in where one lacks.

mod backlog;
mod descriptors;
mod dns;
mod drops;
mod errors;
pub mod http;
mod oom;
mod packets;
mod process;
mod reading;
mod resets;
mod signals;
mod tcp_state;
