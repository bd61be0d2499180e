//! Messages of the monitor on standard error, one line each.
//!
//! Text of containers, of Docker and of files passes through [`one_line`]. They never panic: a closed standard error loses the line and nothing else.

use std::fmt::Display;
use std::io::Write;

use crate::text::one_line;

/// A warning; the program continues.
pub fn warn(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "gaia-monitor: warning: {}", one_line(&text.to_string()));
}

/// The message of a failing exit code.
pub fn error(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "gaia-monitor: {}", one_line(&text.to_string()));
}

/// Text without a prefix, such as the summary.
pub fn print(text: impl Display) {
    let _ = write!(std::io::stderr().lock(), "{text}");
}
