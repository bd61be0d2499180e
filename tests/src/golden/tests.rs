//! Each kind of change is reported where a reviewer looks for it.

use serde_json::{Value, json};

use super::{Changes, compare};

fn line() -> Value {
    json!({
        "id": "inc-1",
        "revision": 1,
        "state": "open",
        "cause": {"kind": "process_killed", "summary": "core was killed", "confidence": "certain", "caused_by": null},
        "moment": {"at": "T1", "fact": "process_exit"},
        "subject": {"container": "p-core", "container_id": "c1", "service": "core"},
        "condition": {"kind": "container_down", "since": "T1", "until": null},
        "affected": [
            {"at": "T2", "client": {"service": "web", "port": 1}, "server": {"container": "p-core", "service": "core"},
             "client_error": {"httpx": "ReadError", "also_possible": null, "phase": "response"}},
            {"at": "T3", "client": {"service": "web", "port": 2}, "server": {"container": "p-core", "service": "core"},
             "client_error": {"httpx": "ConnectError", "also_possible": null, "phase": "connect"}},
        ],
        "affected_by_class": {"ConnectError": 1, "ReadError": 1},
        "alternatives": [{"kind": "oom_killed", "against": "no OOM"}],
        "timeline": [
            {"at": "T1", "offset_ns": 0, "source": "process", "text": "core ended"},
            {"at": "T1", "offset_ns": 0, "source": "process", "text": "core's child ended"},
        ],
    })
}

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn changes(old: &[Value], new: &[Value]) -> Changes {
    compare(&text(old), &text(new)).unwrap().unwrap()
}

/// The changes after `edit` of the only line.
fn after(edit: impl FnOnce(&mut Value)) -> Changes {
    let mut new = line();
    edit(&mut new);
    changes(&[line()], &[new])
}

#[test]
fn reports_no_change_when_texts_are_equal() {
    assert_eq!(compare(&text(&[line()]), &text(&[line()])).unwrap(), None);
}

#[test]
fn counts_distinct_sentences_when_only_prose_changed() {
    let mut new = line();
    new["cause"]["summary"] = json!("core received SIGKILL");
    new["timeline"][0]["text"] = json!("core exited");
    new["alternatives"][0]["against"] = json!("no OOM kill");
    let found = changes(&[line(), line()], &[new.clone(), new]);
    assert_eq!(found.facts, [""; 0]);
    assert_eq!(found.to_string(), "prose only (3 sentences)");
    assert!(format!("{found:#}").contains("- core ended\n  + core exited"), "{found:#}");
}

#[test]
fn reports_each_changed_fact_by_its_path() {
    let found = after(|line| {
        line["cause"]["kind"] = json!("oom_killed");
        line["cause"]["confidence"] = json!("likely");
        line["moment"]["at"] = json!("T0");
        line["condition"] = Value::Null;
        line["affected_by_class"] = json!({"ConnectError": 2});
        line["affected"][0]["client_error"]["httpx"] = json!("ConnectError");
    });
    assert_eq!(
        found.facts,
        [
            "oom_killed core: affected[web > core].client_error.httpx: ReadError -> ConnectError",
            "oom_killed core: affected_by_class.ConnectError: 1 -> 2",
            "oom_killed core: affected_by_class.ReadError: 1 -> (missing)",
            "oom_killed core: cause.confidence: certain -> likely",
            "oom_killed core: cause.kind: process_killed -> oom_killed",
            r#"oom_killed core: condition: {"kind":"container_down","since":"T1","until":null} -> null"#,
            "oom_killed core: moment.at: T1 -> T0",
        ]
    );
}

#[test]
fn keeps_facts_and_sentences_apart() {
    let found = after(|line| {
        line["subject"]["service"] = json!("web");
        line["cause"]["summary"] = json!("web was killed");
    });
    assert_eq!(found.facts, ["process_killed web: subject.service: core -> web"]);
    assert_eq!(found.sentences, [("core was killed".to_owned(), "web was killed".to_owned())]);
    assert!(found.to_string().starts_with("facts, and 1 sentence\n"), "{found}");
}

#[test]
fn pairs_an_entry_whose_instant_changed_with_itself() {
    let found = after(|line| line["affected"][1]["at"] = json!("T4"));
    assert_eq!(found.facts, ["process_killed core: affected[web > core].at: T3 -> T4"]);
}

#[test]
fn reports_added_and_removed_timeline_entries_as_facts() {
    let found = after(|line| {
        line["timeline"][1]["at"] = json!("T9");
    });
    assert_eq!(found.facts.len(), 2);
    assert!(found.facts[0].contains("timeline: - ") && found.facts[0].contains("core's child ended"), "{found}");
    assert!(found.facts[1].contains("timeline: + ") && found.facts[1].contains("T9"), "{found}");
}

#[test]
fn repeats_no_change_of_the_last_revision_for_earlier_ones() {
    let mut second = line();
    second["revision"] = json!(2);
    let (mut one, mut two) = (line(), second.clone());
    one["cause"]["confidence"] = json!("likely");
    two["cause"]["confidence"] = json!("likely");
    one["state"] = json!("settled");
    let found = changes(&[line(), second], &[one, two]);
    assert_eq!(
        found.facts,
        [
            "process_killed core: cause.confidence: certain -> likely",
            "process_killed core, revision 1: state: open -> settled"
        ]
    );
}

#[test]
fn reports_missing_and_further_lines_and_incidents() {
    let mut second = line();
    second["revision"] = json!(2);
    let found = changes(&[line(), second], &[line()]);
    assert_eq!(found.facts, ["number of lines: 2 -> 1", "process_killed core: revision: 2 -> 1"]);
    let mut other = line();
    other["id"] = json!("inc-2");
    other["cause"]["kind"] = json!("worker_died");
    let found = changes(&[line()], &[other]);
    assert_eq!(
        found.facts,
        ["- process_killed core: no such incident now", "+ worker_died core: no such incident before"]
    );
}

#[test]
fn reports_another_order_of_lines() {
    let mut other = line();
    other["id"] = json!("inc-2");
    assert_eq!(changes(&[line(), other.clone()], &[other, line()]).facts, ["order of lines"]);
}

#[test]
fn reports_a_renamed_key() {
    let renamed = text(&[line()]).replace("\"caused_by\"", "\"because\"");
    let found = compare(&text(&[line()]), &renamed).unwrap().unwrap();
    assert_eq!(
        found.facts,
        [
            "process_killed core: cause.because: (missing) -> null",
            "process_killed core: cause.caused_by: null -> (missing)"
        ]
    );
}

#[test]
fn rejects_a_line_that_is_not_json() {
    assert!(compare("{}\n", "{\n").is_err());
}
