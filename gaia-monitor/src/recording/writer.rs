//! Writer of a recording. It never stops the run: events that cannot be written are lost, counted, and leave a gap line.
//!
//! Whole lines or none: after a failed write the file is cut back to its last good line. Plain lines are handed to the
//! kernel whenever the queue runs empty, so a killed monitor loses next to nothing; compressed ones after a second at
//! the latest, because a frame of a few lines saves nothing. The file is synced at the end only.

use std::borrow::Cow;
use std::io::{self, Write};
#[cfg(feature = "live")]
use std::path::Path;
use std::time::Duration;

#[cfg(feature = "live")]
use super::compression;
use super::compression::Frames;
#[cfg(feature = "live")]
use super::file::{CreateError, Creation, RecordingFile};
use super::format::{Gap, GapLine, Header};
use crate::model::event::Event;
use crate::model::time::{Nanos, Stamp};
use crate::output::queue::{self, WriteError};

/// Size of a write while the queue does not run empty.
const BATCH: usize = 64 * 1024;
/// Size of a frame, uncompressed: larger frames save little more.
const COMPRESSED_BATCH: usize = 256 * 1024;
/// How long lines of a compressed recording are gathered, by the events' own `seen`.
const GATHERED: Nanos = Nanos::from_secs(1);
/// The same, while no event comes.
const IDLE: Duration = Duration::from_secs(1);

/// Events that may wait for the writer: about 20 MiB.
pub const QUEUE: usize = 65_536;

/// Storage of a recording. The second implementation is the tests' disk that runs full.
pub trait Target: Write + Send + 'static {
    /// Removes what it held, before the header is written.
    fn begin(&mut self) -> io::Result<()>;
    /// Truncates to the first `length` bytes.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// Its last name was deleted: what is written to it cannot be read again.
    fn is_deleted(&self) -> bool;
    fn sync(&mut self) -> io::Result<()>;
}

pub struct Writer<T> {
    name: String,
    target: T,
    /// `None`: a plain recording.
    frames: Option<Frames>,
    /// The header, until the first event: a run that fails to start leaves an earlier recording alone.
    header: Option<Vec<u8>>,
    batch: Vec<u8>,
    /// When the first event of `batch` was seen.
    since: Option<Stamp>,
    /// The queue ran empty before, and nothing came since.
    idle: bool,
    /// Events in `batch`, and those that its gap lines count.
    batched: u64,
    batched_gaps: u64,
    /// Bytes of the target that are whole lines.
    good: u64,
    /// Lost since the last gap line.
    missing: u64,
}

#[cfg(feature = "live")]
impl Writer<RecordingFile> {
    /// Opens or creates the file; the first event replaces what it held. A name that ends in `.zst` makes it a
    /// compressed recording.
    ///
    /// # Errors
    /// The file cannot be opened for writing, holds a recording already, or another monitor writes to it.
    pub fn create(path: &Path, header: &Header, creation: Creation) -> Result<Self, CreateError> {
        let file = RecordingFile::open(path, creation)?;
        let failed = |source| CreateError::Open { path: path.to_owned(), source };
        Self::new(format!("the recording {}", path.display()), file, compression::is_named(path), header)
            .map_err(failed)
    }
}

impl<T: Target> Writer<T> {
    /// `name`: the recording's name in warnings.
    ///
    /// # Errors
    /// No memory for the compression.
    pub fn new(name: String, target: T, compressed: bool, header: &Header) -> io::Result<Self> {
        let mut line = serde_json::to_vec(header)?;
        line.push(b'\n');
        Ok(Self {
            name,
            target,
            frames: if compressed { Some(Frames::new()?) } else { None },
            header: Some(line),
            batch: Vec::new(),
            since: None,
            idle: false,
            batched: 0,
            batched_gaps: 0,
            good: 0,
            missing: 0,
        })
    }

    fn begin(&mut self) -> Result<(), WriteError> {
        let Some(header) = self.header.take() else { return Ok(()) };
        // Without its first line it is no recording.
        self.target.begin().and_then(|()| self.put(&header)).map_err(WriteError::Closed)
    }

    /// Writes whole lines in the file's form.
    fn put(&mut self, lines: &[u8]) -> io::Result<()> {
        let bytes = match &mut self.frames {
            Some(frames) => Cow::Owned(frames.frame(lines)?),
            None => Cow::Borrowed(lines),
        };
        self.target.write_all(&bytes)?;
        self.good += bytes.len() as u64;
        Ok(())
    }

    fn is_due(&self, seen: Stamp) -> bool {
        match (&self.frames, self.since) {
            (None, _) => self.batch.len() >= BATCH,
            (Some(_), since) => {
                let is_old = since.is_some_and(|since| seen.since(since) >= GATHERED);
                is_old || self.batch.len() >= COMPRESSED_BATCH
            }
        }
    }

    fn push_gap(&mut self) {
        if self.missing == 0 {
            return;
        }
        let line = GapLine { gap: Gap { count: self.missing } };
        if serde_json::to_writer(&mut self.batch, &line).is_ok() {
            self.batch.push(b'\n');
            self.batched_gaps += std::mem::take(&mut self.missing);
        }
    }

    fn write_batch(&mut self) -> Result<(), WriteError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        // A second file would lack the events that every later one builds on, so the recording ends here.
        if self.target.is_deleted() {
            return Err(WriteError::Closed(io::Error::other(
                "it was deleted while the monitor wrote to it, and is lost",
            )));
        }
        let mut batch = std::mem::take(&mut self.batch);
        let written = self.put(&batch);
        batch.clear();
        // Its memory is reused.
        self.batch = batch;
        self.since = None;
        let lost = std::mem::take(&mut self.batched);
        let gaps = std::mem::take(&mut self.batched_gaps);
        let Err(error) = written else { return Ok(()) };
        // The gap lines are lost as well: what they counted is missing again.
        self.missing += lost + gaps;
        match self.target.cut(self.good) {
            Ok(()) => Err(WriteError::Lost { count: lost, error }),
            // Half a line may remain there, so nothing can follow it.
            Err(_) => Err(WriteError::Closed(error)),
        }
    }
}

impl<T: Target> queue::Writer<Event> for Writer<T> {
    fn kind(&self) -> &'static str {
        "recording"
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn take(&mut self, event: Event, lost_before: u64) -> Result<(), WriteError> {
        self.begin()?;
        self.missing += lost_before;
        self.push_gap();
        let start = self.batch.len();
        if let Err(error) = serde_json::to_writer(&mut self.batch, &event) {
            self.batch.truncate(start);
            self.missing += 1;
            return Err(WriteError::Lost { count: 1, error: error.into() });
        }
        self.batch.push(b'\n');
        self.batched += 1;
        self.idle = false;
        self.since.get_or_insert(event.seen);
        if self.is_due(event.seen) { self.write_batch() } else { Ok(()) }
    }

    fn idle(&mut self) -> Result<(), WriteError> {
        let again = std::mem::replace(&mut self.idle, true);
        if self.frames.is_none() || again { self.write_batch() } else { Ok(()) }
    }

    fn idle_interval(&self) -> Option<Duration> {
        (!self.batch.is_empty()).then_some(IDLE)
    }

    fn finish(&mut self, lost: u64) -> Result<(), WriteError> {
        let mut result = self.write_batch();
        if !matches!(result, Err(WriteError::Closed(_))) {
            self.missing += lost;
            self.push_gap();
            result = result.and(self.write_batch());
        }
        result.and(self.target.sync().map_err(|error| WriteError::Lost { count: 0, error }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use super::{IDLE, Target, Writer};
    use crate::model::event::{Event, Fact};
    use crate::model::settings::Settings;
    use crate::model::time::Stamp;
    use crate::output::queue::{WriteError, Writer as _};
    use crate::recording::compression;
    use crate::recording::format::Header;
    use crate::recording::reader::{Entry, Reader};

    /// A disk of limited size.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Disk {
        fn of(size: usize) -> Self {
            Self(Arc::new(Mutex::new((Vec::new(), size))))
        }
        fn grow_to(&self, size: usize) {
            self.0.lock().unwrap().1 = size;
        }
        fn used(&self) -> usize {
            self.0.lock().unwrap().0.len()
        }
        fn content(&self) -> Vec<u8> {
            self.0.lock().unwrap().0.clone()
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (data, size) = &mut *self.0.lock().unwrap();
            let room = size.saturating_sub(data.len()).min(bytes.len());
            if room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            data.extend(&bytes[..room]);
            Ok(room)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Target for Disk {
        fn begin(&mut self) -> io::Result<()> {
            self.cut(0)
        }
        fn is_deleted(&self) -> bool {
            false
        }
        fn cut(&mut self, length: u64) -> io::Result<()> {
            self.0.lock().unwrap().0.truncate(usize::try_from(length).unwrap());
            Ok(())
        }
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn header() -> Header {
        Header::new("6.18.0".into(), Stamp(2), Stamp(1), Settings::default())
    }

    fn tick(seq: u64) -> Event {
        Event { seq, seen: Stamp(10), at: Stamp(10), fact: Fact::Tick }
    }

    fn read(disk: &Disk) -> Vec<Entry> {
        let content = disk.content();
        let lines = if compression::is_compressed(Path::new(""), &content) {
            compression::decompressed(io::Cursor::new(content)).unwrap()
        } else {
            Box::new(io::Cursor::new(content))
        };
        let mut reader = Reader::new("disk".into(), lines).unwrap();
        assert_eq!(*reader.header(), header());
        std::iter::from_fn(|| reader.next_entry().unwrap()).collect()
    }

    fn writer(disk: &Disk, compressed: bool) -> Writer<Disk> {
        Writer::new("test".into(), disk.clone(), compressed, &header()).unwrap()
    }

    #[test]
    fn reads_back_what_was_written() {
        for compressed in [false, true] {
            let disk = Disk::of(1 << 20);
            let mut writer = writer(&disk, compressed);
            writer.take(tick(1), 0).unwrap();
            writer.take(tick(4), 2).unwrap();
            writer.finish(3).unwrap();
            assert_eq!(
                read(&disk),
                [Entry::Event(Box::new(tick(1))), Entry::Gap(2), Entry::Event(Box::new(tick(4))), Entry::Gap(3)]
            );
        }
    }

    #[test]
    fn leaves_whole_lines_and_a_gap_when_the_disk_was_full() {
        for compressed in [false, true] {
            let disk = Disk::of(1 << 20);
            let mut writer = writer(&disk, compressed);
            writer.take(tick(1), 0).unwrap();
            writer.write_batch().unwrap();
            disk.grow_to(disk.used() + 10);
            writer.take(tick(2), 0).unwrap();
            assert!(matches!(writer.write_batch(), Err(WriteError::Lost { count: 1, .. })));
            writer.take(tick(3), 0).unwrap();
            // The batch of one event and one gap line is lost again, and both stay counted.
            assert!(matches!(writer.write_batch(), Err(WriteError::Lost { count: 1, .. })));
            disk.grow_to(1 << 20);
            writer.take(tick(4), 0).unwrap();
            writer.finish(0).unwrap();
            assert_eq!(read(&disk), [Entry::Event(Box::new(tick(1))), Entry::Gap(2), Entry::Event(Box::new(tick(4)))]);
        }
    }

    #[test]
    fn leaves_a_readable_recording_when_the_disk_stays_full() {
        for compressed in [false, true] {
            let disk = Disk::of(1 << 20);
            let mut writer = writer(&disk, compressed);
            writer.take(tick(1), 0).unwrap();
            writer.write_batch().unwrap();
            disk.grow_to(disk.used() + 3);
            writer.take(tick(2), 0).unwrap();
            assert!(writer.finish(0).is_err());
            assert_eq!(read(&disk), [Entry::Event(Box::new(tick(1)))]);
        }
    }

    #[test]
    fn writes_plain_lines_whenever_the_queue_is_empty() {
        let disk = Disk::of(1 << 20);
        let mut writer = writer(&disk, false);
        writer.take(tick(1), 0).unwrap();
        writer.idle().unwrap();
        assert_eq!(read(&disk).len(), 1);
        assert_eq!(writer.idle_interval(), None);
    }

    #[test]
    fn gathers_compressed_lines_for_a_second() {
        let disk = Disk::of(1 << 20);
        let mut writer = writer(&disk, true);
        let second = 1_000_000_000;
        for (seq, seen) in [(1, 0), (2, second - 1)] {
            writer.take(Event { seen: Stamp(seen), ..tick(seq) }, 0).unwrap();
            writer.idle().unwrap();
            assert!(read(&disk).is_empty());
        }
        writer.take(Event { seen: Stamp(second), ..tick(3) }, 0).unwrap();
        assert_eq!(read(&disk).len(), 3);
    }

    #[test]
    fn writes_compressed_lines_when_no_event_came_for_a_second() {
        let disk = Disk::of(1 << 20);
        let mut writer = writer(&disk, true);
        writer.take(tick(1), 0).unwrap();
        writer.idle().unwrap();
        assert_eq!((read(&disk).len(), writer.idle_interval()), (0, Some(IDLE)));
        writer.idle().unwrap();
        assert_eq!((read(&disk).len(), writer.idle_interval()), (1, None));
    }
}
