//! The configuration of a run: a TOML file with optional keys, overridden by environment variables, overridden by flags.
//!
//! An unknown key is an error with line and column. A list in a variable or flag replaces the file's.

mod policies;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

pub use policies::{PolicyConfig, PolicyEntry, PolicyTable};
pub use values::{Age, FailOn, Seconds, Size};

use crate::access::Access;
use crate::bounded;
use crate::model::settings::{LogSettings, Scope, Settings};
use crate::output::journal::Limits;
use crate::text::without_types;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {name}: {source}")]
    Read { name: String, source: std::io::Error },
    #[error("{name}:{line}:{column}: {message}; `gaia-monitor assets config` prints every key with its meaning")]
    Parse { name: String, line: usize, column: usize, message: String },
}

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_host: Option<String>,
    pub output: Output,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<PathBuf>,
    pub force: bool,
    pub file_access: Access,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<Seconds>,
    pub fail_on: Vec<FailOn>,
    pub include_cancelled: bool,
    pub stories: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    pub journal: JournalConfig,
    pub scope: ScopeConfig,
    pub policy: PolicyConfig,
    pub logs: LogsConfig,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogsConfig {
    pub lines: usize,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self { lines: LogSettings::default().lines }
    }
}

/// The form of standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Blocks of text, coloured on a terminal.
    #[default]
    Pretty,
    /// JSON lines: one revision of an incident a line, nothing else.
    Json,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JournalConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    pub max_file_size: Size,
    pub max_file_age: Age,
    pub max_total_size: Size,
    pub max_age: Age,
}

impl Default for JournalConfig {
    fn default() -> Self {
        let Limits { file_bytes, file_age, total_bytes, age } = Limits::default();
        Self {
            directory: None,
            max_file_size: Size(file_bytes),
            max_file_age: Age(file_age),
            max_total_size: Size(total_bytes),
            max_age: Age(age),
        }
    }
}

impl JournalConfig {
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            file_bytes: self.max_file_size.0,
            file_age: self.max_file_age.0,
            total_bytes: self.max_total_size.0,
            age: self.max_age.0,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScopeConfig {
    pub projects: Vec<String>,
    pub containers: Vec<String>,
    #[serde(deserialize_with = "labels")]
    pub labels: Vec<String>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Label(#[serde(deserialize_with = "label")] String);

fn label<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_label(&text).map_err(serde::de::Error::custom)
}

fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Vec::<Label>::deserialize(deserializer)?.into_iter().map(|label| label.0).collect())
}

/// `KEY=VALUE`, or `KEY` for any value.
///
/// # Errors
/// The key is empty.
pub fn parse_label(text: &str) -> Result<String, String> {
    match text.split('=').next() {
        Some("") | None => Err(format!("{text:?} is not a label: write KEY=VALUE, or KEY for any value")),
        Some(_) => Ok(text.to_owned()),
    }
}

/// Bytes of a configuration file.
const MAX_FILE: usize = 1 << 20;

impl Config {
    /// # Errors
    /// The file cannot be read, or it does not parse: then with line and column.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        match bounded::read_text(path, MAX_FILE) {
            Ok(text) => Self::parse(&name, &text),
            Err(source) => Err(ConfigError::Read { name, source }),
        }
    }

    /// # Errors
    /// The text does not parse.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            ConfigError::Parse {
                name: name.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before.rsplit('\n').next().unwrap_or_default().chars().count() + 1,
                message: without_types(&error.message().trim().replace('\n', ", ")),
            }
        })
    }

    /// The engine's settings.
    #[must_use]
    pub fn into_settings(self) -> Settings {
        let Config { include_cancelled, stories, scope, policy, logs, .. } = self;
        let ScopeConfig { projects, containers, labels } = scope;
        Settings {
            scope: Scope { projects, containers, labels },
            policy: policy.into_policy(),
            include_cancelled,
            logs: LogSettings { lines: logs.lines },
            stories,
        }
    }
}

#[cfg(test)]
mod tests;
