//! Usage errors, and the messages about them.

use std::path::Path;

use crate::{command, end, run, with_closed_pipe};

const VERBS: [&str; 6] = ["run", "replay", "explain", "doctor", "assets", "completions"];

#[test]
fn help_names_every_verb_and_every_exit_code() {
    let ended = run(&["--help"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for verb in VERBS {
        assert!(ended.stdout.contains(&format!("\n  {verb} ")), "{verb}: {}", ended.stdout);
    }
    for code in ["0 ok", "1 internal", "2 usage", "3 missing", "4 unreadable", "5 incident", "6 nothing"] {
        assert!(ended.stdout.contains(code), "{code}: {}", ended.stdout);
    }
}

#[test]
fn help_of_a_verb_has_examples() {
    for verb in ["run", "replay", "explain"] {
        let ended = run(&[verb, "--help"]);
        assert_eq!(ended.code, Some(0));
        assert!(ended.stdout.contains(&format!("Examples:\n  gaia-monitor {verb} ")), "{}", ended.stdout);
    }
}

#[test]
fn shows_the_help_and_fails_without_a_verb() {
    let ended = run::<&str>(&[]);
    assert_eq!(ended.code, Some(2));
    ended.says(&["Usage: gaia-monitor <COMMAND>"]);
}

#[test]
fn ends_with_2_and_names_the_remedy_on_wrong_usage() {
    let cases: [(&[&str], &str); 12] = [
        (&["fly"], "unrecognized subcommand"),
        (&["run", "--speed"], "unexpected argument"),
        (&["run", "--output", "xml"], "possible values: pretty, json"),
        (&["run", "--fail-on", "death"], "`oom_killed`"),
        (&["run", "--duration", "soon"], "is not a number of seconds"),
        (&["run", "--duration=-1"], "is not a duration"),
        (&["run", "--label", "=x"], "is not a label"),
        (&["run", "--journal-max-age", "soon"], "is not a duration"),
        (&["run", "--journal-max-file-size", "0"], "is not a size"),
        (&["run", "--include-cancelled=perhaps"], "true, false"),
        (&["explain", "--recording", "x", "--at", "soon"], "is not a time"),
        (&["explain", "--recording", "x", "--error", "Oops"], "docs/stories.md"),
    ];
    for (arguments, part) in cases {
        let ended = run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "");
        ended.says(&[part]);
    }
}

#[test]
fn explain_requires_a_source() {
    let ended = run(&["explain", "--at", "12:00:00"]);
    assert_eq!(ended.code, Some(2));
    ended.says(&["--journal <DIR>", "--recording <FILE>"]);
}

fn config(text: &str) -> (tempfile::TempDir, String) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("c.toml").to_str().unwrap().to_owned();
    std::fs::write(&path, text).unwrap();
    (place, path)
}

#[test]
fn ends_with_2_and_names_line_and_column_of_a_bad_configuration() {
    let (_place, path) = config("include_cancelled = true\n\n[scope]\n  project = [\"gaia\"]\n");
    let ended = run(&["run", "--config", &path]);
    ended.failed_with(2, &[&format!("{path}:4:3: unknown field `project`"), "gaia-monitor assets config"]);
    run(&["run", "--config", "/does/not/exist"]).failed_with(2, &["/does/not/exist", "No such file"]);
}

#[test]
fn prints_a_configuration_of_file_and_flags_that_reads_back() {
    let (place, path) =
        config("[scope]\nprojects = [\"a\"]\nlabels = [\"k=v\"]\n[policy.services]\nweb = [\"ReadError\"]\n");
    let ended = run(&["run", "--config", &path, "--project", "b", "--include-cancelled", "--print-config"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let again = place.path().join("d.toml");
    std::fs::write(&again, &ended.stdout).unwrap();
    let read = run(&["run".as_ref(), "--print-config".as_ref(), Path::new("--config"), &again]);
    assert_eq!(read.stdout, ended.stdout);
    for part in ["include_cancelled = true", "projects = [\"b\"]", "labels = [\"k=v\"]", "web = [\"ReadError\"]"] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
}

/// Every option of `run` that a file can set: flag, variable, and three different values; the last as TOML prints it.
const OPTIONS: [(&str, &str, [&str; 3], &str); 19] = [
    ("--docker-host", "DOCKER_HOST", ["unix:///a", "unix:///b", "unix:///c"], "docker_host = \"unix:///c\""),
    ("--output", "GAIA_MONITOR_OUTPUT", ["json", "pretty", "json"], "output = \"json\""),
    (
        "--listen",
        "GAIA_MONITOR_LISTEN",
        ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:9435"],
        "listen = \"127.0.0.1:9435\"",
    ),
    ("--record", "GAIA_MONITOR_RECORD", ["a", "b", "c"], "record = \"c\""),
    ("--force", "GAIA_MONITOR_FORCE", ["true", "false", "true"], "force = true"),
    ("--file-access", "GAIA_MONITOR_FILE_ACCESS", ["owner", "all", "group"], "file_access = \"group\""),
    ("--ready-file", "GAIA_MONITOR_READY_FILE", ["a", "b", "c"], "ready_file = \"c\""),
    ("--duration", "GAIA_MONITOR_DURATION", ["1", "2", "3"], "duration = 3.0"),
    ("--fail-on", "GAIA_MONITOR_FAIL_ON", ["any", "unknown", "oom_killed"], "fail_on = [\"oom_killed\"]"),
    ("--include-cancelled", "GAIA_MONITOR_INCLUDE_CANCELLED", ["true", "false", "true"], "include_cancelled = true"),
    ("--stories", "GAIA_MONITOR_STORIES", ["true", "false", "true"], "stories = true"),
    ("--journal", "GAIA_MONITOR_JOURNAL", ["a", "b", "c"], "directory = \"c\""),
    ("--journal-max-file-size", "GAIA_MONITOR_JOURNAL_MAX_FILE_SIZE", ["1", "2", "3 KiB"], "max_file_size = \"3 KiB\""),
    (
        "--journal-max-file-age",
        "GAIA_MONITOR_JOURNAL_MAX_FILE_AGE",
        ["1h", "2h", "3 days"],
        "max_file_age = \"3 days\"",
    ),
    ("--journal-max-total-size", "GAIA_MONITOR_JOURNAL_MAX_TOTAL_SIZE", ["1", "2", "3 B"], "max_total_size = \"3 B\""),
    ("--journal-max-age", "GAIA_MONITOR_JOURNAL_MAX_AGE", ["1h", "2h", "3 days"], "max_age = \"3 days\""),
    ("--project", "GAIA_MONITOR_PROJECTS", ["a", "b", "c"], "projects = [\"c\"]"),
    ("--container", "GAIA_MONITOR_CONTAINERS", ["a", "b", "c"], "containers = [\"c\"]"),
    ("--label", "GAIA_MONITOR_LABEL", ["a=1", "b=2", "c=3"], "labels = [\"c=3\"]"),
];

#[test]
fn flags_override_variables_and_both_override_the_file() {
    for (flag, variable, [file, other, wanted], line) in OPTIONS {
        let printed = |flagged: &str, set: &str| {
            let mut first = command(&["run", "--print-config", &format!("{flag}={flagged}")]);
            first.env(variable, set);
            end(first)
        };
        let ended = printed(wanted, other);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{flag}");
        assert!(ended.stdout.lines().any(|printed| printed == line), "{flag} over {variable}: {}", ended.stdout);
        // The printed text is a file; the variable overrides it.
        let (_place, path) = config(&printed(file, other).stdout);
        let mut over_file = command(&["run", "--print-config", "--config", &path]);
        over_file.env(variable, wanted);
        let ended = end(over_file);
        assert!(ended.stdout.lines().any(|printed| printed == line), "{variable} over the file: {}", ended.stdout);
        // And the file applies without any other setting.
        let (_place, path) = config(&ended.stdout);
        assert_eq!(run(&["run", "--print-config", "--config", &path]).stdout, ended.stdout, "{flag}");
    }
}

#[test]
fn help_of_run_names_the_variable_of_every_flag() {
    let help = run(&["run", "--help"]).stdout;
    let flags: Vec<&str> = help.split_whitespace().filter(|word| word.starts_with("--")).collect();
    // These are about the configuration itself, or end the command.
    let others = ["--config", "--print-config", "--help", "--version"];
    for flag in flags.iter().map(|flag| flag.split(['=', '[']).next().unwrap()) {
        let known = OPTIONS.iter().any(|(known, ..)| *known == flag) || others.contains(&flag);
        assert!(known, "{flag} is in no test of the order");
    }
    for (flag, variable, ..) in OPTIONS {
        assert!(help.contains(flag) && help.contains(&format!("[env: {variable}=")), "{flag}: {help}");
    }
}

#[test]
fn assets_print_only_the_named_file() {
    let schema = run(&["assets", "incident-schema"]);
    assert_eq!(schema.code, Some(0));
    let schema: serde_json::Value = serde_json::from_str(&schema.stdout).unwrap();
    assert_eq!(schema["properties"]["schema"]["const"], "gaia-monitor.incident/1");
    let (_place, path) = config(&run(&["assets", "config"]).stdout);
    assert_eq!(run(&["run", "--config", &path, "--print-config"]).stdout, run(&["run", "--print-config"]).stdout);
    assert_eq!(run(&["assets", "nothing"]).code, Some(2));
}

#[test]
fn completions_contain_all_verbs() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = run(&["completions", shell]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        assert!(VERBS.iter().all(|verb| ended.stdout.contains(verb)), "{shell}");
    }
}

#[test]
fn succeeds_when_the_reader_closes_early() {
    for arguments in [&["--help"][..], &["--version"], &["assets", "incident-schema"], &["completions", "bash"]] {
        let ended = with_closed_pipe(arguments, false);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
    let ended = with_closed_pipe(&["replay", "/does/not/exist"], true);
    assert_eq!(ended.code, Some(4), "a closed standard error must not become a panic");
}

#[test]
fn the_offline_build_has_no_tokio() {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["tree", "-p", "gaia-monitor", "-e", "normal", "--no-default-features", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("serde_json v"), "{tree}{}", String::from_utf8_lossy(&output.stderr));
    for name in ["tokio v", "aya v", "bollard v", "nix v"] {
        assert!(!tree.lines().any(|line| line.starts_with(name)), "{name} is in\n{tree}");
    }
}
