//! `run`: watches this host. What is wrong with options, files or the host is said before anything is touched.

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{no_thread, print};
use crate::belt::Belt;
use crate::cli::{Output, Run};
use crate::config::{Config, Seconds};
use crate::daemon::health::Health;
use crate::daemon::{self, DaemonError};
use crate::exit::{Exit, Failure, chain};
use crate::pipeline::clock::Clock;
use crate::privileges::{self, Role};
use crate::recording::format::Header;
use crate::recording::writer::Writer;
use crate::serve::pages::Pages;
use crate::serve::recent::Recent;
use crate::serve::{self, ListenError, Server};
use crate::sinks::journal::Journal;
use crate::sinks::json::JsonLines;
use crate::sinks::lane::{Drain, Pace, Trouble};
use crate::sinks::metrics::Metrics;
use crate::sinks::terminal::{Terminal, stdout_takes_colour};
use crate::sinks::{Sinks, notice};

pub fn run(args: Run) -> Result<Exit, Failure> {
    let config = match &args.config {
        Some(path) => Config::load(path).map_err(|error| Failure::new(Exit::Usage, error))?,
        None => Config::default(),
    };
    let config = config.with(&args);
    if args.print_config {
        let text = toml::to_string_pretty(&config)
            .map_err(|error| Failure::new(Exit::Internal, format_args!("cannot print the configuration: {error}")))?;
        print(&text)?;
        return Ok(Exit::Ok);
    }
    let scope = config.clone().into_settings().scope;
    // Before the first thread: each inherits it.
    daemon::scheduling::request_short_slice();
    let listen = config.listen.map(serve::bind).transpose()?;
    let health = Arc::new(Health::default());
    let (mut belt, server) = belt(&config, listen, &health)?;
    let fail_on = config.fail_on;
    if !fail_on.is_empty() {
        belt.await_outcome();
    }
    let options = daemon::Options {
        scope,
        docker_host: config.docker_host,
        ready_file: config.ready_file,
        duration: config.duration.map(Seconds::length),
        health,
    };
    let ended = daemon::run(&options, &mut belt);
    drop(server);
    let outcome = belt.finish();
    if outcome.summary.has_begun() {
        notice::print(outcome.summary.text(&outcome.shortfalls));
    }
    ended?;
    if outcome.summary.has_any(|kind| fail_on.iter().any(|word| word.includes(kind))) {
        return Err(Failure::new(
            Exit::IncidentSeen,
            "there was an incident of those that --fail-on names; the summary above counts them",
        ));
    }
    Ok(Exit::Ok)
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        Failure::new(Exit::Usage, error)
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

fn belt(config: &Config, listen: Option<TcpListener>, health: &Arc<Health>) -> Result<(Belt, Option<Server>), Failure> {
    let settings = config.clone().into_settings();
    let clock = Clock::new();
    let started_at = clock.now();
    let boot = clock.stamp_of_boot(0);
    let mut sinks = Sinks::new(Pace::Live);
    if let Some(directory) = &config.journal.directory {
        let journal = Journal::create(directory, config.journal.limits(), move || clock.now())?;
        let foreign = privileges::is_foreign(directory);
        sinks.add(Reduced { writer: journal, foreign }).map_err(no_thread)?;
    }
    let recent = Recent::default();
    if listen.is_some() {
        sinks.add(Reduced::of(recent.clone())).map_err(no_thread)?;
    }
    match config.output {
        Output::Pretty => sinks.add(Reduced::of(Terminal::new(io::stdout(), stdout_takes_colour(), false))),
        Output::Json => sinks.add(Reduced::of(JsonLines::new(io::stdout(), false))),
    }
    .map_err(no_thread)?;
    let recording = match &config.record {
        Some(path) => {
            let header = Header::new(kernel(), started_at, boot, settings.clone());
            Some(Writer::create(path, &header).map_err(|error| cannot_record(path, &error))?)
        }
        None => None,
    };
    let mut belt = Belt::new(settings, sinks);
    if let Some(writer) = recording {
        belt.record(Reduced::of(writer)).map_err(no_thread)?;
    }
    let Some(listener) = listen else { return Ok((belt, None)) };
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), &kernel(), started_at);
    let pages = Pages { metrics: metrics.handle(), health: Arc::clone(health), recent };
    belt.measure(metrics, Arc::clone(health));
    Ok((
        belt,
        Some(
            Server::start(listener, pages, Role::Server.thread(), || privileges::reduce(Role::Server))
                .map_err(no_thread)?,
        ),
    ))
}

/// A writer whose thread gives up what it inherited from this one: it starts before the privileges are dropped.
struct Reduced<W> {
    writer: W,
    /// New files belong into a directory of somebody else.
    foreign: bool,
}

impl<W> Reduced<W> {
    fn of(writer: W) -> Self {
        Self { writer, foreign: false }
    }
}

impl<T, W: Drain<T>> Drain<T> for Reduced<W> {
    fn kind(&self) -> &'static str {
        self.writer.kind()
    }
    fn name(&self) -> String {
        self.writer.name()
    }
    fn begin(&mut self) -> Result<(), Trouble> {
        privileges::reduce_writer(self.foreign).map_err(Trouble::Gone)?;
        self.writer.begin()
    }
    fn take(&mut self, item: T, lost_before: u64) -> Result<(), Trouble> {
        self.writer.take(item, lost_before)
    }
    fn idle(&mut self) -> Result<(), Trouble> {
        self.writer.idle()
    }
    fn idle_again_after(&self) -> Option<Duration> {
        self.writer.idle_again_after()
    }
    fn finish(&mut self, lost: u64) -> Result<(), Trouble> {
        self.writer.finish(lost)
    }
}

fn kernel() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.release().to_string_lossy().into_owned())
}

fn cannot_record(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::Usage,
        format_args!(
            "cannot write the recording {}: {error}; give --record a path that can be written",
            path.display()
        ),
    )
}
