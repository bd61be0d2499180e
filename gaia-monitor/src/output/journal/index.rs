//! Where the last revision of each incident is in a journal, for searches that must not read a gigabyte into memory.
//!
//! Bound: 24 bytes for each revision while the index is built, 16 for each incident afterwards.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use serde::Deserialize;

use super::JournalError;
use super::read::{each_line, files, is_story, other_schema};
use crate::model::incident::{Incident, SCHEMA, State};
use crate::stderr;
use crate::text::without_types;

/// The position of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LineAt {
    file: u32,
    /// The highest bit: the incident was withdrawn.
    length: u32,
    offset: u64,
}

const WITHDRAWN: u32 = 1 << 31;

/// One revision; `incident` is a hash of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RevisionAt {
    incident: u64,
    at: LineAt,
}

/// The last revision of every incident that was not withdrawn, and every story, each in order of the files.
#[derive(Debug)]
pub struct JournalIndex {
    files: Vec<PathBuf>,
    lines: Vec<LineAt>,
    stories: Vec<LineAt>,
}

/// What a thread found in its files.
#[derive(Default)]
struct Lines {
    revisions: Vec<RevisionAt>,
    stories: Vec<LineAt>,
    /// A text for each file with skipped lines.
    skipped: Vec<String>,
}

impl JournalIndex {
    /// # Errors
    /// The directory or a file in it cannot be read, or it contains no journal.
    pub fn of(directory: &Path) -> Result<Self, JournalError> {
        let files = files(directory)?;
        let (mut revisions, mut stories) = (Vec::new(), Vec::new());
        // Each thread has some of the files; their order is restored by sorting.
        let found = thread::scope(|scope| {
            let threads: Vec<_> =
                parts(files.len()).into_iter().map(|part| scope.spawn(|| files_of(&files, part))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(JournalError::died())))
                .collect::<Vec<_>>()
        });
        let mut skipped = Vec::new();
        for part in found {
            let mut part = part?;
            skipped.append(&mut part.skipped);
            stories.append(&mut part.stories);
            if revisions.is_empty() {
                revisions = part.revisions;
            } else {
                revisions.append(&mut part.revisions);
            }
        }
        if revisions.is_empty()
            && let Some(why) = skipped.pop()
        {
            return Err(JournalError::Unreadable { why });
        }
        skipped.iter().for_each(stderr::warn);
        revisions
            .sort_unstable_by_key(|revision: &RevisionAt| (revision.incident, revision.at.file, revision.at.offset));
        let mut kept: usize = 0;
        for index in 0..revisions.len() {
            let last = revisions
                .get(index + 1)
                .is_none_or(|next| Some(next.incident) != revisions.get(index).map(|one| one.incident));
            if let Some(revision) = revisions.get(index).copied()
                && last
                && revision.at.length & WITHDRAWN == 0
                && let Some(slot) = revisions.get_mut(kept)
            {
                *slot = revision;
                kept += 1;
            }
        }
        revisions.truncate(kept);
        let mut lines: Vec<LineAt> = revisions.into_iter().map(|revision| revision.at).collect();
        lines.sort_unstable_by_key(|at| (at.file, at.offset));
        stories.sort_unstable_by_key(|at: &LineAt| (at.file, at.offset));
        Ok(Self { files, lines, stories })
    }

    /// How many incidents there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Passes the line of each incident in `range` to `each`, with its number. A file that was removed in the meantime is
    /// skipped.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(
        &self,
        range: impl IntoIterator<Item = usize>,
        each: impl FnMut(usize, &[u8]),
    ) -> Result<(), JournalError> {
        self.read_lines(range.into_iter().filter_map(|number| Some((number, *self.lines.get(number)?))), each)
    }

    /// Passes the line of each story to `each`.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read_stories(&self, mut each: impl FnMut(&[u8])) -> Result<(), JournalError> {
        self.read_lines(self.stories.iter().copied().enumerate(), |_, line| each(line))
    }

    fn read_lines(
        &self,
        lines: impl Iterator<Item = (usize, LineAt)>,
        mut each: impl FnMut(usize, &[u8]),
    ) -> Result<(), JournalError> {
        let mut open: Option<(u32, Option<File>)> = None;
        let mut line = Vec::new();
        for (number, at) in lines {
            let Some(path) = self.files.get(at.file as usize) else { continue };
            let failed = |source| JournalError::Read { path: path.clone(), source };
            if open.as_ref().is_none_or(|(file, _)| *file != at.file) {
                let file = match File::open(path) {
                    Ok(file) => Some(file),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(error) => return Err(failed(error)),
                };
                open = Some((at.file, file));
            }
            let Some((_, Some(file))) = &open else { continue };
            line.resize((at.length & !WITHDRAWN) as usize, 0);
            file.read_exact_at(&mut line, at.offset).map_err(failed)?;
            each(number, &line);
        }
        Ok(())
    }
}

/// Splits `0..count` into one range for each thread.
#[must_use]
pub fn parts(count: usize) -> Vec<Range<usize>> {
    const THREADS: usize = 4;
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get().min(THREADS));
    let size = count.div_ceil(threads).max(1);
    (0..count).step_by(size).map(|start| start..count.min(start + size)).collect()
}

/// The lines in some of the files.
fn files_of(files: &[PathBuf], part: Range<usize>) -> Result<Lines, JournalError> {
    let mut found = Lines::default();
    for (index, path) in files.iter().enumerate().skip(part.start).take(part.len()) {
        let file = u32::try_from(index).unwrap_or(u32::MAX);
        let read = each_line(path, |offset, line| {
            // Lines are bounded far below the highest bit.
            let length = u32::try_from(line.len()).unwrap_or(0);
            match head(line) {
                Ok((incident, withdrawn)) => {
                    let length = length | if withdrawn { WITHDRAWN } else { 0 };
                    found.revisions.push(RevisionAt { incident, at: LineAt { file, length, offset } });
                }
                Err(_) if is_story(line) => found.stories.push(LineAt { file, length, offset }),
                Err(why) => return Err(why),
            }
            Ok(())
        });
        found.skipped.extend(read.map_err(|source| JournalError::Read { path: path.clone(), source })?);
    }
    Ok(found)
}

/// The hash of the id, and whether the incident was withdrawn.
fn head(line: &[u8]) -> Result<(u64, bool), String> {
    if let Some((id, state)) = quick_head(line) {
        return Ok((hash(id), state == b"withdrawn"));
    }
    // Another order of fields, or a damaged line: this reads and checks all of it.
    let head: Head = serde_json::from_slice(line).map_err(|error| without_types(&error.to_string()))?;
    if head.schema != SCHEMA {
        return Err(other_schema(&head.schema));
    }
    serde_json::from_slice::<Incident>(line).map_err(|error| without_types(&error.to_string()))?;
    Ok((hash(head.id.as_bytes()), head.state == State::Withdrawn))
}

#[derive(Deserialize)]
struct Head {
    schema: String,
    id: String,
    state: State,
}

/// Id and state of a line as the monitor writes it. A torn line does not end like this.
fn quick_head(line: &[u8]) -> Option<(&[u8], &[u8])> {
    const SCHEMA_AND_ID: &[u8] = br#"{"schema":"gaia-monitor.incident/1","id":""#;
    let rest = line.strip_suffix(b"\n")?;
    if !rest.ends_with(b"}}") {
        return None;
    }
    let rest = rest.strip_prefix(SCHEMA_AND_ID)?;
    let (id, rest) = rest.split_at_checked(memchr::memchr2(b'"', b'\\', rest)?)?;
    let rest = rest.strip_prefix(br#"","revision":"#)?;
    let rest = rest.get(rest.iter().position(|byte| !byte.is_ascii_digit())?..)?;
    let rest = rest.strip_prefix(br#","state":""#)?;
    Some((id, rest.get(..memchr::memchr(b'"', rest)?)?))
}

fn hash(id: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::{JournalIndex, head, quick_head};
    use crate::model::ids::IncidentId;
    use crate::model::incident::{Incident, State};
    use crate::output::test_fixtures;

    fn line(id: &str, revision: u32, state: State) -> String {
        let incident = Incident { id: IncidentId(id.into()), revision, state, ..test_fixtures::killed() };
        serde_json::to_string(&incident).unwrap() + "\n"
    }

    #[test]
    fn reads_id_and_state_of_a_line_quickly_and_slowly_alike() {
        let text = line("gm-1", 12, State::Withdrawn);
        assert_eq!(quick_head(text.as_bytes()), Some((&b"gm-1"[..], &b"withdrawn"[..])));
        // Another order of fields.
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let slow = format!(" {value}\n");
        assert_eq!(quick_head(slow.as_bytes()), None);
        assert_eq!(head(slow.as_bytes()), head(text.as_bytes()));
        for cut in 0..text.len() - 2 {
            assert!(head(&text.as_bytes()[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn finds_the_last_revisions_of_all_files_in_order() {
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str, text: String| {
            std::fs::File::create(place.path().join(name)).unwrap().write_all(text.as_bytes()).unwrap();
        };
        file("incidents-1.jsonl", line("a", 1, State::Open) + &line("b", 1, State::Open) + &line("c", 1, State::Open));
        let torn = line("b", 3, State::Closed);
        let text = line("d", 1, State::Open) + &line("a", 2, State::Closed) + &line("c", 2, State::Withdrawn);
        file("incidents-2.jsonl", text + &line("b", 2, State::Settled) + &torn[..torn.len() - 20]);
        let index = JournalIndex::of(place.path()).unwrap();
        let mut found = Vec::new();
        index
            .read(0..index.len(), |number, line| {
                let incident: Incident = serde_json::from_slice(line).unwrap();
                found.push((number, incident.id.0, incident.revision));
            })
            .unwrap();
        assert_eq!(found, [(0, "d".into(), 1), (1, "a".into(), 2), (2, "b".into(), 2)]);
    }
}
