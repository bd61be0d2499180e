//! What the binary carries to be printed: the schema of its output and files for operators.
//!
//! The only place that includes files of the repository.

use schemars::generate::SchemaSettings;
use schemars::{Schema, transform};
use serde_json::{Value, json};

use crate::model::incident::{Incident, SCHEMA};

/// Everything that `assets` prints; what is not in this list does not exist.
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
    #[must_use]
    pub fn content(self) -> String {
        match self {
            Asset::IncidentSchema => format!("{:#}\n", incident_schema()),
            Asset::Config => include_str!("../assets/config/gaia-monitor.toml").to_owned(),
            Asset::SystemdUnit => include_str!("../assets/systemd/gaia-monitor.service").to_owned(),
            Asset::ComposeService => include_str!("../assets/compose/gaia-monitor.yml").to_owned(),
            Asset::ComposeDockerfile => include_str!("../assets/compose/Dockerfile").to_owned(),
            Asset::PrometheusRules => include_str!("../assets/prometheus/rules.yml").to_owned(),
            Asset::PrometheusScrape => include_str!("../assets/prometheus/scrape.yml").to_owned(),
            Asset::GrafanaDashboard => include_str!("../assets/grafana/dashboard.json").to_owned(),
        }
    }
}

/// The JSON Schema of the incident line, from the types that write it: every field required, none beside them.
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

/// Fields come and go only with the schema's version, so an unknown one is an error.
fn close(schema: &mut Schema) {
    if schema.get("properties").is_some() {
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
}

#[cfg(test)]
#[cfg(feature = "live")]
mod queries;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Asset, incident_schema};
    use crate::config::Config;
    use crate::model::time::Nanos;
    use crate::sinks::sample;

    fn problems(line: &Value) -> Vec<String> {
        let validator = jsonschema::validator_for(&incident_schema()).unwrap();
        validator.iter_errors(line).map(|error| error.to_string()).collect()
    }

    fn sample_line() -> Value {
        serde_json::to_value(sample::killed()).unwrap()
    }

    #[test]
    fn a_full_incident_fits_the_schema() {
        assert_eq!(problems(&sample_line()), Vec::<String>::new());
    }

    #[test]
    fn an_incident_of_nulls_and_empty_lists_fits_the_schema() {
        assert_eq!(problems(&serde_json::to_value(sample::unknown()).unwrap()), Vec::<String>::new());
    }

    /// Every object of a line, by its JSON pointer.
    fn objects(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                // Maps of counts have no fixed fields.
                if !["/affected_by_class", "/lost_events"].contains(&at) {
                    found.push(at.to_owned());
                }
                map.iter().for_each(|(key, value)| objects(value, &format!("{at}/{key}"), found));
            }
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(index, value)| objects(value, &format!("{at}/{index}"), found));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_field_of_every_object_is_required_and_no_other_allowed() {
        let line = sample_line();
        let mut places = Vec::new();
        objects(&line, "", &mut places);
        assert!(places.len() > 10, "{places:?}");
        for place in places {
            let fields: Vec<String> = line.pointer(&place).unwrap().as_object().unwrap().keys().cloned().collect();
            for field in fields {
                let mut less = line.clone();
                less.pointer_mut(&place).unwrap().as_object_mut().unwrap().remove(&field);
                assert!(!problems(&less).is_empty(), "{place}/{field} may be missing");
            }
            let mut more = line.clone();
            more.pointer_mut(&place).unwrap().as_object_mut().unwrap().insert("novelty".into(), json!(1));
            assert!(!problems(&more).is_empty(), "{place} may have a field that the contract does not know");
        }
    }

    #[test]
    fn instants_need_nine_digits_and_utc() {
        let mut line = sample_line();
        line["moment"]["at"] = json!("2025-11-25T14:02:11.123Z");
        assert!(!problems(&line).is_empty());
        line["moment"]["at"] = json!(sample::MOMENT.plus(Nanos(1)).to_string());
        assert!(problems(&line).is_empty());
    }

    #[test]
    fn the_configuration_that_is_printed_holds_the_defaults() {
        assert_eq!(Config::parse("config", &Asset::Config.content()).unwrap(), Config::default());
    }
}
