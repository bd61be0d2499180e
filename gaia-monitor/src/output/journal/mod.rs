//! The journal: a directory of append-only JSON Lines files. Each run begins a file; so does each full day and each full
//! file.
//!
//! Every line reaches the kernel immediately, with one write, so a killed monitor leaves at most one torn last line, which
//! readers skip. The disk is synced whenever no further line waits: a power cut costs the lines of the last moment. The
//! new file exists before the old one is closed, so rotation loses nothing; where no new file can be created, writing
//! continues in the old one. A file that left its place (deleted, moved, its file system unmounted) is noticed with the
//! next line or within seconds, and the journal continues in a new file: what only the deleted file held is lost and counted.
//! (Crates that rotate logs rename files under their readers; here a name never changes.)

mod displaced;
mod files;
pub mod index;
mod limits;
mod read;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub use limits::Limits;
pub use read::read;

use super::json::Lines;
use super::queue::{WriteError, Writer};
use crate::access::Access;
use crate::engine::effect::Effect;
use crate::model::time::{Nanos, Stamp};

/// How often outdated files are removed while no incident is written.
const PRUNE_EVERY: Nanos = Nanos::from_secs(3_600);

/// How often the journal checks that its file is in place while no incident is written.
const CHECK_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot create the journal directory {}: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot create a file in the journal directory {}: {source}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot read the journal {}: {source}; pass the directory of `run --journal`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "there is no journal in {}: no incidents-*.jsonl; pass the directory of `run --journal`",
        path.display()
    )]
    NoJournal { path: PathBuf },
    #[error("the journal holds no incident that can be read: {why}; pass the directory of `run --journal`")]
    Unreadable { why: String },
}

impl JournalError {
    /// A thread that searched the journal failed.
    #[must_use]
    pub fn died() -> Self {
        Self::Unreadable { why: "a thread of the search failed".to_owned() }
    }
}

/// Appends every revision of every incident, and every story.
pub struct Journal<C> {
    directory: PathBuf,
    limits: Limits,
    access: Access,
    clock: C,
    path: PathBuf,
    lines: Lines<File>,
    /// When this file began.
    began: Stamp,
    /// Bytes of whole lines in this file.
    length: u64,
    /// Lines in this file.
    count: u64,
    /// The file has left its place, and no other could be created; a warning was logged.
    displaced: bool,
    /// Something was written since the last sync.
    unsynced: bool,
    /// When outdated files were last looked for.
    pruned: Stamp,
}

impl<C: Fn() -> Stamp> Journal<C> {
    /// Creates this run's file, and the directory if it is missing; removes files beyond the limits.
    ///
    /// # Errors
    /// The directory or the file cannot be created.
    pub fn create(directory: &Path, limits: Limits, access: Access, clock: C) -> Result<Self, JournalError> {
        access
            .create_directory(directory)
            .map_err(|source| JournalError::Directory { path: directory.to_owned(), source })?;
        let began = clock();
        let (path, file) = files::begin(directory, began, access)
            .map_err(|source| JournalError::Create { path: directory.into(), source })?;
        let lines = Lines::new(file);
        let directory = directory.to_owned();
        let mut journal = Self {
            directory,
            limits,
            access,
            clock,
            path,
            lines,
            began,
            length: 0,
            count: 0,
            displaced: false,
            unsynced: false,
            pruned: Stamp(0),
        };
        // Removal is retried later; that failure is reported.
        let _ = journal.prune(began);
        Ok(journal)
    }

    fn sync(&mut self) -> Result<(), WriteError> {
        if std::mem::take(&mut self.unsynced) {
            self.lines.output().sync_data().map_err(nothing_lost)?;
        }
        Ok(())
    }

    fn is_due(&self, line: usize, now: Stamp) -> bool {
        let full = self.length + line as u64 > self.limits.file_bytes;
        self.length > 0 && (full || now.since(self.began) > self.limits.file_age)
    }

    /// Continues in a new file. On failure nothing changes.
    fn rotate(&mut self, now: Stamp) -> Result<(), WriteError> {
        self.sync()?;
        self.begin(now).map_err(nothing_lost)?;
        self.prune(now)
    }

    fn begin(&mut self, now: Stamp) -> io::Result<()> {
        // After the clock was set back, the new file still has to sort behind the old one.
        let began = now.max(self.began.plus(Nanos(1)));
        let (path, file) = files::begin(&self.directory, began, self.access)?;
        (self.path, self.lines, self.began) = (path, Lines::new(file), began);
        (self.length, self.count, self.unsynced) = (0, 0, false);
        Ok(())
    }

    fn prune(&mut self, now: Stamp) -> Result<(), WriteError> {
        self.pruned = now;
        files::prune(&self.directory, &self.limits, now).map_err(nothing_lost)
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), WriteError> {
        let line = Lines::<File>::line(line)?;
        let now = (self.clock)();
        let placed = self.keep_in_place(now);
        if self.displaced && files::is_deleted(self.lines.output()) {
            let error = io::Error::other("its file was deleted, and no other can be created");
            return both(placed, Err(WriteError::Lost { count: 1, error }));
        }
        let rotated = if self.is_due(line.len(), now) { self.rotate(now) } else { Ok(()) };
        self.unsynced = true;
        let written = self.lines.put(&line);
        if written.is_ok() {
            self.length += line.len() as u64;
            self.count += 1;
        }
        both(placed, both(written, rotated))
    }
}

/// Both results: the losses of both, the reason of the first.
fn both(first: Result<(), WriteError>, second: Result<(), WriteError>) -> Result<(), WriteError> {
    match (first, second) {
        (Err(WriteError::Lost { count, error }), Err(WriteError::Lost { count: more, .. })) => {
            Err(WriteError::Lost { count: count + more, error })
        }
        (_, Err(closed @ WriteError::Closed(_))) => Err(closed),
        (Err(error), _) | (Ok(()), Err(error)) => Err(error),
        (Ok(()), Ok(())) => Ok(()),
    }
}

/// The line itself is written, or will be; the failure is still reported.
fn nothing_lost(error: io::Error) -> WriteError {
    WriteError::Lost { count: 0, error }
}

impl<C: Fn() -> Stamp + Send + 'static> Writer<Arc<Effect>> for Journal<C> {
    fn kind(&self) -> &'static str {
        "journal"
    }

    fn name(&self) -> String {
        format!("the journal {}", self.path.display())
    }

    fn take(&mut self, effect: Arc<Effect>, _lost_before: u64) -> Result<(), WriteError> {
        match effect.as_ref() {
            Effect::Incident(incident) => self.write(incident),
            Effect::Story(story) => self.write(story),
            Effect::Explained(_) | Effect::Count(_) | Effect::Enrich(_) => Ok(()),
        }
    }

    fn idle(&mut self) -> Result<(), WriteError> {
        let synced = self.sync();
        let now = (self.clock)();
        let placed = self.keep_in_place(now);
        let is_due = placed.is_ok() && now.since(self.pruned) >= PRUNE_EVERY;
        let pruned = if is_due { self.prune(now) } else { Ok(()) };
        both(placed, both(synced, pruned))
    }

    fn idle_interval(&self) -> Option<Duration> {
        Some(CHECK_EVERY)
    }

    fn finish(&mut self, _lost: u64) -> Result<(), WriteError> {
        // The file of a run without incidents stays, empty: it shows that there was nothing to explain.
        self.sync()
    }
}

#[cfg(test)]
mod tests;
