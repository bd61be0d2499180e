//! The file of a recording: one monitor writes it, and an earlier recording is replaced only on request.
//!
//! The lock belongs to the open file, so a killed monitor leaves none behind.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::writer::Target;
use crate::access::Access;
use crate::stderr;

/// How to treat a file that exists, and who may read the recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Creation {
    /// The first event replaces an earlier recording.
    pub force: bool,
    pub access: Access,
}

#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error("cannot write the recording {}: {source}; give --record a path that can be written", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("the file {} exists already; give --record another path, or replace it with --force", path.display())]
    Exists { path: PathBuf },
    #[error("another monitor is writing the recording {}; give --record another path", path.display())]
    InUse { path: PathBuf },
    #[error(
        "the file {} belongs to another user, who could read the recording; remove it, or give --record another path",
        path.display()
    )]
    Foreign { path: PathBuf },
}

#[derive(Debug)]
pub struct RecordingFile {
    file: File,
    access: Access,
    /// A pipe, a terminal or a device holds nothing that could be replaced, locked or deleted.
    regular: bool,
}

impl RecordingFile {
    /// Opens or creates the file and locks it until it is dropped. An existing file keeps its content until
    /// [`Target::begin`]: a run that fails to start leaves an earlier recording alone.
    ///
    /// # Errors
    /// It cannot be opened, is not empty, belongs to another user, or another monitor holds its lock.
    pub fn open(path: &Path, creation: Creation) -> Result<Self, CreateError> {
        let Creation { force, access } = creation;
        let failed = |source| CreateError::Open { path: path.to_owned(), source };
        let (file, created) = match access.create_new(OpenOptions::new().write(true), path) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (OpenOptions::new().write(true).open(path).map_err(failed)?, false)
            }
            Err(error) => return Err(failed(error)),
        };
        let regular = file.metadata().map_err(failed)?.is_file();
        if regular {
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(CreateError::InUse { path: path.to_owned() }),
                Err(TryLockError::Error(error)) => stderr::warn(format_args!(
                    "the recording {} cannot be locked ({error}): a second monitor would not be refused",
                    path.display()
                )),
            }
            // Read after the lock is held: another monitor may have ended since the file was opened.
            let found = file.metadata().map_err(failed)?;
            if !created && found.uid() != nix::unistd::geteuid().as_raw() {
                return Err(CreateError::Foreign { path: path.to_owned() });
            }
            if found.len() > 0 && !force {
                return Err(CreateError::Exists { path: path.to_owned() });
            }
        }
        Ok(Self { file, access, regular })
    }
}

impl Write for RecordingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Target for RecordingFile {
    fn begin(&mut self) -> io::Result<()> {
        if !self.regular {
            return Ok(());
        }
        self.access.apply(&self.file)?;
        self.cut(0)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.file.seek(SeekFrom::Start(length)).map(drop)
    }

    fn is_deleted(&self) -> bool {
        self.regular && self.file.metadata().is_ok_and(|found| found.nlink() == 0)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.regular { self.file.sync_data() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::{CreateError, Creation, RecordingFile};
    use crate::access::Access;
    use crate::model::event::{Event, Fact};
    use crate::model::settings::Settings;
    use crate::model::time::Stamp;
    use crate::output::queue::{WriteError, Writer as _};
    use crate::recording::format::Header;
    use crate::recording::reader::{Entry, Reader};
    use crate::recording::writer::Writer;

    const FORCE: Creation = Creation { force: true, access: Access::Owner };

    fn create(path: &Path, creation: Creation) -> Result<Writer<RecordingFile>, CreateError> {
        Writer::create(path, &Header::new("6.18.0".into(), Stamp(2), Stamp(1), Settings::default()), creation)
    }

    fn tick(seq: u64) -> Event {
        Event { seq, seen: Stamp(10), at: Stamp(10), fact: Fact::Tick }
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    fn refusal(path: &Path, creation: Creation) -> CreateError {
        match create(path, creation) {
            Ok(_) => panic!("{} was opened", path.display()),
            Err(error) => error,
        }
    }

    #[test]
    fn replaces_an_earlier_recording_only_by_force_and_with_the_first_event() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("r");
        let earlier = "earlier, and longer than what comes now, however long a header may be".repeat(20);
        fs::write(&path, &earlier).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(refusal(&path, Creation::default()), CreateError::Exists { .. }));
        create(&path, FORCE).unwrap().finish(0).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap(), mode(&path)), (earlier, 0o644));
        let mut writer = create(&path, FORCE).unwrap();
        writer.take(tick(1), 0).unwrap();
        writer.finish(0).unwrap();
        assert_eq!(mode(&path), 0o600);
        let mut reader = Reader::open(&path).unwrap();
        assert_eq!(reader.next_entry().unwrap(), Some(Entry::Event(Box::new(tick(1)))));
        assert_eq!(reader.next_entry().unwrap(), None);
    }

    #[test]
    fn refuses_a_file_that_another_monitor_writes() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("r");
        // Before its first event the file is empty, and still in use.
        let first = create(&path, Creation::default()).unwrap();
        for creation in [Creation::default(), FORCE] {
            assert!(matches!(refusal(&path, creation), CreateError::InUse { .. }));
        }
        drop(first);
        create(&path, Creation::default()).unwrap();
    }

    #[test]
    fn creates_it_with_the_chosen_mode_and_takes_an_empty_file() {
        let place = tempfile::tempdir().unwrap();
        for (name, access, expected) in
            [("a", Access::Owner, 0o600), ("b", Access::Group, 0o640), ("c", Access::All, 0o644)]
        {
            let path = place.path().join(name);
            let creation = Creation { force: false, access };
            create(&path, creation).unwrap();
            assert_eq!(mode(&path), expected);
            fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
            let mut writer = create(&path, creation).unwrap();
            writer.take(tick(1), 0).unwrap();
            assert_eq!(mode(&path), expected);
        }
    }

    #[test]
    fn writes_to_a_device_without_changing_it() {
        let before = mode(Path::new("/dev/null"));
        let mut writer = create(Path::new("/dev/null"), Creation::default()).unwrap();
        let _second = create(Path::new("/dev/null"), Creation::default()).unwrap();
        writer.take(tick(1), 0).unwrap();
        writer.finish(0).unwrap();
        assert_eq!(mode(Path::new("/dev/null")), before);
    }

    #[test]
    fn ends_with_a_reason_when_its_file_is_deleted() {
        let place = tempfile::tempdir().unwrap();
        let (path, moved) = (place.path().join("r"), place.path().join("moved"));
        let mut writer = create(&path, Creation::default()).unwrap();
        writer.take(tick(1), 0).unwrap();
        fs::rename(&path, &moved).unwrap();
        writer.idle().unwrap();
        writer.take(tick(2), 0).unwrap();
        fs::remove_file(&moved).unwrap();
        let WriteError::Closed(error) = writer.idle().unwrap_err() else { panic!("the loss must end the recording") };
        assert!(error.to_string().contains("was deleted"), "{error}");
    }
}
