//! The compressed form of a recording: zstd frames, one after the other, each of whole lines.
//!
//! Frames share no history. A failed write is cut off without damage to what precedes it, and of a file that a killed
//! monitor left, every whole frame is read.

use std::io::{self, BufRead, BufReader};
use std::path::Path;

use zstd::bulk::Compressor;
use zstd::stream::raw::CParameter;

/// A file whose name ends like this is written in compressed form.
const ENDING: &str = "zst";

/// The first bytes of a zstd frame (RFC 8878, section 3.1.1).
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Faster than the JSON is made; the next levels save little on frames of this size.
const LEVEL: i32 = 3;

/// Is a file of this name written in compressed form?
#[must_use]
pub fn is_named(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == ENDING)
}

/// Is a file that begins like this in compressed form? The name decides only where the file ends within the magic.
#[must_use]
pub fn is_compressed(path: &Path, begin: &[u8]) -> bool {
    begin.starts_with(&MAGIC) || (is_named(path) && MAGIC.starts_with(begin))
}

/// The lines of a file in compressed form.
///
/// # Errors
/// No memory for the decoder.
pub fn decompressed(file: impl BufRead + 'static) -> io::Result<Box<dyn BufRead>> {
    Ok(Box::new(BufReader::new(zstd::Decoder::with_buffer(file)?)))
}

/// The file ends within a frame.
#[must_use]
pub fn is_torn(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

/// Turns batches of whole lines into frames.
pub struct Frames(Compressor<'static>);

impl Frames {
    /// # Errors
    /// No memory for the encoder.
    pub fn new() -> io::Result<Self> {
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(Self(compressor))
    }

    /// # Errors
    /// No memory.
    pub fn frame(&mut self, lines: &[u8]) -> io::Result<Vec<u8>> {
        self.0.compress(lines)
    }
}

#[cfg(feature = "live")]
#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::is_compressed;
    use crate::model::event::{Event, Fact};
    use crate::model::settings::Settings;
    use crate::model::time::Stamp;
    use crate::output::queue::Writer as _;
    use crate::recording::file::Creation;
    use crate::recording::format::Header;
    use crate::recording::reader::{Reader, RecordingError};
    use crate::recording::writer::Writer;

    /// A recording of three events, each two seconds after the last one: every event is in a frame of its own.
    fn recorded(place: &tempfile::TempDir) -> PathBuf {
        let path = place.path().join("r.jsonl.zst");
        let header = Header::new("6.18.0".into(), Stamp(2), Stamp(1), Settings::default());
        let mut writer = Writer::create(&path, &header, Creation::default()).unwrap();
        for seq in 1..=3 {
            let seen = Stamp(i64::try_from(seq).unwrap() * 2_000_000_000);
            writer.take(Event { seq, seen, at: seen, fact: Fact::Tick }, 0).unwrap();
            writer.idle().unwrap();
            writer.idle().unwrap();
        }
        writer.finish(0).unwrap();
        path
    }

    /// How many events a file holds, and whether it is torn.
    fn read(path: &Path) -> Result<(u64, bool), RecordingError> {
        let mut reader = Reader::open(path)?;
        let mut events = 0;
        while reader.next_entry()?.is_some() {
            events += 1;
        }
        Ok((events, reader.is_torn()))
    }

    #[test]
    fn reads_all_whole_frames_of_a_file_that_is_cut_anywhere() {
        let place = tempfile::tempdir().unwrap();
        let whole = std::fs::read(recorded(&place)).unwrap();
        let path = place.path().join("cut.jsonl.zst");
        let mut most = 0;
        let mut between_frames = 0;
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            match read(&path) {
                Ok((events, torn)) => {
                    assert!((most..=3).contains(&events), "{length}: {events}");
                    most = events;
                    between_frames += u64::from(!torn);
                }
                Err(RecordingError::Empty { .. }) => assert_eq!(most, 0, "{length}"),
                Err(error) => panic!("{length}: {error}"),
            }
        }
        // Between the frames of the header and the events. The last event is whole before its frame's checksum is.
        assert_eq!((most, between_frames), (3, 3));
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(read(&path).unwrap(), (3, false));
    }

    #[test]
    fn reads_either_form_whatever_its_name() {
        let place = tempfile::tempdir().unwrap();
        let path = recorded(&place);
        let plain = zstd::decode_all(std::fs::File::open(&path).unwrap()).unwrap();
        std::fs::rename(&path, place.path().join("r.jsonl")).unwrap();
        std::fs::write(&path, plain).unwrap();
        assert_eq!(read(&path).unwrap(), (3, false));
        assert_eq!(read(&place.path().join("r.jsonl")).unwrap(), (3, false));
    }

    #[test]
    fn reports_a_damaged_frame_as_an_error() {
        let place = tempfile::tempdir().unwrap();
        let path = recorded(&place);
        let mut bytes = std::fs::read(&path).unwrap();
        // The checksum of the last frame.
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(read(&path), Err(RecordingError::Read { line: 3 | 4, .. })), "{:?}", read(&path));
    }

    #[test]
    fn names_the_way_to_the_lines_of_a_damaged_file() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("r.zst");
        let lines = std::fs::read(recorded(&place)).unwrap();
        let mut lines = zstd::decode_all(lines.as_slice()).unwrap();
        lines.extend(b"{}\n");
        std::fs::write(&path, zstd::encode_all(lines.as_slice(), 1).unwrap()).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("line 5") && error.contains("`head -n 4` of the output of `zstdcat` keeps"), "{error}");
    }

    #[test]
    fn takes_a_name_for_the_form_only_within_the_magic() {
        let (plain, named) = (Path::new("r.jsonl"), Path::new("r.zst"));
        assert!(is_compressed(named, b"") && is_compressed(named, b"\x28\xb5"));
        assert!(is_compressed(plain, b"\x28\xb5\x2f\xfd\0"));
        assert!(!is_compressed(named, b"{\"format") && !is_compressed(plain, b"") && !is_compressed(plain, b"\x28"));
    }
}
