//! Generator of `gaia-monitor/docs/accuracy.md`: the table, with kernel and versions.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use gaia_monitor_tests::host as workspace;
use gaia_monitor_tests::live_case::LiveCase as Row;

use super::host::versions;
use super::results::Results;
use super::table;

const PAGE: &str = "gaia-monitor/docs/accuracy.md";

const HEAD: &str = "# Accuracy

Written by `cargo xtask matrix --all --write`; do not edit.

Each live case causes one fault (or something that must not be mistaken for one) with real containers: uvicorn or gunicorn
as the server, httpx or requests as the client. The monitor's output is compared with two witnesses that share nothing with
it: the exceptions of the client, and bpftrace on the kernel's own tracepoints.

* **class right**: the httpx class of every client error, with its detail, errno and phase, and whether it is retried.
* **cause right**: kind, signal or exit code, sender, subject, confidence and condition.
* **all covered**: every failed connection and lookup has its entry, and no other has one.
* **moment off**: the incident's moment against the witness's record of the same fact.
* **published after exception**: from the client's exception to the first line; negative where the line came first.
* **settled after**: from the last fact to the line that reports the verdict as settled.
* **false**: incidents without a fault.

Milliseconds are median, largest. Live cases that run several at a time (`--jobs`) increase every delay; interface changes
are stamped when they are read, and are delayed with them. `cargo xtask matrix --list` describes each live case.
";

/// Writes the page.
///
/// # Errors
/// When a version cannot be determined or the file cannot be written.
pub fn write(rows: &[Row], results: &Results) -> Result<()> {
    let mut page = HEAD.to_owned();
    let subject = results.subject();
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## Measured\n\n{}\n\n", table::of(rows, results));
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let _ = writeln!(page, "Linux {}, {processors} processors, commit {}.\n", subject.kernel, subject.commit);
    for (name, version) in versions()? {
        let _ = writeln!(page, "* {name} {version}");
    }
    let path = workspace::workspace().join(PAGE);
    std::fs::write(&path, page).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("written: {}", path.display());
    Ok(())
}
