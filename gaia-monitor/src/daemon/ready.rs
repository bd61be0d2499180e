//! The ready file: once it exists, every probe is attached and the inventory has been processed.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::sources::ebpf::Probe;

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

    /// Readers see the whole file or none: it is written under a temporary name and renamed.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(format!(".{}", std::process::id()));
        let temporary = path.with_file_name(name);
        fs::write(&temporary, line)?;
        fs::rename(&temporary, path).inspect_err(|_| {
            // The error of the rename is the one to report.
            let _ = fs::remove_file(&temporary);
        })
    }
}

/// Removes the file; one that does not exist is not an error.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) | Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Ready, remove};

    #[test]
    fn writes_one_json_line_and_leaves_no_temporary_file() {
        let directory = std::env::temp_dir().join(format!("gaia-monitor-ready-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("ready");
        let ready = Ready { version: "1", probes: vec!["tcp_state".into()], missing: vec!["oom_victim".into()] };
        ready.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"version\":\"1\",\"probes\":[\"tcp_state\"],\"missing\":[\"oom_victim\"]}\n");
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(ready.write(&directory.join("none/ready")).is_err());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
