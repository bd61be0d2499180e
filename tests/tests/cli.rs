//! The command line of the built binary: exit codes, messages, help, broken files, closed pipes. Needs neither root nor
//! Docker; as root it also runs as an ordinary user.
#![expect(clippy::unwrap_used, reason = "a helper fails its test by panicking")]

use std::ffi::OsStr;
use std::io::pipe;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gaia_monitor_tests::monitor::binary;
use gaia_monitor_tests::recordings;
use serde_json::Value;

mod cli {
    pub mod explain;
    pub mod faults;
    pub mod host;
    pub mod replay;
    pub mod story;
    pub mod usage;
}

/// How a command ended.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn command<A: AsRef<OsStr>>(arguments: &[A]) -> Command {
    let mut command = Command::new(binary().unwrap());
    command.args(arguments).stdin(Stdio::null());
    for name in ["DOCKER_HOST", "NO_COLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GAIA_MONITOR_")) {
        command.env_remove(name);
    }
    command
}

fn end(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn run<A: AsRef<OsStr>>(arguments: &[A]) -> Ended {
    end(command(arguments))
}

impl Ended {
    /// It failed with this code, printed nothing, and wrote one line with all of these parts to standard error.
    #[track_caller]
    fn failed_with(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert_eq!(self.stdout, "");
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "one message: {}", self.stderr);
        assert!(lines[0].starts_with("gaia-monitor: "), "{}", self.stderr);
        self.says(parts);
    }

    #[track_caller]
    fn says(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in {:?}", self.stderr);
        }
    }
}

/// A recording that holds one incident.
fn recording() -> PathBuf {
    recordings::recording("crashed/segmentation-fault-idle")
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs with a standard output (or error) without a reader.
fn with_closed_pipe<A: AsRef<OsStr>>(arguments: &[A], close_stderr: bool) -> Ended {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut command = command(arguments);
    let other = writer.try_clone().unwrap();
    command.stdout(writer);
    if close_stderr {
        command.stderr(other);
    } else {
        command.stderr(Stdio::piped());
    }
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    Ended { code: output.status.code(), stdout: String::new(), stderr: String::from_utf8(output.stderr).unwrap() }
}

const OVERFLOW_UID: u32 = 65_534;

/// The command as an ordinary user runs it. As root: a copy of the binary in `place`, by uid 65534.
fn as_ordinary_user<A: AsRef<OsStr>>(place: &Path, arguments: &[A]) -> Ended {
    if !nix::unistd::geteuid().is_root() {
        return run(arguments);
    }
    let copy = place.join("gaia-monitor");
    // By another process: a file that this one held open for writing could not be run while another test forks.
    assert!(Command::new("cp").arg(binary().unwrap()).arg(&copy).status().unwrap().success());
    std::fs::set_permissions(place, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = Command::new(copy);
    command.args(arguments).stdin(Stdio::null()).env_remove("DOCKER_HOST").current_dir(place);
    command.uid(OVERFLOW_UID).gid(OVERFLOW_UID);
    end(command)
}
