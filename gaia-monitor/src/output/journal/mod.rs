//! The journal: a directory of append-only JSON Lines files. Each run begins a file; so does each full day and each full
//! file.
//!
//! Every line reaches the kernel immediately, with one write, so a killed monitor leaves at most one torn last line, which
//! readers skip. The disk is synced whenever no further line waits: a power cut costs the lines of the last moment. The
//! new file exists before the old one is closed, so rotation loses nothing; where no new file can be created, writing
//! continues in the old one. (Crates that rotate logs rename files under their readers; here a name never changes.)

mod files;
mod limits;
mod read;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub use limits::Limits;
pub use read::{JournalLine, read, read_all};

use super::json::Lines;
use super::queue::{WriteError, Writer};
use crate::engine::effect::Effect;
use crate::model::time::{Nanos, Stamp};

/// How often outdated files are removed while no incident is written.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

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
}

/// Appends every revision of every incident, and every story.
pub struct Journal<C> {
    directory: PathBuf,
    limits: Limits,
    clock: C,
    path: PathBuf,
    lines: Lines<File>,
    /// When this file began.
    began: Stamp,
    /// Bytes of whole lines in this file.
    length: u64,
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
    pub fn create(directory: &Path, limits: Limits, clock: C) -> Result<Self, JournalError> {
        std::fs::create_dir_all(directory)
            .map_err(|source| JournalError::Directory { path: directory.to_owned(), source })?;
        let began = clock();
        let (path, file) =
            files::begin(directory, began).map_err(|source| JournalError::Create { path: directory.into(), source })?;
        let lines = Lines::new(file);
        let directory = directory.to_owned();
        let mut journal =
            Self { directory, limits, clock, path, lines, began, length: 0, unsynced: false, pruned: Stamp(0) };
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
        // After the clock was set back, the new file still has to sort behind the old one.
        let began = now.max(self.began.plus(Nanos(1)));
        let (path, file) = files::begin(&self.directory, began).map_err(nothing_lost)?;
        (self.path, self.lines, self.began, self.length) = (path, Lines::new(file), began, 0);
        self.prune(now)
    }

    fn prune(&mut self, now: Stamp) -> Result<(), WriteError> {
        self.pruned = now;
        files::prune(&self.directory, &self.limits, now).map_err(nothing_lost)
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), WriteError> {
        let line = Lines::<File>::line(line)?;
        let now = (self.clock)();
        let rotated = if self.is_due(line.len(), now) { self.rotate(now) } else { Ok(()) };
        self.unsynced = true;
        self.lines.put(&line)?;
        self.length += line.len() as u64;
        rotated
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
        self.sync()?;
        let now = (self.clock)();
        let every = i64::try_from(PRUNE_EVERY.as_nanos()).unwrap_or(i64::MAX);
        if now.since(self.pruned) >= Nanos(every) { self.prune(now) } else { Ok(()) }
    }

    fn idle_interval(&self) -> Option<Duration> {
        Some(PRUNE_EVERY)
    }

    fn finish(&mut self, _lost: u64) -> Result<(), WriteError> {
        // The file of a run without incidents stays, empty: it shows that there was nothing to explain.
        self.sync()
    }
}

#[cfg(test)]
mod tests;
