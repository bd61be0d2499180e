//! `explain`: from a recording and from a journal.

use std::io::Write;

use crate::{Ended, lines, recording, run};

fn explain(arguments: &[&str]) -> Ended {
    let path = recording();
    let mut all = vec!["explain", "--recording", path.to_str().unwrap()];
    all.extend(arguments);
    run(&all)
}

fn last_revision() -> String {
    let path = recording();
    let printed = run(&["replay", path.to_str().unwrap(), "--output", "json"]).stdout;
    printed.lines().last().unwrap().to_owned()
}

fn moment() -> String {
    let revision: serde_json::Value = serde_json::from_str(&last_revision()).unwrap();
    revision["moment"]["at"].as_str().unwrap().to_owned()
}

/// A directory as `run --journal` leaves it.
fn journal(text: &str) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create(place.path().join("incidents-20261125T133816.433009641Z.jsonl")).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    place
}

#[test]
fn finds_an_incident_by_second_and_error() {
    let moment = moment();
    let time_of_day = &moment[11..19];
    for at in [&moment[..], &moment[..19].replace('T', " "), time_of_day] {
        let ended = explain(&["--at", at, "--server", "gaia-core", "--output", "json"]);
        assert_eq!(ended.code, Some(0), "{at}: {}", ended.stderr);
        assert_eq!(ended.stdout, last_revision() + "\n", "{at}");
    }
    let ended = explain(&["--at", &moment]);
    assert_eq!(ended.code, Some(0));
    assert!(ended.stdout.starts_with("1. its moment is at that time; "), "{}", ended.stdout);
    assert!(ended.stdout.contains("SIGSEGV"), "{}", ended.stdout);
}

#[test]
fn ends_with_6_and_lists_incidents_when_none_fits() {
    let moment = moment();
    explain(&["--server", "gaia-mcp"]).failed_with(6, &["nothing matches --server gaia-mcp among 1 incident", &moment]);
    explain(&["--error", "ReadError"]).failed_with(6, &["--error ReadError"]);
    explain(&["--at", "2020-01-01T00:00:00Z"]).failed_with(6, &["--at 2020-01-01T00:00:00.000000000Z"]);
}

#[test]
fn reads_a_journal_up_to_its_torn_last_line() {
    let line = last_revision();
    let place = journal(&format!("{line}\n{}", &line[..line.len() / 2]));
    let ended = run(&["explain", "--journal", place.path().to_str().unwrap(), "--output", "json"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(lines(&ended.stdout).len(), 1);
}

#[test]
fn skips_a_damaged_line_of_a_journal() {
    let place = journal(&format!("nonsense\n{}\n", last_revision()));
    let ended = run(&["explain", "--journal", place.path().to_str().unwrap(), "--output", "json"]);
    assert_eq!(ended.code, Some(0));
    ended.says(&["line 1 skipped"]);
    assert_eq!(ended.stdout, last_revision() + "\n");
}

#[test]
fn ends_with_4_when_the_directory_has_no_journal() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().to_str().unwrap();
    run(&["explain", "--journal", path]).failed_with(4, &["there is no journal in", path]);
    run(&["explain", "--journal", "/does/not/exist"]).failed_with(4, &["cannot read the journal /does/not/exist"]);
}
