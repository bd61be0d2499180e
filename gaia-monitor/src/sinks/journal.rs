//! The journal: a directory of JSON Lines files, one file for each run, only ever appended to.
//!
//! Every line reaches the kernel with one write as soon as it is there, so a killed monitor leaves at most one torn
//! last line, which readers leave out. The disk is synced whenever no further line waits: a power cut costs what came
//! in the last moment.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::json::Lines;
use super::lane::{Drain, Trouble};
use super::notice;
use crate::engine::effect::Effect;
use crate::model::incident::{Incident, SCHEMA};
use crate::model::time::Stamp;

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot create the journal directory {}: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot create the journal file {}: {source}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot read the journal {}: {source}; give the directory that `run --journal` was given", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "there is no journal in {}: no incidents-*.jsonl in it; give the directory that `run --journal` was given",
        path.display()
    )]
    NoJournal { path: PathBuf },
}

/// Appends every revision of every incident.
pub struct Journal {
    path: PathBuf,
    lines: Lines<File>,
    /// Something was written since the last sync.
    unsynced: bool,
}

impl Journal {
    /// Begins this run's file, and its directory where there is none.
    ///
    /// # Errors
    /// The directory or the file cannot be created.
    pub fn create(directory: &Path, started_at: Stamp) -> Result<Self, JournalError> {
        std::fs::create_dir_all(directory)
            .map_err(|source| JournalError::Directory { path: directory.to_owned(), source })?;
        let path = directory.join(format!("incidents-{}.jsonl", started_at.to_string().replace(['-', ':'], "")));
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => Ok(Self { path, lines: Lines::new(file), unsynced: false }),
            Err(source) => Err(JournalError::Create { path, source }),
        }
    }

    fn sync(&mut self) -> Result<(), Trouble> {
        if std::mem::take(&mut self.unsynced) {
            self.lines.output().sync_data().map_err(|error| Trouble::Lost { count: 0, error })?;
        }
        Ok(())
    }
}

impl Drain<Arc<Effect>> for Journal {
    fn name(&self) -> String {
        format!("the journal {}", self.path.display())
    }

    fn take(&mut self, effect: Arc<Effect>, _lost_before: u64) -> Result<(), Trouble> {
        let Effect::Incident(incident) = effect.as_ref() else { return Ok(()) };
        self.unsynced = true;
        self.lines.write(incident)
    }

    fn idle(&mut self) -> Result<(), Trouble> {
        self.sync()
    }

    fn finish(&mut self, _lost: u64) -> Result<(), Trouble> {
        // A quiet run's file stays, empty: it says that there was nothing to explain.
        self.sync()
    }
}

/// Reads a journal, oldest line first. A line that is no incident of this schema is warned of and left out, a torn
/// last line of a file is left out silently.
///
/// # Errors
/// The directory or a file in it cannot be read, or it holds no journal.
pub fn read(directory: &Path, mut each: impl FnMut(Incident)) -> Result<(), JournalError> {
    let trouble = |path: &Path, source| JournalError::Read { path: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|source| trouble(directory, source))? {
        let name = entry.map_err(|source| trouble(directory, source))?.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("incidents-") && name.ends_with(".jsonl")) {
            files.push(directory.join(name));
        }
    }
    if files.is_empty() {
        return Err(JournalError::NoJournal { path: directory.to_owned() });
    }
    // Their names sort by the time at which each began.
    files.sort();
    for path in files {
        let text = std::fs::read(&path).map_err(|source| trouble(&path, source))?;
        for (index, line) in text.split_inclusive(|&byte| byte == b'\n').enumerate() {
            match serde_json::from_slice::<Incident>(line) {
                Ok(incident) if incident.schema == SCHEMA => each(incident),
                Ok(incident) => notice::warn(format_args!(
                    "{}, line {}: left out, its schema is {:?}, not {SCHEMA}",
                    path.display(),
                    index + 1,
                    incident.schema
                )),
                Err(error) if error.is_eof() && line.last() != Some(&b'\n') => {}
                Err(error) => {
                    notice::warn(format_args!("{}, line {}: left out, {error}", path.display(), index + 1));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::{Journal, JournalError, read};
    use crate::engine::effect::Effect;
    use crate::model::incident::Incident;
    use crate::model::time::Stamp;
    use crate::sinks::lane::Drain;
    use crate::sinks::sample;

    fn all(directory: &std::path::Path) -> Vec<Incident> {
        let mut found = Vec::new();
        read(directory, |incident| found.push(incident)).unwrap();
        found
    }

    #[test]
    fn a_run_after_a_crash_begins_a_new_file_and_the_torn_line_is_left_out() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("a/b");
        let mut first = Journal::create(&directory, Stamp(1_700_000_000_000_000_000)).unwrap();
        let incident = sample::killed();
        first.take(Arc::new(Effect::Incident(Box::new(incident.clone()))), 0).unwrap();
        first.lines.output().write_all(b"{\"schema\":\"gaia").unwrap();
        drop(first);
        let mut second = Journal::create(&directory, Stamp(1_700_000_001_000_000_000)).unwrap();
        second.take(Arc::new(Effect::Incident(Box::new(incident.clone()))), 0).unwrap();
        second.finish(0).unwrap();
        assert_eq!(all(&directory), [incident.clone(), incident]);
    }

    #[test]
    fn a_quiet_run_leaves_a_journal_in_which_nothing_fits() {
        let place = tempfile::tempdir().unwrap();
        assert!(matches!(read(place.path(), |_| ()), Err(JournalError::NoJournal { .. })));
        Journal::create(place.path(), Stamp(0)).unwrap().finish(0).unwrap();
        assert_eq!(all(place.path()), []);
    }

    #[test]
    fn two_runs_never_share_a_file() {
        let place = tempfile::tempdir().unwrap();
        let _first = Journal::create(place.path(), Stamp(0)).unwrap();
        assert!(matches!(Journal::create(place.path(), Stamp(0)), Err(JournalError::Create { .. })));
    }
}
