//! `cargo xtask run`: the monitor on this host's containers, for a debugging session.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::privilege;

#[derive(clap::Args)]
pub struct Args {
    /// Arguments of `gaia-monitor run`.
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// Builds and replaces this process by the monitor, so that Ctrl-C and the exit code are its own.
///
/// # Errors
/// When it cannot be built or root cannot be had.
pub fn run(args: Args) -> Result<()> {
    let binary = crate::test::build_monitor()?;
    let args: Vec<OsString> = std::iter::once("run".into()).chain(args.args).collect();
    Err(privilege::as_root(binary.as_os_str(), &args, &[])?.exec())
        .with_context(|| format!("cannot start {}", binary.display()))
}
