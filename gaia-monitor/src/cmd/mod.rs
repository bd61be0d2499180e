//! The subcommands, one a file. They connect parts of the library and contain no logic of their own.

mod assets;
mod completions;
#[cfg(feature = "live")]
mod doctor;
mod explain;
mod replay;
#[cfg(feature = "live")]
mod run;

use std::io::{self, Write};

use clap::FromArgMatches;

use crate::cli::{self, Cli, Verb};
use crate::config::Output;
use crate::exit::{CommandFailure, Exit, chain};
use crate::model::settings::Settings;
use crate::output::Outputs;
use crate::output::journal::JournalError;
use crate::output::json::JsonLines;
use crate::output::terminal::{Terminal, stdout_takes_colour};
use crate::recording::reader::RecordingError;
use crate::stderr;

/// The whole program behind `main`.
#[must_use]
pub fn main() -> Exit {
    let parsed = cli::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version, too. A closed output loses them and nothing else.
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
            stderr::error(&failure.message);
            failure.exit
        }
    }
}

impl From<RecordingError> for CommandFailure {
    fn from(error: RecordingError) -> Self {
        CommandFailure::new(Exit::UnreadableRecording, error)
    }
}

impl From<JournalError> for CommandFailure {
    fn from(error: JournalError) -> Self {
        let exit = match &error {
            JournalError::Directory { .. } | JournalError::Create { .. } => Exit::Usage,
            JournalError::Read { .. } | JournalError::NoJournal { .. } | JournalError::Unreadable { .. } => {
                Exit::UnreadableRecording
            }
        };
        CommandFailure::new(exit, error)
    }
}

/// The failure of a thread that cannot be started.
fn no_thread(error: io::Error) -> CommandFailure {
    CommandFailure::new(
        Exit::Internal,
        format_args!("cannot start a thread: {error}; raise the limit of processes (ulimit -u)"),
    )
}

/// Adds standard output in the chosen form.
fn add_stdout(
    outputs: &mut Outputs<'_>,
    output: Output,
    explain: bool,
    settings: &Settings,
) -> Result<(), CommandFailure> {
    let terminal = || Terminal::new(io::stdout(), stdout_takes_colour(), settings.policy.clone());
    let lines = || JsonLines::new(io::stdout()).with_stories(settings.stories);
    match (output, explain) {
        (Output::Pretty, false) => outputs.add(terminal()),
        (Output::Pretty, true) => outputs.add_explaining(terminal()),
        (Output::Json, false) => outputs.add(lines()),
        (Output::Json, true) => outputs.add_explaining(lines()),
    }
    .map_err(no_thread)
}

/// Prints the whole output of a command. A reader may close the pipe early.
fn print(text: &str) -> Result<(), CommandFailure> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            Err(CommandFailure::new(Exit::Internal, format_args!("cannot write to standard output: {}", chain(&error))))
        }
    }
}
