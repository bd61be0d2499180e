//! The files of a journal: names, order, and removal.
//!
//! A name contains the instant at which its file began, so names sort by time. The process that appends to a file holds
//! its lock; a locked file is never removed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::limits::Limits;
use crate::access::Access;
use crate::model::time::Stamp;

const PREFIX: &str = "incidents-";
const ENDING: &str = ".jsonl";

/// Creates a file and locks it until it is dropped.
pub(super) fn begin(directory: &Path, at: Stamp, access: Access) -> io::Result<(PathBuf, File)> {
    let path = directory.join(format!("{PREFIX}{}{ENDING}", at.to_string().replace(['-', ':'], "")));
    let file = access.create_new(OpenOptions::new().append(true), &path)?;
    // Without locks (some network file systems), the limits of a second monitor could remove the file; nothing else.
    let _ = file.try_lock();
    Ok((path, file))
}

/// Every file of the journal, the oldest first.
pub(super) fn all(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(ENDING)) {
            files.push(directory.join(name));
        }
    }
    files.sort();
    Ok(files)
}

/// Removes files beyond the limits, the oldest first, but none that a process still writes to.
pub(super) fn prune(directory: &Path, limits: &Limits, now: Stamp) -> io::Result<()> {
    let mut kept = Vec::new();
    for path in all(directory)? {
        match path.metadata() {
            Ok(metadata) => kept.push((path, metadata.len(), written(&metadata))),
            // Another monitor has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let mut total: u64 = kept.iter().map(|(_, length, _)| length).sum();
    for (path, length, written) in kept {
        let outdated = written.is_some_and(|written| now.since(written) > limits.age);
        if (outdated || total > limits.total_bytes) && !is_in_use(&path) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Err(_) | Ok(()) => total -= length,
            }
        }
    }
    Ok(())
}

/// When the last line was written. Without that time, only the total size limits the file.
fn written(metadata: &std::fs::Metadata) -> Option<Stamp> {
    let since = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Stamp(i64::try_from(since.as_nanos()).ok()?))
}

/// Whether the path still leads to the open file.
pub(super) fn is_in_place(path: &Path, file: &File) -> bool {
    let identity = |found: std::fs::Metadata| (found.dev(), found.ino());
    path.metadata().map(identity).ok().is_some_and(|found| file.metadata().map(identity).is_ok_and(|own| own == found))
}

/// Whether the last name of the open file was deleted: what it holds ends with the run.
pub(super) fn is_deleted(file: &File) -> bool {
    file.metadata().is_ok_and(|found| found.nlink() == 0)
}

fn is_in_use(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}
