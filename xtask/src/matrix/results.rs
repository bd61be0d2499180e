//! Results of runs, as JSON Lines in `target/matrix`: one file per kernel and binary, with one line per run.
//!
//! Commits that do not change the binary share a file: after a change of a live case itself, use `--fresh NAME`. A line
//! that cannot be read is an error, not a missing run.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use gaia_monitor_tests::check::Verdict;
use gaia_monitor_tests::diff::Aspect;
use gaia_monitor_tests::host;
use gaia_monitor_tests::live_case::LiveCase as Row;
use gaia_monitor_tests::play::Played;
use serde::{Deserialize, Serialize};

use super::host::Subject;

/// One run of one live case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    pub row: String,
    pub turn: u32,
    pub seconds: f64,
    pub verdict: Verdict,
    /// Folder of a wrong run's recording.
    pub kept: Option<PathBuf>,
}

impl Run {
    #[must_use]
    pub fn of(row: &str, turn: u32, lasted: Duration, played: Played) -> Self {
        Self { row: row.to_owned(), turn, seconds: lasted.as_secs_f64(), verdict: played.verdict, kept: played.kept }
    }

    #[must_use]
    pub fn is_right(&self) -> bool {
        self.verdict.wrong.is_empty()
    }

    /// Right in this aspect. A run that did not produce its fault is right in none.
    #[must_use]
    pub fn is_right_in(&self, aspect: Aspect) -> bool {
        !self.verdict.wrong.iter().any(|wrong| wrong.aspect == aspect || wrong.aspect == Aspect::Story)
    }
}

/// All runs of this kernel and binary.
#[derive(Debug)]
pub struct Results {
    path: PathBuf,
    subject: Subject,
    runs: Vec<Run>,
}

impl Results {
    /// # Errors
    /// When the file exists and cannot be read.
    pub fn open(binary: &Path) -> Result<Self> {
        let subject = Subject::of(binary)?;
        let folder = host::target_dir().join("matrix");
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let path = folder.join(format!("{}-{}.jsonl", subject.kernel, subject.digest));
        let runs = if path.exists() { read(&path)? } else { Vec::new() };
        Ok(Self { path, subject, runs })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Folder of the file, which also has the recordings.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    #[must_use]
    pub fn count(&self, row: &str) -> u32 {
        u32::try_from(self.of(row).count()).unwrap_or(u32::MAX)
    }

    pub fn of(&self, row: &str) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.row == row)
    }

    /// Wrong runs of these live cases.
    pub fn wrong(&self, rows: &[Row]) -> impl Iterator<Item = &Run> {
        let ids: BTreeSet<&str> = rows.iter().map(|row| row.id).collect();
        self.runs.iter().filter(move |run| ids.contains(run.row.as_str()) && !run.is_right())
    }

    /// Appends one run to the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append(&mut self, run: Run) -> Result<()> {
        let mut line = serde_json::to_string(&run)?;
        line.push('\n');
        let file = File::options().create(true).append(true).open(&self.path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.with_context(|| format!("writing {}", self.path.display()))?;
        self.runs.push(run);
        Ok(())
    }

    /// Removes the runs of these live cases.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn forget(&mut self, rows: &[Row]) -> Result<()> {
        self.runs.retain(|run| !rows.iter().any(|row| row.id == run.row));
        let kept = self.runs.iter().map(serde_json::to_string).collect::<serde_json::Result<Vec<_>>>()?;
        let text = kept.iter().map(|line| format!("{line}\n")).collect::<String>();
        fs::write(&self.path, text).with_context(|| format!("writing {}", self.path.display()))
    }
}

fn read(path: &Path) -> Result<Vec<Run>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let run = |line| serde_json::from_str(line).with_context(|| format!("invalid run in {}: {line}", path.display()));
    text.lines().map(run).collect()
}
