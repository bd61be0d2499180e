//! The configuration file: TOML, everything optional. A key that is not known is an error with line and column.
//!
//! Flags replace the lists of the same name; what neither names has its default.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

use crate::engine::settings::{Policy, Scope, Settings};
use crate::model::incident::HttpxClass;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {name}: {source}")]
    Read { name: String, source: std::io::Error },
    #[error("{name}:{line}:{column}: {message}; `gaia-monitor assets config` prints every key with its meaning")]
    Parse { name: String, line: usize, column: usize, message: String },
}

/// The file, as written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub include_cancelled: bool,
    pub scope: ScopeConfig,
    pub policy: PolicyConfig,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScopeConfig {
    pub projects: Vec<String>,
    pub containers: Vec<String>,
    #[serde(deserialize_with = "labels")]
    pub labels: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    #[serde(deserialize_with = "classes")]
    pub default: Vec<HttpxClass>,
    #[serde(deserialize_with = "services")]
    pub services: BTreeMap<String, Vec<HttpxClass>>,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        let Policy { default, services } = Policy::default();
        Self { default, services }
    }
}

/// A class that a policy can name.
#[derive(Deserialize)]
#[serde(transparent)]
struct Retryable(#[serde(deserialize_with = "retryable")] HttpxClass);

fn retryable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HttpxClass, D::Error> {
    match HttpxClass::deserialize(deserializer)? {
        HttpxClass::None => Err(serde::de::Error::custom("`none` is no error, so no policy can retry it")),
        class => Ok(class),
    }
}

fn classes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HttpxClass>, D::Error> {
    Ok(Vec::<Retryable>::deserialize(deserializer)?.into_iter().map(|class| class.0).collect())
}

fn services<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Vec<HttpxClass>>, D::Error> {
    let services = BTreeMap::<String, Vec<Retryable>>::deserialize(deserializer)?;
    Ok(services.into_iter().map(|(name, list)| (name, list.into_iter().map(|class| class.0).collect())).collect())
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
/// What is wrong with it.
pub fn parse_label(text: &str) -> Result<String, String> {
    match text.split('=').next() {
        Some("") | None => Err(format!("{text:?} is no label: write KEY=VALUE, or KEY for any value")),
        Some(_) => Ok(text.to_owned()),
    }
}

impl Config {
    /// # Errors
    /// The file cannot be read, or it does not parse: then with line and column.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
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
                message: error.message().trim().replace('\n', ", "),
            }
        })
    }

    /// What the engine is told.
    #[must_use]
    pub fn into_settings(self) -> Settings {
        let Config { include_cancelled, scope, policy } = self;
        let ScopeConfig { projects, containers, labels } = scope;
        let PolicyConfig { default, services } = policy;
        Settings {
            scope: Scope { projects, containers, labels },
            policy: Policy { default, services },
            include_cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Config;
    use crate::engine::settings::Settings;
    use crate::model::incident::HttpxClass;

    fn error(text: &str) -> String {
        Config::parse("C", text).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        assert_eq!(Config::parse("C", "").unwrap().into_settings(), Settings::default());
    }

    #[test]
    fn a_policy_names_services_and_leaves_the_default_alone() {
        let text = "include_cancelled = true\n[scope]\nprojects = ['gaia']\n[policy.services]\nweb = ['ReadError']\n";
        let settings = Config::parse("C", text).unwrap().into_settings();
        assert!(settings.include_cancelled);
        assert_eq!(settings.scope.projects, ["gaia"]);
        assert_eq!(settings.policy.services["web"], [HttpxClass::ReadError]);
        assert_eq!(settings.policy.default, Settings::default().policy.default);
    }

    #[test]
    fn mistakes_are_told_with_line_and_column() {
        assert!(error("\n  speed = 1\n").starts_with("C:2:3: unknown field `speed`"), "{}", error("\n  speed = 1\n"));
        assert!(error("[scope]\nproject = ['a']\n").starts_with("C:2:1: unknown field `project`"));
        let class = error("[policy]\ndefault = ['ReadErr']\n");
        assert!(class.starts_with("C:2:") && class.contains("ReadErr"), "{class}");
        assert!(error("[policy]\ndefault = ['none']\n").contains("`none` is no error"));
        assert!(error("[scope]\nlabels = ['=x']\n").contains("is no label"));
        assert!(error("[scope\n").starts_with("C:1:"));
    }

    #[test]
    fn what_is_printed_reads_back() {
        let text = "include_cancelled = true\n[policy.services]\nweb = ['ReadError']\n";
        let config = Config::parse("C", text).unwrap();
        assert_eq!(Config::parse("C", &toml::to_string(&config).unwrap()).unwrap(), config);
    }
}
