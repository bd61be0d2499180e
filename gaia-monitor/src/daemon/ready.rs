//! The ready file: once it exists, every probe is attached and the inventory has been processed.

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::sources::ebpf::Probe;
use crate::stderr::warn;

/// In the temporary name `.NAME.gaia-monitor-PID`, which no other program chooses.
const MARK: &str = ".gaia-monitor-";

/// It holds no secret, and other users' programs wait for it.
const MODE: u32 = 0o644;

/// The content of the ready file.
#[derive(Debug, Serialize)]
pub(super) struct Ready {
    version: &'static str,
    probes: Vec<String>,
    missing: Vec<String>,
}

impl Ready {
    pub(super) fn of(probe: &Probe) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            probes: probe.attached(),
            missing: probe.missing().into_iter().map(|missing| missing.name).collect(),
        }
    }

    /// Readers see the whole file or none: it is written under a temporary name and renamed. What another user planted under
    /// that name is neither followed nor written to.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        let mut name = temporary_prefix(path)?;
        name.push(std::process::id().to_string());
        let temporary = path.with_file_name(name);
        // Of a killed run with the same PID, as in a container; a link itself is removed, not its target.
        remove_file(&temporary)?;
        // O_EXCL: the name must be free, so a link that was planted since is an error.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
            .open(&temporary)?;
        let written = file.write_all(&line).and_then(|()| file.set_permissions(Permissions::from_mode(MODE)));
        written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
            // The first error is the one to report.
            let _ = fs::remove_file(&temporary);
        })
    }
}

/// Removes the file of an earlier run, and temporary files of runs that were killed while they wrote one. A file that does not
/// exist is not an error.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    remove_file(path)?;
    for stale in stale(path)? {
        warn(format_args!("{} is of a run that was killed; it is removed", stale.display()));
        remove_file(&stale)?;
    }
    Ok(())
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) | Ok(()) => Ok(()),
    }
}

fn temporary_prefix(path: &Path) -> io::Result<OsString> {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    prefix.push(MARK);
    Ok(prefix)
}

/// Temporary files whose process does not exist.
fn stale(path: &Path) -> io::Result<Vec<PathBuf>> {
    let prefix = temporary_prefix(path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        // The directory may be writable and not readable, or missing, which the write reports.
        Err(_) => return Ok(Vec::new()),
    };
    let is_stale = |name: &OsString| {
        let pid = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        let pid: Option<i32> = pid.and_then(|pid| std::str::from_utf8(pid).ok()?.parse().ok());
        pid.is_some_and(|pid| {
            pid > 0 && nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) == Err(nix::errno::Errno::ESRCH)
        })
    };
    Ok(entries.flatten().filter(|entry| is_stale(&entry.file_name())).map(|entry| entry.path()).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    use super::{Ready, remove};

    fn ready() -> Ready {
        Ready { version: "1", probes: vec!["tcp_state".into()], missing: vec!["oom_victim".into()] }
    }

    fn temporary(place: &Path, pid: u32) -> PathBuf {
        place.join(format!(".ready.gaia-monitor-{pid}"))
    }

    /// A pid of no process: it has ended and was waited for.
    fn dead_pid() -> u32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    #[test]
    fn writes_one_json_line_and_leaves_no_temporary_file() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("ready");
        ready().write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"version\":\"1\",\"probes\":[\"tcp_state\"],\"missing\":[\"oom_victim\"]}\n");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
        ready().write(&place.path().join("none/ready")).unwrap_err();
    }

    #[test]
    fn never_writes_through_a_planted_link() {
        let place = tempfile::tempdir().unwrap();
        let (path, target) = (place.path().join("ready"), place.path().join("target"));
        fs::write(&target, "precious").unwrap();
        for planted in [&path, &temporary(place.path(), std::process::id())] {
            symlink(&target, planted).unwrap();
        }
        ready().write(&path).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert!(path.symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "the link itself is gone");
    }

    #[test]
    fn replaces_the_temporary_file_of_a_killed_run_with_the_same_pid() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("ready");
        fs::write(temporary(place.path(), std::process::id()), "half a li").unwrap();
        ready().write(&path).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn removes_temporary_files_of_killed_runs_and_no_other_file() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("ready");
        let stale = temporary(place.path(), dead_pid());
        let kept = [
            temporary(place.path(), std::os::unix::process::parent_id()),
            place.path().join(format!("ready.{}", dead_pid())),
            place.path().join(".ready.gaia-monitor-x"),
            place.path().join(format!(".other.gaia-monitor-{}", dead_pid())),
        ];
        [&path, &stale].into_iter().chain(&kept).for_each(|path| fs::write(path, "").unwrap());
        remove(&path).unwrap();
        assert!(!path.exists() && !stale.exists());
        assert!(kept.iter().all(|path| path.exists()));
    }
}
