//! Limits of a journal's size and age. A limit always removes the oldest whole file.

use crate::model::time::Nanos;

const MIB: u64 = 1 << 20;
const DAY: i64 = 24 * 60 * 60;

/// Four limits; their defaults are documented in `assets/config/gaia-monitor.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A line that would exceed it begins the next file. A single longer line still gets a file.
    pub file_bytes: u64,
    /// A line this long after the file's first instant begins the next file.
    pub file_age: Nanos,
    /// The oldest files are removed while the total is larger.
    pub total_bytes: u64,
    /// A file is removed when its last line is older than this.
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
