//! Recordings of real runs, replayed by the built binary: `recordings/GROUP/NAME.jsonl.zst` must print
//! `recordings/GROUP/NAME.expected.jsonl`, byte for byte. `UPDATE_EXPECT=1` writes what is printed now, and reports what
//! changed: facts one by one, sentences by their number.
#![expect(clippy::unwrap_used, reason = "a helper fails its test by panicking")]

use std::io::Write as _;
use std::process::{Command, Output};

use gaia_monitor_tests::golden;
use gaia_monitor_tests::monitor::binary;
use gaia_monitor_tests::recordings;

fn replay(name: &str, arguments: &[&str]) -> Output {
    let file = recordings::recording(name);
    let output = Command::new(binary().unwrap()).arg("replay").arg(file).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn every_recording_prints_what_is_expected() {
    let (recordings, expected) = recordings::names().unwrap();
    assert!(!recordings.is_empty(), "no recordings in {}", recordings::folder().display());
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    if !update {
        assert_eq!(recordings, expected, "each recording needs its expectation, and each expectation its recording");
    }
    let mut differing = Vec::new();
    for name in recordings {
        let printed = String::from_utf8(replay(&name, &["--output", "json"]).stdout).unwrap();
        let path = recordings::expectation(&name);
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        match golden::compare(&before, &printed) {
            Ok(None) => {}
            // Not by `println!`, which a passing test does not show.
            Ok(Some(changes)) if update => writeln!(std::io::stderr(), "{name}: {changes}").unwrap(),
            Ok(Some(changes)) => differing.push(format!("{name}: {changes:#}")),
            Err(error) => differing.push(format!("{name}: {error:#}")),
        }
        if update && before != printed {
            std::fs::write(&path, printed).unwrap();
        }
    }
    assert!(differing.is_empty(), "UPDATE_EXPECT=1 accepts it. Differs:\n{}", differing.join("\n"));
}

#[test]
fn a_replay_prints_the_same_bytes_each_time_in_both_formats() {
    for name in recordings::names().unwrap().0 {
        for arguments in [&["--output", "json"][..], &["--output", "pretty", "--explain"]] {
            let (one, other) = (replay(&name, arguments), replay(&name, arguments));
            assert_eq!(one.stdout, other.stdout, "{name} {arguments:?}");
            assert_eq!(one.stderr, other.stderr, "{name} {arguments:?}");
        }
    }
}
