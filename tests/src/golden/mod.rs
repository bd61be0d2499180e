//! Semantic comparison of two versions of an expectation (`NAME.expected.jsonl`).
//!
//! A reviewer of a changed expectation needs to know first whether a fact changed. Facts (kind, subject, moment,
//! confidence, classes, condition, state, number of lines …) are reported separately from sentences, and the last
//! revision of each incident before its earlier ones. The comparison works on JSON values, not on the types of the
//! product: a field that the types ignore must not hide a change.

mod fields;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result};
use serde_json::Value;

use fields::Diffs;

/// Facts printed for one expectation; a change of everything is read in the files.
const SHOWN_FACTS: usize = 40;

/// What changed in one expectation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// One difference in facts a line.
    pub facts: Vec<String>,
    /// Distinct sentences, old and new.
    pub sentences: Vec<(String, String)>,
}

/// Compares two versions; `None` if they are the same bytes.
///
/// # Errors
/// When a line is not JSON.
pub fn compare(old: &str, new: &str) -> Result<Option<Changes>> {
    if old == new {
        return Ok(None);
    }
    let (old, new) = (lines(old).context("the expectation")?, lines(new).context("the output")?);
    let mut changes = Changes::default();
    if old.len() != new.len() {
        changes.facts.push(format!("number of lines: {} -> {}", old.len(), new.len()));
    }
    let mut sentences = BTreeSet::new();
    for (old, new) in pairs(incidents(&old), incidents(&new)) {
        changes.facts.extend(compare_incident(old.as_ref(), new.as_ref(), &mut sentences));
    }
    if changes.facts.is_empty() && sequence(&old) != sequence(&new) {
        changes.facts.push("order of lines".to_owned());
    }
    changes.sentences = sentences.into_iter().collect();
    Ok(Some(changes))
}

fn lines(text: &str) -> Result<Vec<Value>> {
    let parse = |(index, line)| serde_json::from_str(line).with_context(|| format!("line {}", index + 1));
    text.lines().enumerate().map(parse).collect()
}

/// The revisions of one incident, in order.
#[derive(Debug)]
struct Incident<'a> {
    id: &'a str,
    revisions: Vec<&'a Value>,
}

impl Incident<'_> {
    fn last(&self) -> &Value {
        self.revisions.last().copied().unwrap_or(&Value::Null)
    }

    /// All but the last revision, by their numbers.
    fn earlier(&self) -> BTreeMap<i64, &Value> {
        let earlier = self.revisions.split_last().map_or(&[][..], |(_, earlier)| earlier);
        earlier.iter().map(|line| (line["revision"].as_i64().unwrap_or_default(), *line)).collect()
    }

    /// Kind and subject of the last revision, for people.
    fn label(&self) -> String {
        let last = self.last();
        let kind = last["cause"]["kind"].as_str().unwrap_or("(no kind)");
        let subject = &last["subject"];
        let name = subject["service"].as_str().or(subject["container"].as_str()).unwrap_or("(no container)");
        format!("{kind} {name}")
    }

    /// Two incidents whose ids differ are taken for the same one if this is equal.
    fn likeness(&self) -> (&Value, &Value) {
        let last = self.last();
        (&last["cause"]["kind"], &last["subject"]["container_id"])
    }
}

/// The incidents of a file, in the order of their first lines.
fn incidents(lines: &[Value]) -> Vec<Incident<'_>> {
    let mut incidents: Vec<Incident<'_>> = Vec::new();
    for line in lines {
        let id = line["id"].as_str().unwrap_or_default();
        match incidents.iter_mut().find(|incident| incident.id == id) {
            Some(incident) => incident.revisions.push(line),
            None => incidents.push(Incident { id, revisions: vec![line] }),
        }
    }
    incidents
}

/// Which incident and which revision each line holds.
fn sequence(lines: &[Value]) -> Vec<(&Value, &Value)> {
    lines.iter().map(|line| (&line["id"], &line["revision"])).collect()
}

type Pair<'a> = (Option<Incident<'a>>, Option<Incident<'a>>);

/// Old and new incidents with the same id; then, as an id depends on facts, those with the same kind and subject.
fn pairs<'a>(old: Vec<Incident<'a>>, mut new: Vec<Incident<'a>>) -> Vec<Pair<'a>> {
    let mut pairs: Vec<Pair<'a>> = Vec::new();
    for old in old {
        let place = new.iter().position(|new| new.id == old.id);
        let found = place.map(|place| new.remove(place));
        pairs.push((Some(old), found));
    }
    for (old, found) in pairs.iter_mut().filter(|(_, found)| found.is_none()) {
        let place = old.as_ref().and_then(|old| new.iter().position(|new| new.likeness() == old.likeness()));
        *found = place.map(|place| new.remove(place));
    }
    pairs.extend(new.into_iter().map(|new| (None, Some(new))));
    pairs
}

fn compare_incident(
    old: Option<&Incident<'_>>,
    new: Option<&Incident<'_>>,
    sentences: &mut BTreeSet<(String, String)>,
) -> Vec<String> {
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (Some(old), None) => return vec![format!("- {}: no such incident now", old.label())],
        (None, Some(new)) => return vec![format!("+ {}: no such incident before", new.label())],
        (None, None) => return Vec::new(),
    };
    let label = new.label();
    let mut facts = Vec::new();
    let mut last = Diffs::default();
    last.find(old.last(), new.last());
    facts.extend(last.facts.iter().map(|fact| format!("{label}: {fact}")));
    sentences.append(&mut last.sentences);
    // What the last revision shows is not repeated for each earlier one.
    let known: BTreeSet<&String> = last.facts.iter().collect();
    let (old, new) = (old.earlier(), new.earlier());
    for number in old.keys() {
        // A revision that only one side has shows in the number of the last one.
        let (Some(old), Some(new)) = (old.get(number), new.get(number)) else { continue };
        let mut earlier = Diffs::default();
        earlier.find(old, new);
        let news = earlier.facts.iter().filter(|fact| !known.contains(fact));
        facts.extend(news.map(|fact| format!("{label}, revision {number}: {fact}")));
        sentences.append(&mut earlier.sentences);
    }
    facts
}

/// One line if only sentences changed; the alternate form (`{:#}`) also prints the sentences.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.sentences.len() == 1 { "" } else { "s" };
        let count = format!("{} sentence{plural}", self.sentences.len());
        match (self.facts.is_empty(), self.sentences.is_empty()) {
            (true, true) => return write!(f, "layout only (names or order of keys, line ends)"),
            (true, false) => write!(f, "prose only ({count})")?,
            (false, true) => write!(f, "facts")?,
            (false, false) => write!(f, "facts, and {count}")?,
        }
        for fact in self.facts.iter().take(SHOWN_FACTS) {
            write!(f, "\n    {fact}")?;
        }
        if self.facts.len() > SHOWN_FACTS {
            write!(f, "\n    and {} more", self.facts.len() - SHOWN_FACTS)?;
        }
        if f.alternate() {
            for (old, new) in &self.sentences {
                write!(f, "\n  - {old}\n  + {new}")?;
            }
        }
        Ok(())
    }
}
