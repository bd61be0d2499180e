//! Pages that must agree with the code: the decision table, the headers of the causes, the facts of a recording.
//! `UPDATE_EXPECT=1` rewrites what is generated.
#![expect(clippy::unwrap_used, reason = "a helper fails its test by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use gaia_monitor::engine::causes::{PRECEDENCE, Row};
use gaia_monitor_tests::host;

const BEGIN: &str = "<!-- generated: do not edit between the markers -->";
const END: &str = "<!-- end of the generated part -->";
/// Files of `engine/causes/` in the order of the page.
const CAUSES: [&str; 12] = [
    "termination",
    "worker",
    "pause",
    "outage",
    "dns",
    "packet_filter",
    "accept_queue",
    "closed_port",
    "application",
    "client",
    "chain",
    "unknown",
];

fn product(path: &str) -> PathBuf {
    host::workspace().join("gaia-monitor").join(path)
}

/// Compares the generated part of a page, or rewrites it.
fn check(page: &str, generated: &str) {
    let path = product(page);
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap_or_else(|| panic!("{page} has no line `{BEGIN}`"));
    let (current, after) = rest.split_once(END).unwrap_or_else(|| panic!("{page} has no line `{END}`"));
    let wanted = format!("\n\n{}\n\n", generated.trim());
    if current != wanted && std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(current, wanted, "{page} is not current: UPDATE_EXPECT=1 rewrites it");
}

#[test]
fn decisions_page_equals_the_table() {
    let mut table = "| symptom | order of causes |\n|---|---|\n".to_owned();
    for (row, steps) in PRECEDENCE {
        let names: Vec<&str> = steps.iter().map(|step| step.name).collect();
        table.push_str(&format!("| {} | {} |\n", row.name(), names.join(" → ")));
    }
    check("docs/decisions.md", &table);
}

#[test]
fn decision_table_has_every_row_once_in_order() {
    let rows: Vec<Row> = PRECEDENCE.iter().map(|(row, _)| *row).collect();
    assert_eq!(rows, Row::ALL);
    for (row, steps) in PRECEDENCE {
        assert!(!steps.is_empty(), "{}", row.name());
        let names: BTreeSet<&str> = steps.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), steps.len(), "{} tries a step twice", row.name());
    }
}

/// The module header of a cause as a section: its kinds, then one item for each labelled sentence.
fn section(name: &str) -> String {
    let path = product(&format!("src/engine/causes/{name}.rs"));
    let source = fs::read_to_string(&path).unwrap();
    let header = source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim_start);
    let mut section = format!("### `{name}`\n");
    let mut paragraph = String::new();
    let mut flush = |paragraph: &mut String| {
        if !paragraph.is_empty() {
            section.push_str(&format!("\n{}\n", plain(paragraph)));
            paragraph.clear();
        }
    };
    for line in header {
        let labelled = ["Opens", "Attributes", "Joins", "Closes", "Stays silent", "Moment", "Distinguished"];
        if line.is_empty() || labelled.iter().any(|label| line.starts_with(label)) {
            flush(&mut paragraph);
        }
        if !paragraph.is_empty() {
            paragraph.push(' ');
        }
        paragraph.push_str(line);
    }
    flush(&mut paragraph);
    section
}

/// Links within the code are no links on the page.
fn plain(text: &str) -> String {
    text.trim().replace("[`crate::engine::", "`").replace("[`super::", "`").replace("[`", "`").replace("`]", "`")
}

#[test]
fn causes_page_contains_the_header_of_every_cause() {
    let sections: Vec<String> = CAUSES.iter().map(|name| section(name)).collect();
    check("docs/causes.md", &sections.join("\n"));
    let files = fs::read_dir(product("src/engine/causes")).unwrap();
    let stems = files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
    let shared = ["mod", "situation", "exit", "awaited"];
    let found: BTreeSet<String> = stems.filter(|stem| !shared.contains(&stem.as_str())).collect();
    assert_eq!(found, CAUSES.iter().map(|name| (*name).to_owned()).collect());
}

#[test]
fn events_page_lists_every_fact() {
    let source = fs::read_to_string(product("src/model/event/mod.rs")).unwrap();
    let (_, facts) = source.split_once("pub enum Fact {").unwrap();
    let (facts, _) = facts.split_once("\n}").unwrap();
    let is_variant = |line: &&str| line.starts_with("    ") && line[4..].starts_with(|c: char| c.is_ascii_uppercase());
    let variants = facts.lines().filter(is_variant).map(|line| {
        let name: String = line.trim().chars().take_while(char::is_ascii_alphanumeric).collect();
        snake_case(&name)
    });
    let variants: BTreeSet<String> = variants.collect();
    let page = fs::read_to_string(product("docs/events.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(key, _)| key.to_owned()));
    let listed: BTreeSet<String> = rows.filter(|key| !HEADER_KEYS.contains(&key.as_str())).collect();
    assert_eq!(listed, variants);
}

/// Keys of the first line and of every event, which the page lists as well.
const HEADER_KEYS: [&str; 10] =
    ["format", "version", "kernel", "started_at", "booted_at", "settings", "seq", "seen", "at", "fact"];

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}
