//! Settings of a run that affect incidents: scope, retry policies, log lines. Recordings contain them.

use serde::{Deserialize, Serialize};

use crate::model::policy::Policy;

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
    /// JSON output contains the lines of stories.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stories: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
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
