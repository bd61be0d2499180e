//! Bundled files: the schema of the output and files for operators.
//!
//! The only place that includes files of the repository.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, transform};
use serde_json::{Value, json};

use crate::model::incident::{self, Incident};
use crate::model::story::{self, Story};

/// Everything that `assets` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asset {
    IncidentSchema,
    StorySchema,
    Config,
    SystemdUnit,
    ComposeService,
    ComposeDockerfile,
    PrometheusRules,
    PrometheusScrape,
    GrafanaDashboard,
}

impl Asset {
    pub const ALL: [Self; 9] = [
        Self::IncidentSchema,
        Self::StorySchema,
        Self::Config,
        Self::SystemdUnit,
        Self::ComposeService,
        Self::ComposeDockerfile,
        Self::PrometheusRules,
        Self::PrometheusScrape,
        Self::GrafanaDashboard,
    ];

    #[must_use]
    pub fn content(self) -> String {
        match self {
            Asset::IncidentSchema => format!("{:#}\n", incident_schema()),
            Asset::StorySchema => format!("{:#}\n", story_schema()),
            Asset::Config => include_str!("../../assets/config/gaia-monitor.toml").to_owned(),
            Asset::SystemdUnit => include_str!("../../assets/systemd/gaia-monitor.service").to_owned(),
            Asset::ComposeService => include_str!("../../assets/compose/gaia-monitor.yml").to_owned(),
            Asset::ComposeDockerfile => include_str!("../../assets/compose/Dockerfile").to_owned(),
            Asset::PrometheusRules => include_str!("../../assets/prometheus/rules.yml").to_owned(),
            Asset::PrometheusScrape => include_str!("../../assets/prometheus/scrape.yml").to_owned(),
            Asset::GrafanaDashboard => include_str!("../../assets/grafana/dashboard.json").to_owned(),
        }
    }
}

/// The JSON Schema of the incident line.
#[must_use]
pub fn incident_schema() -> Value {
    line_schema::<Incident>(incident::SCHEMA, "An incident of gaia-monitor, one revision a line")
}

/// The JSON Schema of the story line.
#[must_use]
pub fn story_schema() -> Value {
    line_schema::<Story>(story::SCHEMA, "A story of gaia-monitor: one request with all its attempts")
}

/// Derived from the types that write the line: every field required, no others allowed.
fn line_schema<T: JsonSchema>(id: &str, title: &str) -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with_transform(transform::RecursiveTransform(close));
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("$id".to_owned(), json!(id));
    schema.insert("title".to_owned(), json!(title));
    if let Some(property) = schema.pointer_mut("/properties/schema").and_then(Value::as_object_mut) {
        property.insert("const".to_owned(), json!(id));
    }
    schema.to_value()
}

/// Fields change only with the schema's version, so an unknown one is an error.
fn close(schema: &mut Schema) {
    if schema.get("properties").is_some() {
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
}

#[cfg(test)]
mod tests;
