//! Reader of a recording, plain or compressed, entry by entry. A torn end is no error: a killed monitor leaves one.
//! Anything else that does not fit is an error that names the line and the remedy.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::compression;
use super::format::{AnyHeader, FAMILY, FORMAT, GAP_PREFIX, GapLine, Header};
use crate::bounded::{self, LineRead};
use crate::model::event::Event;
use crate::text::without_types;

const BUFFER: usize = 256 * 1024;

/// Bytes of a line. The longest ones list a container's labels, which Docker bounds only by the size of a request.
const MAX_LINE: usize = 16 << 20;

#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    Event(Box<Event>),
    /// So many events are missing here.
    Gap(u64),
}

#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("cannot open the recording {name}: {source}; give the path of a file that `run --record` wrote")]
    Open { name: String, source: io::Error },
    #[error("cannot read the recording {name} beyond line {line}: {source}")]
    Read { name: String, line: u64, source: io::Error },
    #[error(
        "{name} is empty or broke off within its first line: nothing was recorded, or the disk was full; record again"
    )]
    Empty { name: String },
    #[error("{name} is not a recording of gaia-monitor ({why}); give a file that `run --record` wrote")]
    NotARecording { name: String, why: String },
    #[error(
        "{name} is a recording of format {format}, and this gaia-monitor {here} reads format {known} only; \
         replay it with gaia-monitor {version}"
    )]
    OtherFormat { name: String, format: String, version: String, here: &'static str, known: &'static str },
    #[error(
        "{name}, line {line}: {why}; the file is damaged or was edited; `head -n {good}` of {lines} keeps what can be \
         replayed"
    )]
    Line { name: String, line: u64, good: u64, lines: &'static str, why: String },
}

pub struct Reader<R> {
    name: String,
    input: R,
    header: Header,
    /// The last line read, counted from 1.
    line: u64,
    /// The number that the next event must have.
    next_seq: u64,
    torn: bool,
    compressed: bool,
}

/// A file of either form.
type File = Box<dyn BufRead>;

impl Reader<File> {
    /// # Errors
    /// The file cannot be read, or its first line is not the header of a recording of this format.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let name = path.display().to_string();
        let open = || -> io::Result<(File, bool)> {
            let mut file = BufReader::with_capacity(BUFFER, fs::File::open(path)?);
            if compression::is_compressed(path, file.fill_buf()?) {
                Ok((compression::decompressed(file)?, true))
            } else {
                Ok((Box::new(file), false))
            }
        };
        match open() {
            Ok((file, compressed)) => Ok(Self { compressed, ..Self::new(name, file)? }),
            Err(source) => Err(RecordingError::Open { name, source }),
        }
    }
}

impl<R: BufRead> Reader<R> {
    /// # Errors
    /// As [`Reader::open`].
    pub fn new(name: String, mut input: R) -> Result<Self, RecordingError> {
        let mut line = Vec::new();
        match bounded::read_line(&mut input, MAX_LINE, &mut line) {
            Ok(LineRead::Whole | LineRead::End) => {}
            Ok(LineRead::TooLong) => {
                return Err(RecordingError::NotARecording { name, why: "its first line".to_owned() + &too_long() });
            }
            Err(source) if compression::is_torn(&source) => return Err(RecordingError::Empty { name }),
            Err(source) => return Err(RecordingError::Read { name, line: 0, source }),
        }
        if line.is_empty() {
            return Err(RecordingError::Empty { name });
        }
        let any: AnyHeader = match serde_json::from_slice(&line) {
            Ok(any) => any,
            Err(error) if error.is_eof() && line.last() != Some(&b'\n') => return Err(RecordingError::Empty { name }),
            Err(_) => {
                return Err(RecordingError::NotARecording { name, why: "its first line names no format".to_owned() });
            }
        };
        if any.format != FORMAT {
            return Err(match any.format.strip_prefix(FAMILY) {
                Some(format) => RecordingError::OtherFormat {
                    name,
                    format: format.to_owned(),
                    version: any.version.unwrap_or_else(|| "of a later version".to_owned()),
                    here: env!("CARGO_PKG_VERSION"),
                    known: FORMAT.trim_start_matches(FAMILY),
                },
                None => RecordingError::NotARecording { name, why: format!("its format is {:?}", any.format) },
            });
        }
        match serde_json::from_slice(&line) {
            Ok(header) => Ok(Self { name, input, header, line: 1, next_seq: 1, torn: false, compressed: false }),
            Err(error) => Err(RecordingError::NotARecording {
                name,
                why: format!("its first line: {}", without_types(&error.to_string())),
            }),
        }
    }

    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The last line or the last compressed frame broke off: the monitor was killed, or is still writing.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// The next entry, or `None` at the end.
    ///
    /// # Errors
    /// A line that is neither an event nor a gap, or an event out of order.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, RecordingError> {
        let mut text = Vec::new();
        match bounded::read_line(&mut self.input, MAX_LINE, &mut text) {
            Ok(LineRead::End) => return Ok(None),
            Ok(LineRead::Whole) => {}
            Ok(LineRead::TooLong) => {
                self.line += 1;
                return Err(self.bad_line("it".to_owned() + &too_long()));
            }
            Err(source) if compression::is_torn(&source) => {
                self.torn = true;
                return Ok(None);
            }
            Err(source) => return Err(RecordingError::Read { name: self.name.clone(), line: self.line, source }),
        }
        self.line += 1;
        let whole = text.last() == Some(&b'\n');
        let entry = if text.starts_with(GAP_PREFIX) {
            serde_json::from_slice::<GapLine>(&text).map(|line| Entry::Gap(line.gap.count))
        } else {
            serde_json::from_slice(&text).map(|event| Entry::Event(Box::new(event)))
        };
        let entry = match entry {
            Ok(entry) => entry,
            Err(_) if !whole => {
                self.torn = true;
                return Ok(None);
            }
            Err(error) => {
                return Err(
                    self.bad_line(format!("neither an event nor a gap ({})", without_types(&error.to_string())))
                );
            }
        };
        match &entry {
            Entry::Gap(count) => self.next_seq = self.next_seq.saturating_add(*count),
            Entry::Event(event) if event.seq == self.next_seq => self.next_seq = self.next_seq.saturating_add(1),
            Entry::Event(event) => {
                return Err(self.bad_line(format!("event {} stands where event {} belongs", event.seq, self.next_seq)));
            }
        }
        Ok(Some(entry))
    }

    /// The number of the event that comes next (behind a gap, the first one after it).
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    fn bad_line(&self, why: String) -> RecordingError {
        let lines = if self.compressed { "the output of `zstdcat`" } else { "it" };
        RecordingError::Line { name: self.name.clone(), line: self.line, good: self.line - 1, lines, why }
    }
}

fn too_long() -> String {
    format!(" is longer than {} MiB", MAX_LINE >> 20)
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor, Read as _, repeat};

    use super::{Entry, MAX_LINE, Reader, RecordingError};
    use crate::model::settings::Settings;
    use crate::model::time::Stamp;
    use crate::recording::format::Header;

    fn recording(lines: &str) -> Result<Reader<Cursor<Vec<u8>>>, RecordingError> {
        let header = Header::new("6.18.0".into(), Stamp(2), Stamp(1), Settings::default());
        let text = format!("{}\n{lines}", serde_json::to_string(&header).unwrap());
        Reader::new("R".into(), Cursor::new(text.into_bytes()))
    }

    const TICK: &str = r#"{"seq":1,"seen":10,"at":10,"fact":"tick"}"#;

    #[test]
    fn ends_at_a_torn_last_line_and_reports_it() {
        for cut in 1..TICK.len() {
            let mut reader = recording(&format!("{TICK}\n{}", &TICK[..cut])).unwrap();
            assert!(matches!(reader.next_entry(), Ok(Some(Entry::Event(_)))));
            assert_eq!(reader.next_entry().unwrap(), None);
            assert!(reader.is_torn());
        }
    }

    #[test]
    fn reads_a_last_line_without_a_newline() {
        let mut reader = recording(TICK).unwrap();
        assert!(matches!(reader.next_entry(), Ok(Some(Entry::Event(_)))));
        assert_eq!(reader.next_entry().unwrap(), None);
        assert!(!reader.is_torn());
    }

    #[test]
    fn names_the_line_that_is_invalid() {
        for bad in ["nonsense\n", "{\"gap\":1}\n", "\n", "{\"seq\":1}\n"] {
            let mut reader = recording(&format!("{TICK}\n{bad}")).unwrap();
            assert!(reader.next_entry().is_ok());
            let error = reader.next_entry().unwrap_err().to_string();
            assert!(error.starts_with("R, line 3: ") && error.contains("head -n 2"), "{error}");
        }
    }

    #[test]
    fn rejects_a_missing_event_without_a_gap_line() {
        let mut reader = recording(&format!("{TICK}\n{}\n", TICK.replace("\"seq\":1", "\"seq\":3"))).unwrap();
        assert!(reader.next_entry().is_ok());
        assert!(reader.next_entry().unwrap_err().to_string().contains("event 3 stands where event 2 belongs"));
    }

    #[test]
    fn accepts_missing_events_after_a_gap_line() {
        let text = format!("{TICK}\n{{\"gap\":{{\"count\":5}}}}\n{}\n", TICK.replace("\"seq\":1", "\"seq\":7"));
        let mut reader = recording(&text).unwrap();
        assert!(matches!(reader.next_entry(), Ok(Some(Entry::Event(_)))));
        assert_eq!(reader.next_entry().unwrap(), Some(Entry::Gap(5)));
        assert_eq!(reader.next_seq(), 7);
        assert!(matches!(reader.next_entry(), Ok(Some(Entry::Event(_)))));
    }

    fn refusal(text: &str) -> String {
        match Reader::new("R".into(), Cursor::new(text.as_bytes().to_vec())) {
            Ok(_) => panic!("{text:?} was taken for a recording"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn names_the_version_that_reads_another_format() {
        let error = refusal("{\"format\":\"gaia-monitor.recording/7\",\"version\":\"2.1.0\",\"more\":1}\n");
        assert!(error.contains("format 7") && error.contains("gaia-monitor 2.1.0"), "{error}");
    }

    #[test]
    fn refuses_a_line_without_an_end() {
        let endless = BufReader::new(repeat(0));
        match Reader::new("R".into(), endless) {
            Ok(_) => panic!("zeros were taken for a recording"),
            Err(error) => assert!(error.to_string().contains("its first line is longer than 16 MiB"), "{error}"),
        }
        let header = Header::new("6.18.0".into(), Stamp(2), Stamp(1), Settings::default());
        let text = format!("{}\n{TICK}\n", serde_json::to_string(&header).unwrap());
        let file = Cursor::new(text.into_bytes()).chain(repeat(b' ').take(MAX_LINE as u64 + 2));
        let mut reader = Reader::new("R".into(), BufReader::new(file)).unwrap();
        assert!(reader.next_entry().is_ok());
        let error = reader.next_entry().unwrap_err().to_string();
        assert!(error.starts_with("R, line 3: it is longer than 16 MiB") && error.contains("head -n 2"), "{error}");
    }

    #[test]
    fn rejects_files_that_are_not_recordings() {
        assert!(refusal("").contains("is empty"));
        assert!(refusal("{\"format\":\"gaia-mon").contains("broke off"));
        assert!(refusal("hello\n").contains("is not a recording"));
        assert!(refusal("{\"format\":\"else\"}\n").contains("its format is \"else\""));
        assert!(refusal("{\"format\":\"gaia-monitor.recording/2\"}\n").contains("missing field"));
    }
}
