//! Reader of a journal: every file, in order, while a monitor may append and remove.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use super::{JournalError, files};
use crate::model::incident::{self, Incident};
use crate::model::story::{self, Story};
use crate::stderr;

/// A line of a journal.
pub enum JournalLine {
    Incident(Box<Incident>),
    Story(Box<Story>),
}

/// Reads the incidents of a journal, oldest line first, as [`read_all`] does.
///
/// # Errors
/// As [`read_all`].
pub fn read(directory: &Path, mut each: impl FnMut(Incident)) -> Result<(), JournalError> {
    read_all(directory, |line| match line {
        JournalLine::Incident(incident) => each(*incident),
        JournalLine::Story(_) => {}
    })
}

/// Reads a journal, oldest line first. A line that is no incident or story of these schemas is skipped with a warning, a
/// torn last line of a file is skipped silently.
///
/// # Errors
/// The directory or a file in it cannot be read, or it contains no journal.
pub fn read_all(directory: &Path, mut each: impl FnMut(JournalLine)) -> Result<(), JournalError> {
    let trouble = |path: &Path, source| JournalError::Read { path: path.to_owned(), source };
    let all = files::all(directory).map_err(|source| trouble(directory, source))?;
    if all.is_empty() {
        return Err(JournalError::NoJournal { path: directory.to_owned() });
    }
    for path in all {
        match File::open(&path).and_then(|file| lines(&path, file, &mut each)) {
            // It was removed by age since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(trouble(&path, source)),
            Ok(()) => {}
        }
    }
    Ok(())
}

fn lines(path: &Path, file: File, each: &mut impl FnMut(JournalLine)) -> io::Result<()> {
    let mut file = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        match parse(&line) {
            Ok(Parsed::Line(line)) => each(line),
            Ok(Parsed::Other(schema)) => stderr::warn(format_args!(
                "{}, line {number} skipped: its schema is {schema:?}, not {} or {}",
                path.display(),
                incident::SCHEMA,
                story::SCHEMA
            )),
            Err(error) if error.is_eof() && line.last() != Some(&b'\n') => {}
            Err(error) => stderr::warn(format_args!("{}, line {number} skipped: {error}", path.display())),
        }
    }
    Ok(())
}

enum Parsed {
    Line(JournalLine),
    /// A line of another schema.
    Other(String),
}

#[derive(Deserialize)]
struct AnyLine {
    schema: String,
}

fn parse(line: &[u8]) -> serde_json::Result<Parsed> {
    let AnyLine { schema } = serde_json::from_slice(line)?;
    Ok(match schema.as_str() {
        incident::SCHEMA => Parsed::Line(JournalLine::Incident(serde_json::from_slice(line)?)),
        story::SCHEMA => Parsed::Line(JournalLine::Story(serde_json::from_slice(line)?)),
        _ => Parsed::Other(schema),
    })
}
