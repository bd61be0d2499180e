//! `run`: watches this host. Wrong options, files that cannot be written and missing prerequisites are reported before
//! anything starts.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use super::{no_thread, print};
use crate::cli::Run;
use crate::config::{Config, Output, Seconds};
use crate::daemon::health::Health;
use crate::daemon::signals::EndSignals;
use crate::daemon::{self, DaemonError};
use crate::driver::Driver;
use crate::exit::{CommandFailure, Exit, chain};
use crate::output::Outputs;
use crate::output::journal::Journal;
use crate::output::json::JsonLines;
use crate::output::metrics::Metrics;
use crate::output::queue::Overflow;
use crate::output::terminal::{Terminal, stdout_takes_colour};
use crate::output::unprivileged::Unprivileged;
use crate::pipeline::clock::Clock;
use crate::privileges::{self, ThreadRole};
use crate::recording::file::{CreateError, Creation};
use crate::recording::format::Header;
use crate::recording::writer::Writer;
use crate::serve::pages::Pages;
use crate::serve::recent::Recent;
use crate::serve::{self, ListenError, Server};
use crate::stderr;

pub fn run(args: Run) -> Result<Exit, CommandFailure> {
    let config = match &args.config {
        Some(path) => Config::load(path).map_err(|error| CommandFailure::new(Exit::Usage, error))?,
        None => Config::default(),
    };
    let config = args.apply_to(config);
    if args.print_config {
        let text = toml::to_string_pretty(&config).map_err(|error| {
            CommandFailure::new(Exit::Internal, format_args!("cannot print the configuration: {error}"))
        })?;
        print(&text)?;
        return Ok(Exit::Ok);
    }
    let scope = config.clone().into_settings().scope;
    // Before the first thread: each inherits it.
    daemon::scheduling::request_short_slice();
    let signals = EndSignals::block().map_err(|error| {
        CommandFailure::new(
            Exit::Internal,
            format_args!("cannot wait for signals: {error}; raise the limit of open files"),
        )
    })?;
    let listen = config.listen.map(serve::bind).transpose()?;
    let health = Arc::new(Health::default());
    let (mut driver, server) = driver(&config, listen, &health)?;
    let fail_on = config.fail_on;
    if !fail_on.is_empty() {
        driver.require_outcome();
    }
    let options = daemon::Options {
        scope,
        docker_host: config.docker_host,
        ready_file: config.ready_file,
        duration: config.duration.map(Seconds::length),
        health: Arc::clone(&health),
    };
    let ended = daemon::run(&options, signals, &mut driver);
    drop(server);
    let outcome = driver.finish();
    // A run that ended before it knew the containers has watched nothing.
    if health.has_begun() {
        stderr::print(outcome.summary.text(&outcome.losses));
    }
    ended?;
    if outcome.summary.has_any(|kind| fail_on.iter().any(|listed| listed.includes(kind))) {
        return Err(CommandFailure::new(
            Exit::IncidentSeen,
            "an incident of a kind in --fail-on occurred; see the summary above",
        ));
    }
    Ok(Exit::Ok)
}

impl From<CreateError> for CommandFailure {
    fn from(error: CreateError) -> Self {
        CommandFailure::new(Exit::Usage, error)
    }
}

impl From<ListenError> for CommandFailure {
    fn from(error: ListenError) -> Self {
        CommandFailure::new(Exit::Usage, error)
    }
}

impl From<DaemonError> for CommandFailure {
    fn from(error: DaemonError) -> Self {
        if error.is_missing_prerequisite() {
            return CommandFailure::new(
                Exit::Missing,
                format_args!("{}; `gaia-monitor doctor` checks the requirements of this host", chain(&error)),
            );
        }
        let exit = if matches!(error, DaemonError::ReadyFile { .. }) { Exit::Usage } else { Exit::Internal };
        CommandFailure::new(exit, chain(&error))
    }
}

fn driver(
    config: &Config,
    listen: Option<TcpListener>,
    health: &Arc<Health>,
) -> Result<(Driver<'static>, Option<Server>), CommandFailure> {
    let settings = config.clone().into_settings();
    let clock = Clock::new();
    let started_at = clock.now();
    let boot = clock.stamp_of_boot(0);
    let mut outputs = Outputs::new(Overflow::Drop);
    if let Some(directory) = &config.journal.directory {
        let journal = Journal::create(directory, config.journal.limits(), config.file_access, move || clock.now())?;
        let foreign = privileges::is_foreign(directory);
        outputs.add(Unprivileged::in_directory(journal, foreign)).map_err(no_thread)?;
    }
    let recent = Recent::default();
    if listen.is_some() {
        outputs.add(Unprivileged::new(recent.clone())).map_err(no_thread)?;
    }
    match config.output {
        Output::Pretty => {
            let terminal = Terminal::new(io::stdout(), stdout_takes_colour(), settings.policy.clone());
            outputs.add(Unprivileged::new(terminal))
        }
        Output::Json => outputs.add(Unprivileged::new(JsonLines::new(io::stdout()).with_stories(config.stories))),
    }
    .map_err(no_thread)?;
    let recording = match &config.record {
        Some(path) => {
            let header = Header::new(kernel(), started_at, boot, settings.clone());
            let creation = Creation { force: config.force, access: config.file_access };
            Some(Writer::create(path, &header, creation)?)
        }
        None => None,
    };
    let pages = listen.is_some().then(|| {
        let readings = Arc::clone(health);
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), &kernel(), started_at, move || readings.read());
        let pages = Pages { metrics: metrics.handle(), health: Arc::clone(health), recent };
        outputs.add_fold(metrics);
        pages
    });
    let mut driver = Driver::new(settings, outputs);
    if let Some(writer) = recording {
        driver.record(Unprivileged::new(writer)).map_err(no_thread)?;
    }
    let server = match listen.zip(pages) {
        Some((listener, pages)) => Some(
            Server::start(listener, pages, ThreadRole::Server.thread(), || privileges::reduce(ThreadRole::Server))
                .map_err(no_thread)?,
        ),
        None => None,
    };
    Ok((driver, server))
}

fn kernel() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.release().to_string_lossy().into_owned())
}
