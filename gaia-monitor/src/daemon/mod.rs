//! The live run: attaches the probe, starts the sources, and feeds the engine until shutdown.
//!
//! Sources have a thread of their own, so a busy engine does not delay a drain of the ring. Invariants of the start-up:
//!
//! - Load and attach, start the threads that keep a privilege, drop all other privileges, then start the runtime.
//! - Attach the probe before the inventory is read: a change in between is reported twice, never missed.
//! - Write the ready file last.
//!
//! Nothing here may act on a container.

mod dispatcher;
mod enrichment;
pub mod health;
mod ready;
pub mod scheduling;
mod sd_notify;
pub mod signals;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::driver::Driver;
use dispatcher::Dispatcher;
use enrichment::Enrichment;
use health::Health;
use ready::{Ready, remove};
use sd_notify::ServiceManager;
use signals::EndSignals;

use crate::model::event::Fact;
use crate::model::settings::Scope;
use crate::pipeline::channel::{Batch, EventSender, Losses};
use crate::pipeline::clock::Clock;
use crate::pipeline::timer::DeadlineTimer;
use crate::privileges::{self, ThreadRole};
use crate::sources::dns::DnsProber;
use crate::sources::docker::{self, Connected, DockerError, FilterChange, Source};
use crate::sources::ebpf::cgroup::enter_host_namespace;
use crate::sources::ebpf::{FilterError, FilterHandle, Probe, ProbeError};
use crate::sources::inventory;
use crate::sources::logs;
use crate::sources::netlink::InterfaceWatch;
use crate::sources::netns::Broker;
use crate::sources::netstat::ListenCounters;
use crate::sources::worker::SourceThread;
use crate::stderr::warn;

/// Interval at which the clocks are compared and losses are reported. The clocks diverge only when the system clock is
/// stepped: until the next comparison, kernel facts keep the old time.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Interval at which the host's own addresses are read. Until then, a peer at a new address counts as remote.
const ADDRESSES: Duration = Duration::from_secs(10);

/// Time that each source has for handing over its last observations.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `None`: `DOCKER_HOST`, else the default socket.
    pub docker_host: Option<String>,
    /// Written once every probe is attached and the inventory has been processed.
    pub ready_file: Option<PathBuf>,
    /// Counted from the start; `None`: until a signal.
    pub duration: Option<Duration>,
    /// Names outside the scope are not looked up.
    pub scope: Scope,
    /// Receives the state of the run.
    pub health: Arc<Health>,
}

#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("the monitor is missing {missing}; run it as root, or give its service these capabilities")]
    Privileges { missing: String },
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Docker(#[from] DockerError),
    #[error("cannot start the {what}")]
    Start {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("failed to read the BPF ring buffer")]
    Ring(#[source] io::Error),
    #[error("a source of the monitor failed")]
    Source(#[source] JoinError),
    #[error("cannot write the ready file {}", path.display())]
    ReadyFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl DaemonError {
    /// A privilege, a kernel feature or Docker is missing (exit code 3); everything else is an internal failure.
    #[must_use]
    pub fn is_missing_prerequisite(&self) -> bool {
        match self {
            Self::Privileges { .. } | Self::Probe(_) | Self::Docker(_) => true,
            Self::Start { .. } | Self::Ring(_) | Self::Source(_) | Self::ReadyFile { .. } => false,
        }
    }
}

/// Runs until SIGINT, SIGTERM, SIGHUP, the end of the duration, or until all outputs have closed. The last event is `Shutdown`;
/// the caller finishes the driver.
///
/// # Errors
/// When a prerequisite is missing at the start, or the ring can no longer be read. Losing Docker later is not an error.
pub fn run(options: &Options, signals: EndSignals, driver: &mut Driver<'_>) -> Result<(), DaemonError> {
    let missing = privileges::missing();
    if !missing.is_empty() {
        return Err(DaemonError::Privileges { missing: missing.join(", ") });
    }
    let ready = options.ready_file.as_deref();
    if let Some(path) = ready {
        // The file of an earlier run would claim readiness too soon.
        remove(path).map_err(|source| DaemonError::ReadyFile { path: path.to_owned(), source })?;
    }
    enter_host_namespace();
    let probe = Probe::load()?;
    for missing in probe.missing() {
        warn(format_args!("probe `{}` unavailable: {} ({})", missing.name, missing.impact, missing.why));
    }
    options.health.attached(&probe);
    let channels = Channels::new();
    let threads = PrivilegedThreads::start(ready, &channels)
        .map_err(|source| DaemonError::Start { what: "privileged threads", source })?;
    privileges::reduce(ThreadRole::Main)
        .map_err(|source| DaemonError::Start { what: "run without privileges", source })?;
    // The runtime's threads, blocking ones included, inherit the empty capability set.
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(ThreadRole::Sources.thread())
        .enable_all()
        .build()
        .map_err(|source| DaemonError::Start { what: "runtime", source })?;
    let result = runtime.block_on(event_loop(options, signals, probe, channels, threads, driver));
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    result
}

/// What connects the sources to the engine.
struct Channels {
    clock: Arc<Clock>,
    sender: EventSender,
    batches: mpsc::Receiver<Batch>,
    losses: Losses,
}

impl Channels {
    fn new() -> Self {
        let (sender, batches, losses) = EventSender::new("pipeline.kernel");
        Self { clock: Arc::new(Clock::new()), sender, batches, losses }
    }
}

/// Threads that keep a privilege, or used one at their start, which all other threads drop.
struct PrivilegedThreads {
    broker: Broker,
    interfaces: InterfaceWatch,
    reader: SourceThread,
    /// Dropped, and its thread ended, once the inventory has been read.
    inventory: SourceThread,
    /// Writes the ready file, and ends.
    ready_writer: Option<SourceThread>,
}

impl PrivilegedThreads {
    fn start(ready_file: Option<&Path>, channels: &Channels) -> io::Result<Self> {
        let worker = |role: ThreadRole| SourceThread::start(role.thread(), move || privileges::reduce(role));
        let ready_writer = ready_file.map(|path| {
            let foreign = path.parent().is_some_and(privileges::is_foreign);
            SourceThread::start(ThreadRole::Writer.thread(), move || privileges::reduce_writer(foreign))
        });
        let broker = Broker::start(ThreadRole::Broker.thread(), || privileges::reduce(ThreadRole::Broker))?;
        let (clock, sender) = (channels.clock.clone(), channels.sender.with_stage("pipeline.netlink"));
        let prepare = || {
            if let Err(error) = scheduling::use_realtime_priority() {
                warn(format_args!(
                    "no real-time priority for the thread that reads network interfaces ({error}): on a loaded host \
                     its timestamps may be milliseconds late; give the monitor CAP_SYS_NICE"
                ));
            }
            privileges::reduce(ThreadRole::Interfaces)
        };
        Ok(Self {
            interfaces: InterfaceWatch::start(ThreadRole::Interfaces.thread(), broker.clone(), clock, sender, prepare)?,
            broker,
            reader: worker(ThreadRole::Reader)?,
            inventory: worker(ThreadRole::Inventory)?,
            ready_writer: ready_writer.transpose()?,
        })
    }
}

async fn event_loop(
    options: &Options,
    signals: EndSignals,
    probe: Probe,
    channels: Channels,
    threads: PrivilegedThreads,
    driver: &mut Driver<'_>,
) -> Result<(), DaemonError> {
    let Channels { clock, sender, mut batches, losses } = channels;
    let (stop, stopped) = watch::channel(false);
    let filter = probe.filter();
    let manager = ServiceManager::from_environment();
    let status = format!("{} probes attached", probe.attached().len());
    let mut ready = Some(Ready::of(&probe));
    let PrivilegedThreads { broker, interfaces, reader, inventory, mut ready_writer } = threads;
    let (address_filter, address_sender) = (filter.clone(), sender.clone());
    let (enrichment, log_requests) = Enrichment::new(reader.clone(), clock.clone(), sender.clone());
    let log_sender = sender.with_stage("pipeline.logs");
    let logs = logs::Source::new(options.docker_host.clone(), clock.clone(), log_sender, log_requests);
    let logs = tokio::spawn(logs.run());
    let publish = publisher(filter.clone(), sender.clone());
    let dns = DnsProber::start(broker.clone(), options.scope.clone(), clock.clone(), sender.with_stage("pipeline.dns"))
        .map_err(|source| DaemonError::Start { what: "DNS lookups", source })?;
    let counters = ListenCounters::start(clock.clone(), sender.with_stage("pipeline.netstat"))
        .map_err(|source| DaemonError::Start { what: "reader of listen counters", source })?;
    let on_fact = {
        let interfaces = interfaces.clone();
        move |fact: &Fact| {
            interfaces.on_fact(fact);
            dns.on_fact(fact);
            counters.on_fact(fact);
        }
    };
    let enrich = |request| enrichment.request(request);
    let mut dispatcher =
        Dispatcher::new(options.scope.clone(), driver, clock.clone(), losses, publish, on_fact, enrich);
    let mut signals = signals.listen().map_err(|source| DaemonError::Start { what: "signal handlers", source })?;
    let timer_error = |source| DaemonError::Start { what: "timer", source };
    let mut timer = DeadlineTimer::new().map_err(timer_error)?;
    let mut kernel = tokio::spawn(probe.run(clock.clone(), sender.clone(), stop_requested(stopped.clone())));
    let mut docker: Option<JoinHandle<()>> = None;
    let mut starting = Some(tokio::spawn(start_docker(
        options.docker_host.clone(),
        options.scope.labels.clone(),
        (broker, reader, inventory),
        clock.clone(),
        sender,
        filter,
        options.health.docker(),
    )));
    let mut housekeeping = interval(HOUSEKEEPING);
    housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut addresses = interval(ADDRESSES);
    let end = elapsed(options.duration);
    tokio::pin!(end);

    loop {
        timer.set_at(dispatcher.next_deadline()).map_err(timer_error)?;
        tokio::select! {
            // Losses come before batches, which cause them: in a flood, nothing after the batches would be polled.
            biased;
            () = signals.any() => break,
            () = &mut end => break,
            _ = housekeeping.tick() => {
                dispatcher.housekeeping();
                manager.watchdog();
            }
            _ = addresses.tick() => warn_on_error(address_filter.learn_own_addresses(), &address_sender),
            result = &mut kernel => {
                return Err(match result {
                    Ok(Ok(())) => DaemonError::Ring(io::Error::other("the reader ended unexpectedly")),
                    Ok(Err(error)) => DaemonError::Ring(error),
                    Err(error) => DaemonError::Source(error),
                });
            }
            source = finished(&mut starting) => {
                let source = source.map_err(DaemonError::Source)??;
                starting = None;
                docker = Some(tokio::spawn(source.run(stopped.clone())));
                // The inventory's facts are already queued. The ready file promises that they have been processed, and
                // with them the interfaces of each container that was found.
                dispatcher.drain(&mut batches);
                let interfaces = interfaces.clone();
                spawn_blocking(move || interfaces.flush()).await.map_err(DaemonError::Source)?;
                dispatcher.drain(&mut batches);
                dispatcher.housekeeping();
                options.health.inventory_read();
                manager.ready(&status);
                if let (Some(path), Some(writer), Some(ready)) = (&options.ready_file, ready_writer.take(), ready.take()) {
                    let target = path.clone();
                    let written = writer.run(move || ready.write(&target)).await.and_then(|written| written);
                    written.map_err(|source| DaemonError::ReadyFile { path: path.clone(), source })?;
                }
            }
            Some(batch) = batches.recv() => dispatcher.take(batch),
            fired = timer.fired() => {
                fired.map_err(timer_error)?;
                dispatcher.tick();
            }
        }
        if dispatcher.all_outputs_closed() {
            break;
        }
    }

    manager.stopping();
    stop.send_replace(true);
    // A source that does not end in time is abandoned; what it has sent until then counts.
    let _ = timeout(SHUTDOWN_TIMEOUT, kernel).await;
    if let Some(docker) = docker {
        let _ = timeout(SHUTDOWN_TIMEOUT, docker).await;
    }
    logs.abort();
    dispatcher.drain(&mut batches);
    dispatcher.housekeeping();
    dispatcher.own(Fact::Shutdown);
    Ok(())
}

/// Reads Docker's listing, then the inventory of what is older than the probe.
async fn start_docker(
    host: Option<String>,
    labels: Vec<String>,
    (broker, reader, worker): (Broker, SourceThread, SourceThread),
    clock: Arc<Clock>,
    sender: EventSender,
    filter: FilterHandle,
    connected: Connected,
) -> Result<Source<impl Fn(FilterChange) + Send + 'static>, DaemonError> {
    let inventory = sender.with_stage("pipeline.inventory");
    let docker = sender.with_stage("pipeline.docker");
    let engine = docker::socket_path(host.as_deref());
    let (apply, publish) = (filter_updater(filter.clone(), sender.clone(), engine), publisher(filter, sender));
    let source = Source::start(host.as_deref(), reader, labels, clock.clone(), docker, apply, connected);
    let (source, listing) = source.await?;
    let found = worker.run(move || inventory::read(&listing, &broker, clock.now())).await;
    let found = found.map_err(|source| DaemonError::Start { what: "inventory", source })?;
    found.proxied.into_iter().for_each(publish);
    inventory.lost("inventory.sockets", found.unread);
    inventory.send(found.observations);
    Ok(source)
}

/// Applies changes to the probe's maps. A change that the kernel refuses is counted, and causes a warning.
/// `engine`: the file of the Docker engine's socket.
fn filter_updater(
    filter: FilterHandle,
    sender: EventSender,
    engine: Option<PathBuf>,
) -> impl Fn(FilterChange) + Send + 'static {
    move |change| {
        let result = match change {
            FilterChange::Publish(port) => filter.publish(port),
            FilterChange::Unpublish(port) => filter.unpublish(port),
            FilterChange::AllowPrefix(prefix) => filter.allow_prefix(prefix.addr(), prefix.prefix_len()),
            FilterChange::AllowCgroup(cgroup) => filter.allow_cgroup(cgroup),
            FilterChange::WatchEngine => engine.as_ref().map_or(Ok(()), |path| filter.watch_engine(path)),
        };
        warn_on_error(result, &sender);
    }
}

fn publisher(filter: FilterHandle, sender: EventSender) -> impl Fn(u16) + Send + 'static {
    let apply = filter_updater(filter, sender, None);
    move |port| apply(FilterChange::Publish(port))
}

fn warn_on_error(result: Result<(), FilterError>, sender: &EventSender) {
    if let Err(error) = result {
        sender.lost("filter", 1);
        warn(&error);
    }
}

async fn elapsed(duration: Option<Duration>) {
    match duration {
        Some(duration) => sleep(duration).await,
        None => std::future::pending().await,
    }
}

async fn stop_requested(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender was dropped: the run has ended.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::DaemonError;

    #[test]
    fn separates_missing_prerequisites_from_internal_failures() {
        let missing = DaemonError::Privileges { missing: "CAP_BPF".into() };
        assert!(missing.is_missing_prerequisite());
        assert!(!DaemonError::Ring(std::io::Error::other("gone")).is_missing_prerequisite());
    }
}
