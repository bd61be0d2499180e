//! A journal file that left its place while the monitor writes to it: deleted, moved, or its file system unmounted.
//!
//! The open file stays writable, so no write fails; only the comparison of path and file shows it.

use std::io;

use super::{Journal, files};
use crate::model::time::Stamp;
use crate::output::queue::WriteError;
use crate::stderr;

impl<C: Fn() -> Stamp> Journal<C> {
    /// Continues in a new file if the current one is no longer found at its path. What a deleted file held is lost; a moved
    /// file keeps it.
    ///
    /// # Errors
    /// Lines were lost, or no new file could be created. While that lasts, a moved file is still written to.
    pub(super) fn keep_in_place(&mut self, now: Stamp) -> Result<(), WriteError> {
        if files::is_in_place(&self.path, self.lines.output()) {
            self.displaced = false;
            return Ok(());
        }
        let old = self.path.clone();
        let deleted = files::is_deleted(self.lines.output());
        let count = if deleted { std::mem::take(&mut self.count) } else { 0 };
        let what = if deleted { "was deleted" } else { "was moved" };
        match self.access.create_directory(&self.directory).and_then(|()| self.begin(now)) {
            Ok(()) => {
                self.displaced = false;
                stderr::warn(format_args!(
                    "the journal file {} {what} while the monitor wrote to it; {count} revisions are lost with it, and the \
                     journal continues in {}",
                    old.display(),
                    self.path.display()
                ));
                if count == 0 {
                    return Ok(());
                }
                Err(WriteError::Lost { count, error: io::Error::other("a file was deleted that the monitor wrote to") })
            }
            Err(error) => {
                if !std::mem::replace(&mut self.displaced, true) {
                    stderr::warn(format_args!(
                        "the journal file {} {what} while the monitor wrote to it, and no other can be created: {error}; this \
                         is tried again with each incident",
                        old.display()
                    ));
                }
                Err(WriteError::Lost { count, error })
            }
        }
    }
}
