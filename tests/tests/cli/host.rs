//! Commands that need privileges, run without them.

use std::path::{Path, PathBuf};

use crate::{OVERFLOW_UID, as_ordinary_user, lines};

#[test]
fn ends_with_3_and_one_sentence_when_an_ordinary_user_runs() {
    let place = tempfile::tempdir().unwrap();
    let ended = as_ordinary_user(place.path(), &["run", "--duration", "5"]);
    ended.failed_with(3, &["missing CAP_BPF", "run it as root", "gaia-monitor doctor"]);
}

/// A file with an earlier recording, owned by the ordinary user.
fn earlier(place: &Path) -> PathBuf {
    let earlier = place.join("earlier.jsonl");
    std::fs::write(&earlier, "earlier\n").unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&earlier, Some(OVERFLOW_UID), Some(OVERFLOW_UID)).unwrap();
    }
    earlier
}

#[test]
fn leaves_an_earlier_recording_alone_when_a_run_cannot_start() {
    let place = tempfile::tempdir().unwrap();
    let earlier = earlier(place.path());
    let ended = as_ordinary_user(place.path(), &["run", "--force", "--record", earlier.to_str().unwrap()]);
    ended.failed_with(3, &["missing CAP_BPF"]);
    assert_eq!(std::fs::read_to_string(&earlier).unwrap(), "earlier\n");
}

#[test]
fn refuses_to_replace_a_recording_without_force() {
    let place = tempfile::tempdir().unwrap();
    let earlier = earlier(place.path());
    let ended = as_ordinary_user(place.path(), &["run", "--record", earlier.to_str().unwrap()]);
    ended.failed_with(2, &["exists already", "--force"]);
    assert_eq!(std::fs::read_to_string(&earlier).unwrap(), "earlier\n");
}

#[test]
fn refuses_a_recording_that_another_process_writes() {
    let place = tempfile::tempdir().unwrap();
    let earlier = earlier(place.path());
    let held = std::fs::File::open(&earlier).unwrap();
    held.lock().unwrap();
    let ended = as_ordinary_user(place.path(), &["run", "--force", "--record", earlier.to_str().unwrap()]);
    ended.failed_with(2, &["another monitor is writing"]);
    assert_eq!(std::fs::read_to_string(&earlier).unwrap(), "earlier\n");
}

#[test]
fn reports_unwritable_files_before_the_start() {
    let place = tempfile::tempdir().unwrap();
    for option in ["--record", "--journal"] {
        let ended = as_ordinary_user(place.path(), &["run", option, "/proc/nothing/here"]);
        ended.failed_with(2, &["/proc/nothing"]);
    }
}

#[test]
fn doctor_names_the_fix_when_an_ordinary_user_fails_its_preflight() {
    let place = tempfile::tempdir().unwrap();
    let ended = as_ordinary_user(place.path(), &["doctor", "--output", "json"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    ended.says(&["`run` cannot start on this host: ", "capabilities"]);
    let findings = lines(&ended.stdout);
    let of = |name: &str| findings.iter().find(|finding| finding["check"] == name).unwrap();
    assert_eq!(of("capabilities")["status"], "failed");
    assert!(of("capabilities")["fix"].as_str().unwrap().contains("run as root"));
    for check in ["kernel", "type information", "cgroup v2", "network namespace", "locked memory", "docker"] {
        assert!(of(check)["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{check}");
    }
}
