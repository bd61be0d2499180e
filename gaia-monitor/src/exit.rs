//! Exit codes, and the message of each failure. Scripts rely on the numbers.

use std::fmt;
use std::process::ExitCode;

/// How a command ended. `doctor` has meanings of its own for 1, 2 and 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok,
    /// A defect or an I/O failure of the monitor itself.
    Internal,
    /// Wrong usage or configuration.
    Usage,
    /// A privilege, a kernel feature or Docker is missing.
    Missing,
    /// A recording or journal that cannot be read, or a recording with gaps.
    UnreadableRecording,
    /// There was an incident of a kind in `--fail-on`.
    IncidentSeen,
    /// `explain` found no match.
    NothingFits,
    DoctorWarnings,
    DoctorFailures,
    DoctorPreflight,
}

impl Exit {
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Internal | Exit::DoctorWarnings => 1,
            Exit::Usage | Exit::DoctorFailures => 2,
            Exit::Missing | Exit::DoctorPreflight => 3,
            Exit::UnreadableRecording => 4,
            Exit::IncidentSeen => 5,
            Exit::NothingFits => 6,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// The early end of a command: its exit code and one message with the failure and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandFailure {
    pub exit: Exit,
    pub message: String,
}

impl CommandFailure {
    #[must_use]
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }
}

/// An error and its causes, from the outermost to the root, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        // Some errors of other crates repeat their cause.
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
