//! Recordings: whole, torn, damaged, foreign, and with holes.

use std::path::Path;

use gaia_monitor_tests::monitor::binary;
use gaia_monitor_tests::recordings;

use crate::{Ended, lines, recording, run, with_closed_pipe};

fn replay_text(text: &str) -> Ended {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("r.jsonl");
    std::fs::write(&path, text).unwrap();
    replay(&path, &["--output", "json"])
}

fn replay(path: &Path, arguments: &[&str]) -> Ended {
    let mut all = vec!["replay", path.to_str().unwrap()];
    all.extend(arguments);
    run(&all)
}

fn text() -> String {
    recordings::text(&recording()).unwrap()
}

#[test]
fn prints_one_incident_a_line_that_fits_the_schema() {
    let ended = replay(&recording(), &["--output", "json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let revisions = lines(&ended.stdout);
    assert!(revisions.len() >= 2, "{}", ended.stdout);
    let schema = serde_json::from_str(&run(&["assets", "incident-schema"]).stdout).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for (index, revision) in revisions.iter().enumerate() {
        let problems: Vec<_> = validator.iter_errors(revision).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{problems:?}: {revision}");
        assert_eq!(revision["id"], revisions[0]["id"]);
        assert!(index == 0 || revision["revision"].as_u64() > revisions[index - 1]["revision"].as_u64());
    }
    assert_eq!(revisions.last().unwrap()["state"], "closed");
}

#[test]
fn pretty_names_process_signal_and_nanosecond_without_colour_in_a_pipe() {
    let ended = replay(&recording(), &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let moment = lines(&replay(&recording(), &["--output", "json"]).stdout)[0]["moment"]["at"].clone();
    for part in ["gaia-core", "process_crashed", "SIGSEGV", moment.as_str().unwrap()] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    assert!(!ended.stdout.contains('\x1b'), "{:?}", ended.stdout);
    ended.says(&["Summary of ", "1 incident", "1 × process_crashed"]);
}

#[test]
fn replays_up_to_a_torn_last_line_and_reports_it() {
    let text = text();
    let whole: Vec<&str> = text.lines().collect();
    let (last, before) = whole.split_last().unwrap();
    let torn = format!("{}\n{}", before.join("\n"), &last[..last.len() / 2]);
    let ended = replay_text(&torn);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.says(&["ends within its last line"]);
    // The last event closes what is open, so all but the last line is printed.
    let full = replay_text(&text).stdout;
    assert!(full.starts_with(&ended.stdout) && !ended.stdout.is_empty() && full != ended.stdout);
}

#[test]
fn replays_the_whole_frames_of_a_torn_compressed_recording() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("r.jsonl.zst");
    let text = text();
    let lines: Vec<&str> = text.lines().collect();
    let frame = |lines: &[&str]| zstd::encode_all(format!("{}\n", lines.join("\n")).as_bytes(), 3).unwrap();
    let (whole, last) = lines.split_at(lines.len() - 2);
    let (mut bytes, last) = (frame(whole), frame(last));
    bytes.extend(&last[..last.len() / 2]);
    std::fs::write(&path, bytes).unwrap();
    let ended = replay(&path, &["--output", "json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.says(&["ends within its last line"]);
    let same = replay_text(&format!("{}\n", whole.join("\n")));
    assert!(!ended.stdout.is_empty());
    assert_eq!(ended.stdout, same.stdout);
}

#[test]
fn ends_with_4_and_names_a_damaged_line() {
    let mut damaged: Vec<String> = text().lines().map(str::to_owned).collect();
    damaged[4] = damaged[4].replace("\"seq\"", "\"sqe\"");
    let ended = replay_text(&(damaged.join("\n") + "\n"));
    ended.failed_with(4, &["line 5", "head -n 4"]);
}

#[test]
fn prints_everything_before_a_damaged_line() {
    let text = text() + "{}\n";
    let ended = replay_text(&text);
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    assert!(!lines(&ended.stdout).is_empty());
}

#[test]
fn rejects_a_missing_event_without_a_gap() {
    let all = text();
    let mut holed: Vec<&str> = all.lines().collect();
    holed.remove(3);
    replay_text(&(holed.join("\n") + "\n")).failed_with(4, &["line 4", "event 4 stands where event 3 belongs"]);

    holed.insert(3, "{\"gap\":{\"count\":1}}");
    let ended = replay_text(&(holed.join("\n") + "\n"));
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    ended.says(&["is missing 1 event that", "Summary of"]);
    assert!(!lines(&ended.stdout).is_empty(), "what is there is printed");
}

#[test]
fn ends_with_4_when_the_file_is_not_a_recording() {
    let later = text().replacen("gaia-monitor.recording/2", "gaia-monitor.recording/9", 1);
    replay_text(&later).failed_with(4, &["format 9", "reads format 2 only"]);
    replay_text("hello\n").failed_with(4, &["is not a recording of gaia-monitor"]);
    replay_text("").failed_with(4, &["is empty"]);
    replay(Path::new("/does/not/exist"), &[]).failed_with(4, &["cannot open", "No such file"]);
    let ended = replay(&binary().unwrap(), &[]);
    ended.failed_with(4, &["is not a recording of gaia-monitor"]);
}

#[test]
fn ends_a_replay_silently_when_the_reader_closes_early() {
    for output in ["json", "pretty"] {
        let ended = with_closed_pipe(&["replay", recording().to_str().unwrap(), "--output", output], false);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    }
}
