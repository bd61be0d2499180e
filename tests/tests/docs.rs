//! Pages that repeat the source: the decision table, the causes, the facts. `UPDATE_EXPECT=1` rewrites what is generated.

use std::fs;
use std::path::PathBuf;

use gaia_monitor::engine::causes::{PRECEDENCE, Row, Step};
use gaia_monitor::model::incident::HttpxClass;
use gaia_monitor::wire::log_line;
use gaia_monitor_tests::host;

const DECISIONS: &str = "gaia-monitor/docs/decisions.md";
const CAUSES: &str = "gaia-monitor/docs/causes.md";
const EVENTS: &str = "gaia-monitor/docs/events.md";
const FOLDER: &str = "gaia-monitor/src/engine/causes";

/// How the sentences of a header begin.
const LABELS: [&str; 7] =
    ["Opens when", "Joins when", "Attributes when", "Closes when", "Stays silent when", "Moment", "Distinguished from"];
const WIDTH: usize = 120;

fn path(name: &str) -> PathBuf {
    host::workspace().join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Compares the part of a page between two markers, or rewrites it.
fn check(page: &str, begin: &str, end: &str, generated: &str) {
    let text = read(page);
    let (before, rest) = text.split_once(begin).unwrap_or_else(|| panic!("{page} does not contain {begin:?}"));
    let (current, after) = rest.split_once(end).unwrap_or_else(|| panic!("{page} does not contain {end:?}"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path(page), format!("{before}{begin}{generated}{end}{after}")).expect(page);
    } else {
        assert_eq!(current, generated, "{page} is not current; UPDATE_EXPECT=1 rewrites it");
    }
}

/// Variants of an enum, read from its source.
fn variants(file: &str, name: &str) -> Vec<String> {
    let text = read(file);
    let begin = format!("pub enum {name} {{\n");
    let (_, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{file} does not contain {begin:?}"));
    let body = rest.split("\n}").next().unwrap_or_default();
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let of_variants = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    of_variants.map(|line| line.chars().take_while(char::is_ascii_alphanumeric).collect()).collect()
}

fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// The first column of the table under a heading line, without code marks.
fn first_column(page: &str, heading: &str) -> Vec<String> {
    let rows = page.split_once(heading).unwrap_or_else(|| panic!("no table {heading:?}")).1.lines().skip(2);
    let rows = rows.map_while(|line| line.strip_prefix("| "));
    rows.filter_map(|line| line.split(" | ").next()).map(|cell| cell.replace('`', "")).collect()
}

#[test]
fn decisions_prints_the_decision_table() {
    let row = |(row, steps): &(Row, &[Step])| {
        let names: Vec<&str> = steps.iter().map(|step| step.name).collect();
        format!("| {} | {} |", row.name(), names.join(" → "))
    };
    let table: Vec<String> = PRECEDENCE.iter().map(row).collect();
    check(DECISIONS, "| symptom | order of causes |\n|---|---|\n", "\n\n", &table.join("\n"));
}

#[test]
fn the_decision_table_has_every_row_once_and_in_order() {
    let rows: Vec<String> = PRECEDENCE.iter().map(|(row, _)| format!("{row:?}")).collect();
    assert_eq!(rows, variants(&format!("{FOLDER}/situation.rs"), "Row"));
}

#[test]
fn decisions_lists_every_symptom() {
    let file = "gaia-monitor/src/engine/failures/table.rs";
    let source = read(file);
    let name = |variant: String| {
        let arm = source.split(&format!("Symptom::{variant} => \"")).nth(1);
        arm.and_then(|rest| rest.split('"').next()).unwrap_or_else(|| panic!("{variant} has no name")).to_owned()
    };
    let names: Vec<String> = variants(file, "Symptom").into_iter().map(name).collect();
    assert_eq!(first_column(&read(DECISIONS), "| symptom | the client's socket received | row |"), names);
}

#[test]
fn events_lists_every_fact() {
    let keys: Vec<String> =
        variants("gaia-monitor/src/model/event/mod.rs", "Fact").iter().map(|name| snake_case(name)).collect();
    let mut listed = first_column(&read(EVENTS), "| fact | meaning | source | fields |");
    let mut expected = keys;
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
}

#[test]
fn causes_prints_the_headers_of_the_causes() {
    let mut generated = "\n".to_owned();
    for file in files() {
        generated.push_str(&section(&file));
    }
    check(CAUSES, "<!-- generated from engine/causes -->\n", "<!-- end -->", &generated);
}

/// Files of causes: those with an entry in `CAUSES`, in its order; then those that only attribute.
fn files() -> Vec<String> {
    let source = read(&format!("{FOLDER}/mod.rs"));
    let (_, rest) = source.split_once("const CAUSES:").expect("CAUSES");
    let entries = rest.lines().skip(1).map_while(|line| line.trim().strip_prefix('&'));
    let mut files: Vec<String> = entries.filter_map(|entry| Some(entry.split_once("::")?.0.to_owned())).collect();
    let modules = source.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let further: Vec<String> = modules.map(str::to_owned).filter(|name| !files.contains(name)).collect();
    files.extend(
        further.into_iter().filter(|name| read(&format!("{FOLDER}/{name}.rs")).contains("//! Attributes when: ")),
    );
    files
}

/// The section of one cause: its kinds as the title, the header's text, and a bullet for each labelled sentence.
fn section(file: &str) -> String {
    let source = read(&format!("{FOLDER}/{file}.rs"));
    let header: Vec<&str> = source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let text = without_links(&header.join("\n"));
    let mut paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
    let first = paragraphs.next().unwrap_or_default();
    let (title, rest) = first.split_once(": ").unwrap_or_else(|| panic!("{file}: the header has no title"));
    let mut section = format!("### {title}\n\n{}\n", wrapped(&capitalised(rest), ""));
    for paragraph in paragraphs {
        section.push('\n');
        for (label, text) in labelled(&paragraph) {
            let item = label.map(|label| wrapped(&format!("- *{label}*: {text}"), "  "));
            section.push_str(&item.unwrap_or_else(|| wrapped(text, "")));
            section.push('\n');
        }
    }
    section.push('\n');
    section
}

/// Splits a paragraph in front of each label.
fn labelled(paragraph: &str) -> Vec<(Option<&'static str>, &str)> {
    let found = LABELS.into_iter().filter_map(|label| {
        let at = paragraph.find(&format!("{label}: "))?;
        Some((at, at + label.len() + 2, label))
    });
    let mut found: Vec<(usize, usize, &'static str)> = found.collect();
    found.sort_unstable();
    let mut parts = Vec::new();
    let first = found.first().map_or(paragraph.len(), |(at, ..)| *at);
    if first > 0 {
        parts.push((None, paragraph[..first].trim()));
    }
    for (index, (_, begin, label)) in found.iter().enumerate() {
        let end = found.get(index + 1).map_or(paragraph.len(), |(at, ..)| *at);
        parts.push((Some(*label), paragraph[*begin..end].trim()));
    }
    parts
}

/// Links to items become code, relative to the engine.
fn without_links(text: &str) -> String {
    let text = text.replace("[`super::", "[`").replace("[`crate::engine::", "[`");
    text.replace("[`", "`").replace("`]", "`")
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.trim().is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, format!("{indent}{word}")));
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.push(line);
    lines.join("\n")
}

/// The table of names in stories.md is what `explain --error` accepts: each name leads to the class of httpx in its column.
#[test]
fn names_of_other_clients_lead_to_the_class_of_their_column() {
    let page = read("gaia-monitor/docs/stories.md");
    let (_, table) = page.split_once("| client | FIN before a byte").expect("the table of names");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("| "))
        .map(|row| row.trim_end_matches(" |").split(" | ").skip(1).collect())
        .collect();
    let httpx = rows.first().expect("the row of httpx").clone();
    assert!(rows.len() >= 8, "{rows:?}");
    for row in &rows {
        for (name, class) in row.iter().zip(&httpx) {
            let class: HttpxClass = serde_json::from_value((*class).into()).expect(class);
            let classes = log_line::classes_of(name).unwrap_or_else(|| panic!("explain --error rejects {name}"));
            assert!(classes.contains(&class), "{name} is not {class:?}");
            assert!(
                log_line::classes_of(&format!("some.module.{name}")).is_some() || name.parse::<u16>().is_ok(),
                "{name}"
            );
        }
    }
}
