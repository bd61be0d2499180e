//! The story of a request, in `explain` and at the end of a replay, from a recording made from a scenario's text.

use std::io::Write;

use gaia_monitor::model::time::Stamp;
use gaia_monitor::recording::format::Header;
use gaia_monitor_tests::scenario;

use crate::{Ended, lines, run};

/// GAIA's case: the primary is stopped, the helper tries three times, then the candidate, which dies during an upload.
const FAILED_FAILOVER: &str = "\
container web name=gaia-web endpoint=CORE:gaia-core fallback=CORE:gaia-core-candidate
container core name=gaia-core listens=6415
container cand name=gaia-core-candidate listens=6415
signal core SIGTERM by runc
docker core kill SIGTERM
+10ms unlisten core 6415
+1ms refused web core c1
+2s refused web core c2
+4s refused web core c3
+5ms connect web cand c4
request c4 partial
wait 5s
signal cand SIGKILL by host.bash
exit cand SIGKILL
+4ms close c4 server dying rst unread=90000
log web \"HA fallback POST http://gaia-core-candidate:6415/x also failed (ReadError). Raising original error.\"
wait 20ms
docker cand die 137
+3s log web \"idle\"
silent
";

const TEXT: &str = "gaia-web asked gaia-core 3 times (ConnectError, ConnectError, ConnectError), then \
                    gaia-core-candidate: ReadError. Its caller saw ConnectError of gaia-core; gaia-core-candidate's \
                    ReadError was swallowed.";

fn recording() -> tempfile::NamedTempFile {
    let scenario = scenario::read(FAILED_FAILOVER).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let header = Header::new("6.18.0".into(), Stamp(1), Stamp(0), scenario.settings);
    writeln!(file, "{}", serde_json::to_string(&header).unwrap()).unwrap();
    for event in &scenario.events {
        writeln!(file, "{}", serde_json::to_string(event).unwrap()).unwrap();
    }
    file
}

fn explain(arguments: &[&str]) -> Ended {
    let file = recording();
    let path = file.path().to_str().unwrap();
    run(&[&["explain", "--recording", path], arguments].concat())
}

#[test]
fn explain_prints_the_callers_error_and_the_swallowed_one() {
    // The caller's error and the error in the helper's line lead to the same story.
    for error in ["ConnectError", "ReadError"] {
        let ended = explain(&["--client", "gaia-web", "--error", error]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.contains(TEXT), "{}", ended.stdout);
    }
    let ended = explain(&["--server", "gaia-core-candidate", "--client", "gaia-web"]);
    assert!(ended.stdout.contains("gaia-web logged ReadError: HA fallback POST"), "{}", ended.stdout);
}

#[test]
fn explain_prints_stories_after_incidents_with_their_own_schema() {
    let ended = explain(&["--error", "ReadError", "--output", "json"]);
    let all = lines(&ended.stdout);
    let [incident, story] = &all[..] else { panic!("{}", ended.stdout) };
    assert_eq!(incident["schema"], "gaia-monitor.incident/1");
    assert_eq!(story["schema"], "gaia-monitor.story/1");
    assert_eq!((&story["outcome"], &story["fallback"]["state"]), (&"failed".into(), &"asked".into()));
    assert_eq!((&story["caller_saw"]["httpx"], &story["caller_saw"]["attempt"]), (&"ConnectError".into(), &2.into()));
    assert_eq!(story["caller_saw"]["swallowed"], serde_json::json!([0, 1, 3]));
    assert_eq!(story["attempts"].as_array().map(Vec::len), Some(4));
    assert_eq!(story["attempts"][3]["incident"], incident["id"]);
    assert_eq!(incident["failover_of"], story["attempts"][0]["incident"]);
    let validator = jsonschema::validator_for(&gaia_monitor::assets::story_schema()).unwrap();
    assert_eq!(validator.iter_errors(story).map(|error| error.to_string()).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn a_replay_prints_story_lines_on_request_only() {
    let file = recording();
    let path = file.path().to_str().unwrap();
    let schemas = |arguments: &[&str]| -> Vec<String> {
        let ended = run(&[&["replay", path, "--output", "json"], arguments].concat());
        lines(&ended.stdout).iter().map(|line| line["schema"].as_str().unwrap().to_owned()).collect()
    };
    assert!(schemas(&[]).iter().all(|schema| schema == "gaia-monitor.incident/1"));
    let stories = schemas(&["--stories"]).iter().filter(|schema| *schema == "gaia-monitor.story/1").count();
    assert_eq!(stories, 1);
    // Pretty output has the sentence as soon as the request is over.
    let ended = run(&["replay", path]);
    assert!(ended.stdout.contains(&format!("◆ {TEXT}")), "{}", ended.stdout);
}

#[test]
fn the_summary_of_a_replay_contains_the_story() {
    let file = recording();
    let ended = run(&["replay", file.path().to_str().unwrap()]);
    assert_eq!(ended.code, Some(0));
    ended.says(&["what the callers saw:\n     1 × ", TEXT]);
}
