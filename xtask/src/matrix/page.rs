//! `gaia-monitor/docs/accuracy.md`: the table with kernel and versions. Generated, never edited by hand.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use gaia_monitor_tests::host as workspace;
use gaia_monitor_tests::row::Row;

use super::host::versions;
use super::results::Results;
use super::table;

const PAGE: &str = "gaia-monitor/docs/accuracy.md";

const HEAD: &str = "# How right it is

Written by `cargo xtask matrix --all --write`; do not edit.

Each row plays one thing that can go wrong (or must not be mistaken for it) with real containers: uvicorn or gunicorn
as the server, httpx or requests as the client. What the monitor says is held against two witnesses that share nothing
with it: the exceptions that the client really got, and bpftrace on the kernel's own tracepoints.

* **class right**: every client's error as httpx has it, with its detail, errno and phase, and whether it is retried.
* **cause right**: kind, signal or exit code, sender, subject, confidence and condition.
* **all covered**: every connection and look-up that broke has its entry, and no other has one.
* **moment off**: the incident's moment against the instrument's record of the same fact.
* **told after exception**: from the client's exception to the first line; negative where the line came first.
* **settled after**: from the last fact to the line that says that the verdict stands.
* **false**: incidents that nothing calls for.

Milliseconds are median, largest. Rows that are played several at a time (`--jobs`) stretch every lag; what interfaces did
is stamped when it is read, and lags with them. `cargo xtask matrix --list` says what each row tells.
";

/// Writes the page.
///
/// # Errors
/// When versions cannot be told or the file cannot be written.
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
