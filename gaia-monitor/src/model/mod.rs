//! Data that flows through the program: plain types with public fields, and a newtype for every id and instant.
//!
//! The types decide nothing; decisions belong to the engine. The matching of containers against a [`settings::Scope`]
//! is the exception, because sources and the engine share it.

/// Newtypes of identities: process, socket, namespace, cgroup, container, incident.
pub mod ids;
/// Newtypes of instants and spans.
pub mod time;

/// Input of the engine: facts from every source.
pub mod event;
/// Output of the engine: the incident line.
pub mod incident;
/// Output of the engine: the story line.
pub mod story;

pub mod candidate;
/// The label of a service, and the naming convention of candidates.
pub mod label;

/// What a client's own code does after an error.
pub mod policy;
/// Matching of containers against a scope.
pub mod scope;
/// What a run is configured to report: scope, retry policies, log lines.
pub mod settings;
