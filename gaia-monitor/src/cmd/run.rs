//! `run`: watches this host. What is wrong with options, files or the host is said before anything is touched.

use std::path::Path;

use super::{add_stdout, no_thread, print};
use crate::belt::Belt;
use crate::cli::Run;
use crate::config::Config;
use crate::daemon::{self, DaemonError};
use crate::engine::settings::Settings;
use crate::exit::{Exit, Failure, chain};
use crate::pipeline::clock::Clock;
use crate::recording::format::Header;
use crate::recording::writer::Writer;
use crate::sinks::journal::{Journal, Limits};
use crate::sinks::lane::Pace;
use crate::sinks::{Sinks, notice};

pub fn run(args: Run) -> Result<Exit, Failure> {
    let config = configured(&args)?;
    if args.print_config {
        let text = toml::to_string_pretty(&config)
            .map_err(|error| Failure::new(Exit::Internal, format_args!("cannot print the configuration: {error}")))?;
        print(&text)?;
        return Ok(Exit::Ok);
    }
    let mut belt = belt(&args, config.into_settings())?;
    if args.fail_on.is_some() {
        belt.await_outcome();
    }
    let options =
        daemon::Options { docker_host: args.docker_host, ready_file: args.ready_file, duration: args.duration };
    let ended = daemon::run(&options, &mut belt);
    let outcome = belt.finish();
    if outcome.summary.has_begun() {
        notice::print(outcome.summary.text(&outcome.shortfalls));
    }
    ended?;
    match args.fail_on {
        Some(kinds) if outcome.summary.has_any(|kind| kinds.includes(kind)) => Err(Failure::new(
            Exit::IncidentSeen,
            "there was an incident of those that --fail-on names; the summary above counts them",
        )),
        Some(_) | None => Ok(Exit::Ok),
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        if error.is_missing_prerequisite() {
            return Failure::new(
                Exit::Missing,
                format_args!("{}; `gaia-monitor doctor` checks what this host lacks", chain(&error)),
            );
        }
        let exit = if matches!(error, DaemonError::ReadyFile { .. }) { Exit::Usage } else { Exit::Internal };
        Failure::new(exit, chain(&error))
    }
}

/// The file, then the flags over it.
fn configured(args: &Run) -> Result<Config, Failure> {
    let mut config = match &args.config {
        Some(path) => Config::load(path).map_err(|error| Failure::new(Exit::Usage, error))?,
        None => Config::default(),
    };
    config.include_cancelled |= args.include_cancelled;
    let scope = &mut config.scope;
    let flags = [
        (&args.projects, &mut scope.projects),
        (&args.containers, &mut scope.containers),
        (&args.labels, &mut scope.labels),
    ];
    for (flag, list) in flags {
        if !flag.is_empty() {
            list.clone_from(flag);
        }
    }
    Ok(config)
}

fn belt(args: &Run, settings: Settings) -> Result<Belt, Failure> {
    let clock = Clock::new();
    let started_at = clock.now();
    let mut sinks = Sinks::new(Pace::Live);
    if let Some(directory) = &args.journal {
        sinks.add(Journal::create(directory, Limits::default(), move || Clock::new().now())?).map_err(no_thread)?;
    }
    add_stdout(&mut sinks, args.output, false)?;
    let recording = match &args.record {
        Some(path) => {
            let header = Header::new(kernel(), started_at, clock.stamp_of_boot(0), settings.clone());
            Some(Writer::create(path, &header).map_err(|error| cannot_record(path, &error))?)
        }
        None => None,
    };
    let mut belt = Belt::new(settings, sinks);
    if let Some(writer) = recording {
        belt.record(writer).map_err(no_thread)?;
    }
    Ok(belt)
}

fn kernel() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.release().to_string_lossy().into_owned())
}

fn cannot_record(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        Exit::Usage,
        format_args!(
            "cannot write the recording {}: {error}; give --record a path that can be written",
            path.display()
        ),
    )
}
