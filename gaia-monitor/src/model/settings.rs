//! What a run is told about its incidents: the scope and the clients' retry policies. Recordings carry it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::incident::HttpxClass;
use crate::model::time::Nanos;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub scope: Scope,
    pub policy: Policy,
    /// Report clients that leave first, too (with class `none`).
    pub include_cancelled: bool,
    /// Recordings from before this setting had no log lines.
    #[serde(default)]
    pub logs: Logs,
}

/// What is told of containers' logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// Lines of the subject, and of the clients', that an incident tells at most, each. 0: logs are not read at all.
    pub lines: usize,
}

impl Default for Logs {
    fn default() -> Self {
        Self { lines: 20 }
    }
}

/// Limits incidents to what has an end in scope. Empty lists limit nothing; a container is in scope when each
/// non-empty list has a match for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scope {
    /// Compose projects.
    pub projects: Vec<String>,
    /// Globs (`*`, `?`) over container names.
    pub containers: Vec<String>,
    /// `KEY=VALUE`, or `KEY` for any value.
    pub labels: Vec<String>,
}

/// Which classes a client's own code retries and fails over on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// For every client that `services` does not name.
    pub default: Vec<HttpxClass>,
    /// By client service (container name without Compose).
    pub services: BTreeMap<String, Vec<HttpxClass>>,
    /// How long clients wait before they ask again.
    #[serde(default)]
    pub waits: Waits,
}

/// The pauses between a client's attempts: one attempt more than there are pauses, then the fallback once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    pub default: Vec<Nanos>,
    /// By client service.
    pub services: BTreeMap<String, Vec<Nanos>>,
}

impl Waits {
    #[must_use]
    pub fn of(&self, service: &str) -> &[Nanos] {
        self.services.get(service).unwrap_or(&self.default)
    }
}

impl Default for Waits {
    /// gaia-web's `post_with_retry`.
    fn default() -> Self {
        Self { default: vec![Nanos::from_secs(2), Nanos::from_secs(4)], services: BTreeMap::new() }
    }
}

impl Default for Policy {
    /// gaia-web's `post_with_retry`: a refused or unanswered question is asked again, a reset is not.
    fn default() -> Self {
        Self {
            default: vec![HttpxClass::ConnectError, HttpxClass::RemoteProtocolError],
            services: BTreeMap::new(),
            waits: Waits::default(),
        }
    }
}
