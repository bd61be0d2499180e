//! `cargo xtask run`: the monitor on this host's containers, for debugging.

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

/// Builds the monitor and replaces this process by it, so that Ctrl-C and the exit code are the monitor's own.
///
/// # Errors
/// When the build or the elevation fails.
pub fn run(args: Args) -> Result<()> {
    let binary = crate::test::build_monitor()?;
    let args: Vec<OsString> = std::iter::once("run".into()).chain(args.args).collect();
    Err(privilege::as_root(binary.as_os_str(), &args, &[])?.exec())
        .with_context(|| format!("cannot start {}", binary.display()))
}
