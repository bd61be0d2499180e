//! The harness: real containers and the built monitor, for `cargo xtask demo` and the live suites.
//!
//! It drives the `docker` command that every user has, and never pulls: [`image`] makes the one image on the spot.
//! Whatever it creates carries the label of its run and is removed with the run: by `Drop`, on Ctrl-C, and at the latest
//! by the sweep of the next run. It must never touch a container that it did not make.

pub mod check;
pub mod cleanup;
pub mod client;
pub mod command;
pub mod compare;
pub mod container;
pub mod diff;
pub mod docker;
pub mod expect;
pub mod firewall;
pub mod gaia;
pub mod golden;
pub mod host;
pub mod image;
pub mod incident_line;
pub mod interfaces;
pub mod live_case;
pub mod live_cases;
pub mod monitor;
pub mod network;
pub mod play;
pub mod recordings;
pub mod remote_client;
pub mod scenario;
pub mod stack;
pub mod stage;
pub mod wait;
pub mod witness;
