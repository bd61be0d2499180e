//! Field-by-field comparison of two incident lines: facts with their path, sentences apart.

use std::collections::BTreeSet;

use serde_json::Value;

/// Fields that hold a sentence for people.
const SENTENCES: [&str; 3] = ["cause.summary", "timeline.text", "alternatives.against"];

/// The differences between two lines.
#[derive(Debug, Default)]
pub struct Diffs {
    pub facts: Vec<String>,
    pub sentences: BTreeSet<(String, String)>,
}

impl Diffs {
    pub fn find(&mut self, old: &Value, new: &Value) {
        self.walk("", "", old, new);
    }

    /// `path` names the field by its keys only, `shown` also which element of an array it is in.
    fn walk(&mut self, path: &str, shown: &str, old: &Value, new: &Value) {
        if old == new {
            return;
        }
        match (old, new) {
            (Value::Object(before), Value::Object(after)) => {
                for key in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
                    let (path, shown) = (below(path, key), below(shown, key));
                    match (before.get(key), after.get(key)) {
                        (Some(old), Some(new)) => self.walk(&path, &shown, old, new),
                        (old, new) => self.fact(&shown, old, new),
                    }
                }
            }
            (Value::Array(old), Value::Array(new)) => self.elements(path, shown, old, new),
            (Value::String(old), Value::String(new)) if SENTENCES.contains(&path) => {
                self.sentences.insert((old.clone(), new.clone()));
            }
            (old, new) => self.fact(shown, Some(old), Some(new)),
        }
    }

    fn fact(&mut self, shown: &str, old: Option<&Value>, new: Option<&Value>) {
        let text = |value: Option<&Value>| match value {
            None => "(missing)".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        self.facts.push(format!("{shown}: {} -> {}", text(old), text(new)));
    }

    /// Equal elements are paired first, then elements with the same key, then the others in order. What remains was
    /// added or removed.
    fn elements(&mut self, path: &str, shown: &str, old: &[Value], new: &[Value]) {
        let mut old: Vec<&Value> = old.iter().collect();
        let mut new: Vec<&Value> = new.iter().collect();
        let _same = take_pairs(&mut old, &mut new, |one, other| one == other);
        let mut pairs = take_pairs(&mut old, &mut new, |one, other| key_of(path, one) == key_of(path, other));
        // A timeline entry that moved has nothing to do with its neighbour: it is one entry less and one more.
        if path != "timeline" {
            pairs.extend(take_pairs(&mut old, &mut new, |_, _| true));
        }
        for (old, new) in pairs {
            self.walk(path, &format!("{shown}[{}]", name_of(path, new)), old, new);
        }
        self.facts.extend(old.iter().map(|value| format!("{shown}: - {value}")));
        self.facts.extend(new.iter().map(|value| format!("{shown}: + {value}")));
    }
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Removes and returns the pairs that are alike, each element at most once.
fn take_pairs<'a>(
    old: &mut Vec<&'a Value>,
    new: &mut Vec<&'a Value>,
    alike: impl Fn(&Value, &Value) -> bool,
) -> Vec<(&'a Value, &'a Value)> {
    let mut pairs = Vec::new();
    old.retain(|old| match new.iter().position(|new| alike(old, new)) {
        Some(place) => {
            pairs.push((*old, new.remove(place)));
            false
        }
        None => true,
    });
    pairs
}

/// What identifies an element of an array.
fn key_of<'a>(path: &str, element: &'a Value) -> Vec<&'a Value> {
    match path {
        "affected" => vec![&element["at"], &element["client"], &element["server"]["container"]],
        "timeline" => vec![&element["at"], &element["source"]],
        "alternatives" => vec![&element["kind"]],
        _ => vec![element],
    }
}

/// Which element it is, for people.
fn name_of(path: &str, element: &Value) -> String {
    let party = |party: &Value| {
        let name = ["service", "container", "ip"].iter().find_map(|key| party[*key].as_str());
        name.unwrap_or("?").to_owned()
    };
    match path {
        "affected" => format!("{} > {}", party(&element["client"]), party(&element["server"])),
        "timeline" => {
            format!("{} {}", element["source"].as_str().unwrap_or("?"), element["at"].as_str().unwrap_or("?"))
        }
        "alternatives" => element["kind"].as_str().unwrap_or("?").to_owned(),
        _ => String::new(),
    }
}
