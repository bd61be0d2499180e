//! Maintenance mode of a client: a file in its container, read on request when one of its requests failed.
//!
//! While it is active, GAIA's helpers do not ask a fallback. The file belongs to a container, so it is opened without
//! following a link and without blocking, and only its first bytes are read. Only the flag leaves this module.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::model::event::MaintenanceSeen;
use crate::model::ids::{ContainerId, Pid};

/// The state of maintenance mode; it is authoritative where it exists.
const STATE: &str = "shared/maintenance_mode.json";
/// The flag file of older versions.
const FLAG: &str = "shared/ha_maintenance";
/// The mode expires this long after the file was written.
const EXPIRES: Duration = Duration::from_secs(4 * 3_600);
/// The file has some hundred bytes.
const MOST: u64 = 64 * 1_024;

#[derive(Deserialize)]
struct Mode {
    #[serde(default)]
    active: bool,
}

/// `None`: the process has ended, or its files cannot be read.
#[must_use]
pub fn read(container: &ContainerId, client: Pid) -> Option<MaintenanceSeen> {
    let root = PathBuf::from(format!("/proc/{}/root", client.0));
    root.metadata().ok()?;
    Some(MaintenanceSeen { container: container.clone(), active: is_active(&root, SystemTime::now()) })
}

fn is_active(root: &Path, now: SystemTime) -> bool {
    if let Some((file, written)) = open(&root.join(STATE)) {
        let mut text = String::new();
        let mode =
            file.take(MOST).read_to_string(&mut text).ok().and_then(|_| serde_json::from_str::<Mode>(&text).ok());
        let age = now.duration_since(written).unwrap_or_default();
        return mode.is_some_and(|mode| mode.active) && age < EXPIRES;
    }
    open(&root.join(FLAG)).is_some()
}

/// A regular file, and when it was last written.
fn open(path: &Path) -> Option<(File, SystemTime)> {
    let flags = (nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let found = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some((file, found.modified().ok()?))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{EXPIRES, is_active};

    #[test]
    fn prefers_the_state_to_the_flag_and_lets_it_expire() {
        let root = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        assert!(!is_active(root.path(), now));
        std::fs::create_dir(root.path().join("shared")).unwrap();
        std::fs::write(root.path().join("shared/ha_maintenance"), "").unwrap();
        assert!(is_active(root.path(), now));
        let state = root.path().join("shared/maintenance_mode.json");
        std::fs::write(&state, r#"{"active": false}"#).unwrap();
        assert!(!is_active(root.path(), now));
        std::fs::write(&state, r#"{"active": true, "reason": "update"}"#).unwrap();
        assert!(is_active(root.path(), now));
        assert!(!is_active(root.path(), now + EXPIRES + Duration::from_secs(5)));
    }

    #[test]
    fn ignores_a_link() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("shared")).unwrap();
        std::fs::write(root.path().join("other"), "").unwrap();
        std::os::unix::fs::symlink(root.path().join("other"), root.path().join("shared/ha_maintenance")).unwrap();
        assert!(!is_active(root.path(), SystemTime::now()));
    }
}
