//! The schema against incidents, the configuration against its defaults.

#[cfg(feature = "live")]
mod queries;

use serde_json::{Value, json};

use super::{Asset, incident_schema};
use crate::config::Config;
use crate::model::time::Nanos;
use crate::output::test_fixtures;

fn problems(line: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(&incident_schema()).unwrap();
    validator.iter_errors(line).map(|error| error.to_string()).collect()
}

fn sample_line() -> Value {
    serde_json::to_value(test_fixtures::killed()).unwrap()
}

#[test]
fn a_full_incident_matches_the_schema() {
    assert_eq!(problems(&sample_line()), Vec::<String>::new());
}

#[test]
fn an_incident_of_nulls_and_empty_lists_matches_the_schema() {
    assert_eq!(problems(&serde_json::to_value(test_fixtures::unknown()).unwrap()), Vec::<String>::new());
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
fn the_schema_requires_every_field_and_allows_no_other() {
    let line = sample_line();
    let mut pointers = Vec::new();
    objects(&line, "", &mut pointers);
    assert!(pointers.len() > 10, "{pointers:?}");
    for pointer in pointers {
        let fields: Vec<String> = line.pointer(&pointer).unwrap().as_object().unwrap().keys().cloned().collect();
        for field in fields {
            let mut less = line.clone();
            less.pointer_mut(&pointer).unwrap().as_object_mut().unwrap().remove(&field);
            assert!(!problems(&less).is_empty(), "{pointer}/{field} may be missing");
        }
        let mut more = line.clone();
        more.pointer_mut(&pointer).unwrap().as_object_mut().unwrap().insert("novelty".into(), json!(1));
        assert!(!problems(&more).is_empty(), "{pointer} may have a field that the contract does not know");
    }
}

#[test]
fn the_schema_requires_instants_with_nine_digits_in_utc() {
    let mut line = sample_line();
    line["moment"]["at"] = json!("2025-11-25T14:02:11.123Z");
    assert!(!problems(&line).is_empty());
    line["moment"]["at"] = json!(test_fixtures::MOMENT.plus(Nanos(1)).to_string());
    assert!(problems(&line).is_empty());
}

#[test]
fn the_printed_configuration_has_the_defaults() {
    assert_eq!(Config::parse("config", &Asset::Config.content()).unwrap(), Config::default());
}
