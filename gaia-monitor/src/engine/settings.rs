//! What a run is told about its incidents: the scope and the clients' retry policies. Recordings carry it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::incident::HttpxClass;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub scope: Scope,
    pub policy: Policy,
    /// Report clients that leave first, too (with class `none`).
    pub include_cancelled: bool,
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
}

impl Default for Policy {
    /// gaia-web's `post_with_retry`: a refused or unanswered question is asked again, a reset is not.
    fn default() -> Self {
        Self { default: vec![HttpxClass::ConnectError, HttpxClass::RemoteProtocolError], services: BTreeMap::new() }
    }
}
