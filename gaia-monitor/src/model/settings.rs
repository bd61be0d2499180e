//! Settings of a run that affect incidents: scope, retry policies, log lines. Recordings contain them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::incident::HttpxClass;
use crate::model::time::Nanos;

/// All settings of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub scope: Scope,
    pub policy: Policy,
    /// Also report clients that disconnect before the response (class `none`).
    pub include_cancelled: bool,
    /// Recordings older than this setting contain no log lines.
    #[serde(default)]
    pub logs: LogSettings,
}

/// How many log lines of containers an incident contains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSettings {
    /// The most lines of the subject, and the most of all clients, in one incident. 0: logs are not read.
    pub lines: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { lines: 20 }
    }
}

/// Limits incidents to those with an endpoint in scope. A container is in scope if each non-empty list has a match for
/// it; empty lists limit nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scope {
    /// Compose projects.
    pub projects: Vec<String>,
    /// Globs (`*`, `?`) that match whole container names.
    pub containers: Vec<String>,
    /// `KEY=VALUE`, or `KEY` for any value.
    pub labels: Vec<String>,
}

/// The error classes on which clients retry and fail over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// For each client without an entry in `services`.
    pub default: Vec<HttpxClass>,
    /// By service of the client (without Compose by container name).
    pub services: BTreeMap<String, Vec<HttpxClass>>,
    /// The delays before each retry.
    #[serde(default)]
    pub waits: Waits,
}

/// The delays between a client's attempts: with n delays there are n + 1 attempts, followed by one at the fallback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    pub default: Vec<Nanos>,
    /// By service of the client.
    pub services: BTreeMap<String, Vec<Nanos>>,
}

impl Waits {
    /// The delays of a client's service.
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
    /// gaia-web's `post_with_retry`: it retries refused connections and missing responses, but not resets.
    fn default() -> Self {
        Self {
            default: vec![HttpxClass::ConnectError, HttpxClass::RemoteProtocolError],
            services: BTreeMap::new(),
            waits: Waits::default(),
        }
    }
}
