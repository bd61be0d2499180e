//! Reader of a journal: every file, in order, while a monitor may append and remove.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use super::{JournalError, files};
use crate::bounded::{self, LineRead};
use crate::model::incident::{Incident, SCHEMA};
use crate::model::story::{self, Story};
use crate::stderr;
use crate::text::without_types;

/// Bytes of a line; an incident of full length has some 300 KiB.
pub(super) const MAX_LINE: usize = 4 << 20;
const BUFFER: usize = 256 << 10;

/// Reads the incidents of a journal, oldest line first. Lines that are neither an incident nor a story of these schemas are
/// skipped with one warning for each file, a torn last line of a file is skipped silently.
///
/// # Errors
/// The directory or a file in it cannot be read, or it contains no journal.
pub fn read(directory: &Path, mut each: impl FnMut(Incident)) -> Result<(), JournalError> {
    for path in files(directory)? {
        let read = each_line(&path, |_, line| match serde_json::from_slice::<Incident>(line) {
            Ok(incident) if incident.schema == SCHEMA => {
                each(incident);
                Ok(())
            }
            Ok(incident) => Err(other_schema(&incident.schema)),
            Err(_) if is_story(line) => Ok(()),
            Err(error) => Err(without_types(&error.to_string())),
        });
        if let Some(skipped) = read.map_err(|source| JournalError::Read { path, source })? {
            stderr::warn(skipped);
        }
    }
    Ok(())
}

/// The files of a journal, oldest first.
pub(super) fn files(directory: &Path) -> Result<Vec<std::path::PathBuf>, JournalError> {
    match files::all(directory) {
        Ok(all) if all.is_empty() => Err(JournalError::NoJournal { path: directory.to_owned() }),
        Ok(all) => Ok(all),
        Err(source) => Err(JournalError::Read { path: directory.to_owned(), source }),
    }
}

pub(super) fn other_schema(schema: &str) -> String {
    format!("its schema is {schema:?}, not {SCHEMA} or {}", story::SCHEMA)
}

/// Whether a line is a whole story.
pub(super) fn is_story(line: &[u8]) -> bool {
    let schema = format!(r#"{{"schema":"{}","#, story::SCHEMA);
    line.starts_with(schema.as_bytes()) && serde_json::from_slice::<Story>(line).is_ok()
}

/// Passes each line of a file to `each`, with its offset; returns a text about those that `each` refused.
pub(super) fn each_line(
    path: &Path,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), String>,
) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        // It was removed by age since it was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut file = BufReader::with_capacity(BUFFER, file);
    let mut line = Vec::new();
    let mut offset = 0;
    let mut first = None;
    let mut skipped: u64 = 0;
    for number in 1_u64.. {
        line.clear();
        let mut refused = match bounded::read_line(&mut file, MAX_LINE, &mut line)? {
            LineRead::End => break,
            LineRead::TooLong => Some(format!("it is longer than {} MiB", MAX_LINE >> 20)),
            LineRead::Whole => None,
        };
        let mut length = line.len() as u64;
        if refused.is_some() {
            length += bounded::skip_line(&mut file)?;
        } else {
            refused = each(offset, &line).err().filter(|_| line.last() == Some(&b'\n'));
        }
        offset += length;
        if let Some(why) = refused {
            skipped += 1;
            first.get_or_insert_with(|| format!("{}, line {number} skipped: {why}", path.display()));
        }
    }
    Ok(first.map(|first| match skipped {
        1 => first,
        _ => format!("{first}; {} more of its lines skipped", skipped - 1),
    }))
}
