//! The `docker` command, wrapped: an argument list in, standard output or an error with the reason out.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{OnInterrupt, Printed, run};

/// Runs `docker ARGS` and returns its standard output. Ends early on Ctrl-C.
///
/// # Errors
/// With Docker's own message.
pub fn docker<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Result<String> {
    Ok(both(args)?.stdout)
}

/// The same with both streams: `docker logs` keeps them apart.
///
/// # Errors
/// With Docker's own message.
pub fn both<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Result<Printed> {
    run(Command::new("docker").args(args), OnInterrupt::End)
}

/// The same for cleaning up: Ctrl-C does not end it.
///
/// # Errors
/// With Docker's own message.
pub fn always<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Result<String> {
    Ok(run(Command::new("docker").args(args), OnInterrupt::Finish)?.stdout)
}

/// Is an engine answering? Returns its version.
///
/// # Errors
/// With one sentence that names the remedy.
pub fn version() -> Result<String> {
    let version = docker(["version", "--format", "{{.Server.Version}}"])
        .context("Docker does not answer: install and start it (Debian: `apt install docker.io`), and run as root")?;
    Ok(version.trim().to_owned())
}

/// All values that a label has on containers and networks.
///
/// # Errors
/// When Docker does not respond.
pub fn label_values(label: &str) -> Result<BTreeSet<String>> {
    let filter = format!("label={label}");
    let format = format!("{{{{.Label {label:?}}}}}");
    let mut values = BTreeSet::new();
    for list in [vec!["ps", "--all"], vec!["network", "ls"]] {
        let text = always(list.into_iter().chain(["--filter", filter.as_str(), "--format", format.as_str()]))?;
        values.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned));
    }
    Ok(values)
}
