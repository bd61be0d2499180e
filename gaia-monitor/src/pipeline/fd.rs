//! Adapter from `AsFd`, which nix's types implement, to `AsRawFd`, which tokio's `AsyncFd` requires.

use std::os::fd::{AsFd, AsRawFd, RawFd};

#[derive(Debug)]
pub struct Raw<T>(pub T);

impl<T: AsFd> AsRawFd for Raw<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
