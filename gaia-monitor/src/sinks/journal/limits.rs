//! How large and how old a journal may get. What a limit costs is always the oldest: a whole file at a time.

use crate::model::time::Nanos;

const MIB: u64 = 1 << 20;
const DAY: i64 = 24 * 60 * 60;

/// Four limits; each one's default is documented beside the configuration's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A line that would make the file larger begins the next one. A single longer line still gets a file.
    pub file_bytes: u64,
    /// A line that comes later than this after the file's beginning begins the next one.
    pub file_age: Nanos,
    /// The oldest files go while all together are larger.
    pub total_bytes: u64,
    /// A file goes when its last line is older than this.
    pub age: Nanos,
}

impl Default for Limits {
    /// A revision has some 3 KiB: 64 MiB are about 20,000 of them, and `explain` reads a gigabyte in seconds.
    fn default() -> Self {
        Self {
            file_bytes: 64 * MIB,
            file_age: Nanos::from_secs(DAY),
            total_bytes: 1024 * MIB,
            age: Nanos::from_secs(90 * DAY),
        }
    }
}
