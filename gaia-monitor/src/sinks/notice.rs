//! Standard error: what the monitor says about itself, one line each.
//!
//! Never a panic: a closed standard error loses the line and nothing else.

use std::fmt::Display;
use std::io::Write;

/// What went wrong or what to know; the program goes on.
pub fn warn(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "gaia-monitor: warning: {text}");
}

/// The message that goes with a failing exit code.
pub fn error(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "gaia-monitor: {text}");
}

/// Text that is complete in itself, such as the summary.
pub fn print(text: impl Display) {
    let _ = write!(std::io::stderr().lock(), "{text}");
}
