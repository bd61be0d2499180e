//! Who may read what a run writes: recording and journal hold log lines, names and addresses of every container.
//!
//! A mode is exact, whatever the umask, because it is what the option states. Files and directories that exist already
//! keep the mode that their owner gave them, except a recording that is replaced: its new content is of this run.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Files 0600, directories 0700.
    #[default]
    Owner,
    /// Files 0640, directories 0750.
    Group,
    /// Files 0644, directories 0755.
    All,
}

impl Access {
    #[must_use]
    pub const fn file_mode(self) -> u32 {
        match self {
            Access::Owner => 0o600,
            Access::Group => 0o640,
            Access::All => 0o644,
        }
    }

    /// A directory that can be listed can be entered.
    #[must_use]
    pub const fn directory_mode(self) -> u32 {
        match self {
            Access::Owner => 0o700,
            Access::Group => 0o750,
            Access::All => 0o755,
        }
    }

    /// Creates a new file. A file or a link of that name, also one that leads nowhere, is an error.
    ///
    /// # Errors
    /// The file exists or cannot be created.
    pub fn create_new(self, options: &mut OpenOptions, path: &Path) -> io::Result<File> {
        let file = options.create_new(true).mode(self.file_mode()).open(path)?;
        self.apply(&file)?;
        Ok(file)
    }

    /// Sets the mode of an open file. What is no regular file (a pipe, a device) is left alone: it is not the run's.
    ///
    /// # Errors
    /// The file belongs to another user.
    pub fn apply(self, file: &File) -> io::Result<()> {
        let found = file.metadata()?;
        if !found.is_file() || found.permissions().mode() & 0o777 == self.file_mode() {
            return Ok(());
        }
        file.set_permissions(Permissions::from_mode(self.file_mode()))
    }

    /// Creates the directory and those above it that are missing.
    ///
    /// # Errors
    /// A directory cannot be created.
    pub fn create_directory(self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.create_directory(parent)?;
        }
        match DirBuilder::new().mode(self.directory_mode()).create(path) {
            Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(self.directory_mode())),
            // Another monitor has created it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::Access;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn creates_files_and_directories_with_exact_modes() {
        for (access, file, directory) in
            [(Access::Owner, 0o600, 0o700), (Access::Group, 0o640, 0o750), (Access::All, 0o644, 0o755)]
        {
            let place = tempfile::tempdir().unwrap();
            let below = place.path().join("a/b");
            access.create_directory(&below).unwrap();
            access.create_directory(&below).unwrap();
            let path = below.join("file");
            access.create_new(OpenOptions::new().write(true), &path).unwrap();
            assert_eq!((mode(&path), mode(&below), mode(&place.path().join("a"))), (file, directory, directory));
        }
    }

    #[test]
    fn leaves_an_existing_directory_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o711)).unwrap();
        Access::All.create_directory(place.path()).unwrap();
        assert_eq!(mode(place.path()), 0o711);
    }

    #[test]
    fn refuses_a_planted_link() {
        let place = tempfile::tempdir().unwrap();
        let (link, target) = (place.path().join("link"), place.path().join("target"));
        symlink(&target, &link).unwrap();
        Access::Owner.create_new(OpenOptions::new().write(true), &link).unwrap_err();
        assert!(!target.exists());
    }

    #[test]
    fn leaves_devices_alone() {
        let null = File::options().write(true).open("/dev/null").unwrap();
        let before = mode(Path::new("/dev/null"));
        Access::Owner.apply(&null).unwrap();
        assert_eq!(mode(Path::new("/dev/null")), before);
    }
}
