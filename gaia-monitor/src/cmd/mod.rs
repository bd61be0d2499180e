//! The verbs, one a file. They wire what the library offers and hold no logic of their own.

mod assets;
mod completions;
#[cfg(feature = "live")]
mod doctor;
mod explain;
mod replay;
#[cfg(feature = "live")]
mod run;

use std::io::{self, Write};

use clap::Parser;

use crate::cli::{Cli, Output, Verb};
use crate::exit::{Exit, Failure, chain};
use crate::recording::reader::RecordingError;
use crate::sinks::journal::JournalError;
use crate::sinks::json::JsonLines;
use crate::sinks::terminal::{Terminal, stdout_takes_colour};
use crate::sinks::{Sinks, notice};

/// The whole program, behind its `main`.
#[must_use]
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way, too. A closed output loses them and nothing else.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    let ended = match cli.verb {
        #[cfg(feature = "live")]
        Verb::Run(args) => run::run(args),
        Verb::Replay(args) => replay::replay(&args),
        Verb::Explain(args) => explain::explain(args),
        #[cfg(feature = "live")]
        Verb::Doctor(args) => doctor::doctor(&args),
        Verb::Assets(args) => assets::assets(&args),
        Verb::Completions(args) => completions::completions(&args),
    };
    match ended {
        Ok(exit) => exit,
        Err(failure) => {
            notice::error(&failure.message);
            failure.exit
        }
    }
}

impl From<RecordingError> for Failure {
    fn from(error: RecordingError) -> Self {
        Failure::new(Exit::UnreadableRecording, error)
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        let exit = match &error {
            JournalError::Directory { .. } | JournalError::Create { .. } => Exit::Usage,
            JournalError::Read { .. } | JournalError::NoJournal { .. } => Exit::UnreadableRecording,
        };
        Failure::new(exit, error)
    }
}

/// A thread that could not be started.
fn no_thread(error: io::Error) -> Failure {
    Failure::new(
        Exit::Internal,
        format_args!("cannot start a thread: {error}; raise the limit of processes (ulimit -u)"),
    )
}

/// Adds standard output to those who are told.
fn add_stdout(sinks: &mut Sinks, output: Output, explain: bool) -> Result<(), Failure> {
    match output {
        Output::Pretty => sinks.add(Terminal::new(io::stdout(), stdout_takes_colour(), explain)),
        Output::Json => sinks.add(JsonLines::new(io::stdout(), explain)),
    }
    .map_err(no_thread)
}

/// Prints a text that is the command's whole output. A reader that left early has what it wanted.
fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            Err(Failure::new(Exit::Internal, format_args!("cannot write to standard output: {}", chain(&error))))
        }
    }
}
