//! A writer that drops the privileges of its thread. Its thread starts before the monitor drops them for all later ones.

use std::time::Duration;

use super::queue::{WriteError, Writer};
use crate::privileges;

pub struct Unprivileged<W> {
    writer: W,
    /// It creates files in a directory of another user.
    foreign_directory: bool,
}

impl<W> Unprivileged<W> {
    pub fn new(writer: W) -> Self {
        Self { writer, foreign_directory: false }
    }

    /// A writer that keeps the privilege to create files in a directory of another user, if it is one.
    pub fn in_directory(writer: W, foreign_directory: bool) -> Self {
        Self { writer, foreign_directory }
    }
}

impl<T, W: Writer<T>> Writer<T> for Unprivileged<W> {
    fn kind(&self) -> &'static str {
        self.writer.kind()
    }
    fn name(&self) -> String {
        self.writer.name()
    }
    fn begin(&mut self) -> Result<(), WriteError> {
        privileges::reduce_writer(self.foreign_directory).map_err(WriteError::Closed)?;
        self.writer.begin()
    }
    fn take(&mut self, item: T, lost_before: u64) -> Result<(), WriteError> {
        self.writer.take(item, lost_before)
    }
    fn idle(&mut self) -> Result<(), WriteError> {
        self.writer.idle()
    }
    fn idle_interval(&self) -> Option<Duration> {
        self.writer.idle_interval()
    }
    fn finish(&mut self, lost: u64) -> Result<(), WriteError> {
        self.writer.finish(lost)
    }
}
