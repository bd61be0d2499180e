//! Bundled files: the schema of the output and files for operators.
//!
//! The only place that includes files of the repository.

use schemars::generate::SchemaSettings;
use schemars::{Schema, transform};
use serde_json::{Value, json};

use crate::model::incident::{Incident, SCHEMA};

/// Everything that `assets` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asset {
    IncidentSchema,
    Config,
    SystemdUnit,
    ComposeService,
    ComposeDockerfile,
    PrometheusRules,
    PrometheusScrape,
    GrafanaDashboard,
}

impl Asset {
    pub const ALL: [Self; 8] = [
        Self::IncidentSchema,
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

/// The JSON Schema of the incident line, derived from the types that write it: every field required, no others allowed.
#[must_use]
pub fn incident_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with_transform(transform::RecursiveTransform(close));
    let mut schema = settings.into_generator().into_root_schema_for::<Incident>();
    schema.insert("$id".to_owned(), json!(SCHEMA));
    schema.insert("title".to_owned(), json!("An incident of gaia-monitor, one revision a line"));
    if let Some(property) = schema.pointer_mut("/properties/schema").and_then(Value::as_object_mut) {
        property.insert("const".to_owned(), json!(SCHEMA));
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
