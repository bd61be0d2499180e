//! Input that is endless, torn or hostile; memory is limited where that is the point.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::process::Command;

use gaia_monitor::model::incident::Incident;
use gaia_monitor_tests::monitor::binary;
use gaia_monitor_tests::recordings;
use serde_json::Value;

use crate::{Ended, command, end, lines, recording, run};

const MIB: u64 = 1 << 20;
/// The limit of memory that a command may write to, its stacks included.
const MEMORY_KIB: u64 = 64 * 1024;

/// Runs with limited memory: beyond it, the command would abort.
fn run_in_little_memory<A: AsRef<OsStr>>(arguments: &[A]) -> Ended {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -d {MEMORY_KIB} && exec \"$@\"")).arg("sh").arg(binary().unwrap());
    command.args(arguments);
    end(command)
}

fn last_revision() -> String {
    let printed = run(&["replay", recording().to_str().unwrap(), "--output", "json"]).stdout;
    printed.lines().last().unwrap().to_owned()
}

#[test]
fn ends_with_4_on_input_without_a_line_end() {
    let parts = ["its first line is longer than 16 MiB", "is not a recording"];
    run_in_little_memory(&["replay", "/dev/zero"]).failed_with(4, &parts);
    run_in_little_memory(&["explain", "--recording", "/dev/zero"]).failed_with(4, &parts);
    run_in_little_memory(&["run", "--config", "/dev/zero"]).failed_with(2, &["it is longer than 1048576 bytes"]);
}

#[test]
fn ends_with_4_on_a_line_of_three_gigabytes() {
    let place = tempfile::tempdir().unwrap();
    // Sparse files: they take no room.
    let path = place.path().join("r.jsonl");
    File::create(&path).unwrap().set_len(3 << 30).unwrap();
    run_in_little_memory(&["replay", path.to_str().unwrap()]).failed_with(4, &["its first line is longer"]);
    let path = place.path().join("incidents-1.jsonl");
    File::create(path).unwrap().set_len(128 * MIB).unwrap();
    let ended = run_in_little_memory(&["explain", "--journal", place.path().to_str().unwrap()]);
    ended.failed_with(4, &["holds no incident that can be read", "line 1 skipped: it is longer than 4 MiB"]);
}

#[test]
fn searches_a_journal_that_is_larger_than_its_memory() {
    let place = tempfile::tempdir().unwrap();
    let line = last_revision();
    let incident: Incident = serde_json::from_str(&line).unwrap();
    let second = &incident.moment.at.to_string()[..19];
    let mut number = 0;
    for file in 0..6 {
        let path = place.path().join(format!("incidents-{file}.jsonl"));
        let mut file = BufWriter::new(File::create(path).unwrap());
        let mut written = 0;
        while written < 16 * MIB {
            let time =
                format!("{}T{:02}:{:02}:{:02}", &second[..10], number / 3_600 % 24, number / 60 % 60, number % 60);
            let line = line.replace(&incident.id.0, &format!("inc-{number:016x}")).replace(second, &time);
            file.write_all(line.as_bytes()).unwrap();
            file.write_all(b"\n").unwrap();
            written += line.len() as u64 + 1;
            number += 1;
        }
    }
    let directory = place.path().to_str().unwrap();
    let at = format!("{} 01:00:00", &second[..10]);
    let ended = run_in_little_memory(&["explain", "--journal", directory, "--at", &at, "--output", "json"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(lines(&ended.stdout)[0]["id"], format!("inc-{:016x}", 3_600));
    let ended = run_in_little_memory(&["explain", "--journal", directory]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout.contains(&format!("and {} more", number - 3)), "{}", ended.stdout);
    assert!(ended.stdout.contains("of them not listed"), "{}", ended.stdout);
}

#[test]
fn explain_reports_a_torn_recording() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("r.jsonl");
    let text = recordings::text(&recording()).unwrap();
    std::fs::write(&path, &text[..text.len() - 10]).unwrap();
    let ended = run(&["explain", "--recording", path.to_str().unwrap()]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.says(&["ends within its last line", "complete lines were searched"]);
}

#[test]
fn explain_prints_hostile_text_of_an_older_journal_escaped_and_cut() {
    let place = tempfile::tempdir().unwrap();
    let mut text = String::new();
    let hostile = ["\u{1b}[2J\u{7}", "\u{202e}bew\u{200b}\u{e0041}", &"x".repeat(60 << 10)];
    for (number, name) in hostile.iter().enumerate() {
        let mut incident: Value = serde_json::from_str(&last_revision()).unwrap();
        incident["id"] = format!("inc-{number}").into();
        for field in ["container", "service", "project", "image"] {
            incident["subject"][field] = (*name).into();
        }
        incident["cause"]["summary"] = format!("{name} died").into();
        incident["timeline"][0]["text"] = (*name).into();
        writeln!(text, "{incident}").unwrap();
    }
    std::fs::write(place.path().join("incidents-1.jsonl"), text).unwrap();
    for output in ["pretty", "json"] {
        let ended = run(&["explain", "--journal", place.path().to_str().unwrap(), "--output", output]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let is_hostile = |character: char| {
            character.is_control() && character != '\n' || "\u{202e}\u{200b}\u{e0041}".contains(character)
        };
        assert!(!ended.stdout.contains(is_hostile), "{output}: {}", ended.stdout);
        for part in ["u{1b}[2J", "u{202e}bew", "u{e0041}"] {
            assert!(ended.stdout.contains(part), "{output}: {part}");
        }
        assert!(ended.stdout.len() < 40_000, "{output}: {} bytes", ended.stdout.len());
        assert!(!ended.stdout.contains("\\u001b"), "{output}");
    }
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let mut command = command(&["run", "--print-config"]);
    for name in
        ["JOURNAL", "RECORD", "LISTEN", "OUTPUT", "DURATION", "READY_FILE", "PROJECTS", "LABEL", "FAIL_ON", "CONFIG"]
    {
        command.env(format!("GAIA_MONITOR_{name}"), "");
    }
    command.env("DOCKER_HOST", "");
    let ended = end(command);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(ended.stdout, run(&["run", "--print-config"]).stdout);
}

#[test]
fn messages_name_no_type_of_the_program() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("c.toml");
    for (text, part) in [("scope = 3", "expected an object"), ("logs.lines = \"a\"", "expected a number")] {
        std::fs::write(&path, text).unwrap();
        run(&["run", "--config", path.to_str().unwrap()]).failed_with(2, &[part]);
    }
    let path = place.path().join("r.jsonl");
    let text = recordings::text(&recording()).unwrap();
    let header = text.lines().next().unwrap();
    std::fs::write(&path, format!("{header}\n[]\n{{\"gap\":3}}\n")).unwrap();
    let ended = run(&["replay", path.to_str().unwrap()]);
    assert_eq!(ended.code, Some(4));
    assert!(!ended.stderr.contains("struct") && !ended.stderr.contains("u64"), "{}", ended.stderr);
}
