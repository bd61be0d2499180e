//! Reader of a journal: every file, in order, while a monitor may append and remove.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::{JournalError, files};
use crate::model::incident::{Incident, SCHEMA};
use crate::stderr;

/// Reads a journal, oldest line first. A line that is not an incident of this schema is skipped with a warning, a torn
/// last line of a file is skipped silently.
///
/// # Errors
/// The directory or a file in it cannot be read, or it contains no journal.
pub fn read(directory: &Path, mut each: impl FnMut(Incident)) -> Result<(), JournalError> {
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

fn lines(path: &Path, file: File, each: &mut impl FnMut(Incident)) -> io::Result<()> {
    let mut file = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        if file.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        match serde_json::from_slice::<Incident>(&line) {
            Ok(incident) if incident.schema == SCHEMA => each(incident),
            Ok(incident) => stderr::warn(format_args!(
                "{}, line {number} skipped: its schema is {:?}, not {SCHEMA}",
                path.display(),
                incident.schema
            )),
            Err(error) if error.is_eof() && line.last() != Some(&b'\n') => {}
            Err(error) => stderr::warn(format_args!("{}, line {number} skipped: {error}", path.display())),
        }
    }
    Ok(())
}
