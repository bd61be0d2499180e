//! The live run: attaches the probe, starts the sources, feeds the belt until somebody says stop.
//!
//! Sources work on a thread of their own, so that a busy belt delays no drain of the ring. Order matters at the start:
//! load and attach, the threads that keep a privilege, give up all others, then the runtime; the probe before the
//! inventory (what changes between them is told twice, never missed), and the ready file last. Nothing that acts on a container may ever be called here.

mod asked;
pub mod health;
mod hub;
mod manager;
mod ready;
pub mod urgency;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use asked::Asked;
use health::Health;
pub use hub::Belt;
use hub::Hub;
use manager::Manager;
use ready::{Ready, remove};

use crate::model::event::Fact;
use crate::model::settings::Scope;
use crate::pipeline::alarm::Alarm;
use crate::pipeline::clock::Clock;
use crate::pipeline::outlet::{Batch, Losses, Outlet};
use crate::privileges::{self, Role};
use crate::sinks::notice::warn;
use crate::sources::dns::Names;
use crate::sources::docker::{Connected, DockerError, FilterChange, Source};
use crate::sources::ebpf::cgroup::enter_host_namespace;
use crate::sources::ebpf::{FilterError, FilterHandle, Probe, ProbeError};
use crate::sources::inventory;
use crate::sources::logs;
use crate::sources::netlink::Links;
use crate::sources::netns::Broker;
use crate::sources::netstat::Counters;
use crate::sources::worker::Worker;

/// How often the clocks are compared and losses are told. The clocks drift apart only where the system's one is
/// stepped: until the next comparison, kernel facts keep the old time.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// How often the host's own addresses are read. Until then a peer at a new one passes for another host's.
const ADDRESSES: Duration = Duration::from_secs(10);

/// How long a source may take to hand over what it has when the run ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a run needs to know.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `DOCKER_HOST`, then the usual socket, where it is `None`.
    pub docker_host: Option<String>,
    /// Written once every probe is attached and the inventory has been judged.
    pub ready_file: Option<PathBuf>,
    /// From the start on; `None`: until a signal.
    pub duration: Option<Duration>,
    /// Names outside it are not asked for.
    pub scope: Scope,
    /// Told how the run is.
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
    #[error("cannot go on reading the probe's ring")]
    Ring(#[source] io::Error),
    #[error("a source of the monitor broke down")]
    Source(#[source] JoinError),
    #[error("cannot write the ready file {}", path.display())]
    ReadyFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl DaemonError {
    /// A privilege, a kernel feature or Docker is missing (exit code 3); all else is the monitor's own failure.
    #[must_use]
    pub fn is_missing_prerequisite(&self) -> bool {
        match self {
            Self::Privileges { .. } | Self::Probe(_) | Self::Docker(_) => true,
            Self::Start { .. } | Self::Ring(_) | Self::Source(_) | Self::ReadyFile { .. } => false,
        }
    }
}

/// Runs until SIGINT, SIGTERM, the end of the duration, or until nobody listens any more. The last event is
/// `Shutdown`; finishing the belt is the caller's.
///
/// # Errors
/// When something is missing at the start, or the probe cannot be read any more. Docker going away later is none.
pub fn run(options: &Options, belt: &mut impl Belt) -> Result<(), DaemonError> {
    let missing = privileges::missing();
    if !missing.is_empty() {
        return Err(DaemonError::Privileges { missing: missing.join(", ") });
    }
    let ready = options.ready_file.as_deref();
    if let Some(path) = ready {
        // One of an earlier run would lie.
        remove(path).map_err(|source| DaemonError::ReadyFile { path: path.to_owned(), source })?;
    }
    enter_host_namespace();
    let probe = Probe::load()?;
    for missing in probe.missing() {
        warn(format_args!("without {}, nobody sees {}: {}", missing.name, missing.loses, missing.why));
    }
    options.health.attached(&probe);
    let way = Way::new();
    let helpers =
        Helpers::start(ready, &way).map_err(|source| DaemonError::Start { what: "helping threads", source })?;
    privileges::reduce(Role::Main).map_err(|source| DaemonError::Start { what: "run without privileges", source })?;
    // Its threads, blocking ones too, inherit from here: nothing.
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(Role::Sources.thread())
        .enable_all()
        .build()
        .map_err(|source| DaemonError::Start { what: "runtime", source })?;
    let result = runtime.block_on(turn(options, probe, way, helpers, belt));
    runtime.shutdown_timeout(FAREWELL);
    result
}

/// What leads from the sources to the belt.
struct Way {
    clock: Arc<Clock>,
    outlet: Outlet,
    batches: mpsc::Receiver<Batch>,
    losses: Losses,
}

impl Way {
    fn new() -> Self {
        let (outlet, batches, losses) = Outlet::new("pipeline.kernel");
        Self { clock: Arc::new(Clock::new()), outlet, batches, losses }
    }
}

/// Threads that keep a privilege, or have used one, that the others give up.
struct Helpers {
    broker: Broker,
    links: Links,
    reader: Worker,
    /// Dropped, and with it its thread, when the inventory has been read.
    inventory: Worker,
    /// Makes the ready file, and ends.
    herald: Option<Worker>,
}

impl Helpers {
    fn start(ready_file: Option<&Path>, way: &Way) -> io::Result<Self> {
        let worker = |role: Role| Worker::start(role.thread(), move || privileges::reduce(role));
        let herald = ready_file.map(|path| {
            let foreign = path.parent().is_some_and(privileges::is_foreign);
            Worker::start(Role::Writer.thread(), move || privileges::reduce_writer(foreign))
        });
        let broker = Broker::start(Role::Broker.thread(), || privileges::reduce(Role::Broker))?;
        let (clock, outlet) = (way.clock.clone(), way.outlet.of("pipeline.netlink"));
        let first = || {
            if let Err(error) = urgency::come_first() {
                warn(format_args!(
                    "on a loaded host the instants of interfaces may lie milliseconds late, for their reader has no \
                     real-time priority ({error}); give the monitor CAP_SYS_NICE"
                ));
            }
            privileges::reduce(Role::Links)
        };
        Ok(Self {
            links: Links::start(Role::Links.thread(), broker.clone(), clock, outlet, first)?,
            broker,
            reader: worker(Role::Reader)?,
            inventory: worker(Role::Inventory)?,
            herald: herald.transpose()?,
        })
    }
}

async fn turn(
    options: &Options,
    probe: Probe,
    way: Way,
    helpers: Helpers,
    belt: &mut impl Belt,
) -> Result<(), DaemonError> {
    let Way { clock, outlet, mut batches, losses } = way;
    let (stop, stopped) = watch::channel(false);
    let filter = probe.filter();
    let manager = Manager::of_environment();
    let status = format!("{} probes attached", probe.attached().len());
    let mut ready = Some(Ready::of(&probe));
    let Helpers { broker, links, reader, inventory, mut herald } = helpers;
    let (own, own_outlet) = (filter.clone(), outlet.clone());
    let (asked, questions) = Asked::new(reader.clone(), clock.clone(), outlet.clone());
    let answers = outlet.of("pipeline.logs");
    let logs = tokio::spawn(logs::Source::new(options.docker_host.clone(), clock.clone(), answers, questions).run());
    let publish = publisher(filter.clone(), outlet.clone());
    let names = Names::start(broker.clone(), options.scope.clone(), clock.clone(), outlet.of("pipeline.dns"))
        .map_err(|source| DaemonError::Start { what: "look-ups", source })?;
    let counters = Counters::start(clock.clone(), outlet.of("pipeline.netstat"))
        .map_err(|source| DaemonError::Start { what: "reader of counters", source })?;
    let tell = {
        let links = links.clone();
        move |fact: &Fact| {
            links.heed(fact);
            names.heed(fact);
            counters.heed(fact);
        }
    };
    let mut hub = Hub::new(belt, clock.clone(), losses, publish, tell, |wanted| asked.ask(wanted));
    let mut signals = Signals::listen()?;
    let timer = |source| DaemonError::Start { what: "timer", source };
    let mut alarm = Alarm::new().map_err(timer)?;
    let mut kernel = tokio::spawn(probe.run(clock.clone(), outlet.clone(), end_of(stopped.clone())));
    let mut docker: Option<JoinHandle<()>> = None;
    let mut starting = Some(tokio::spawn(start(
        options.docker_host.clone(),
        (broker, reader, inventory),
        clock.clone(),
        outlet,
        filter,
        options.health.docker(),
    )));
    let mut housekeeping = interval(HOUSEKEEPING);
    housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut addresses = interval(ADDRESSES);
    let end = end(options.duration);
    tokio::pin!(end);

    loop {
        alarm.set_at(hub.due()).map_err(timer)?;
        tokio::select! {
            // Losses come before what makes them: under a flood nothing behind the batches would get its turn.
            biased;
            () = signals.any() => break,
            () = &mut end => break,
            _ = housekeeping.tick() => {
                hub.keep_house();
                manager.alive();
            }
            _ = addresses.tick() => heed(own.learn_own_addresses(), &own_outlet),
            result = &mut kernel => {
                return Err(match result {
                    Ok(Ok(())) => DaemonError::Ring(io::Error::other("it ended by itself")),
                    Ok(Err(error)) => DaemonError::Ring(error),
                    Err(error) => DaemonError::Source(error),
                });
            }
            source = finished(&mut starting) => {
                let source = source.map_err(DaemonError::Source)??;
                starting = None;
                docker = Some(tokio::spawn(source.run(stopped.clone())));
                // What the inventory found lies in the way already: the ready file promises that it is judged, and with it
                // the interfaces of each container that was found.
                hub.drain(&mut batches);
                let read = links.clone();
                spawn_blocking(move || read.settle()).await.map_err(DaemonError::Source)?;
                hub.drain(&mut batches);
                hub.keep_house();
                options.health.inventory_read();
                manager.ready(&status);
                if let (Some(path), Some(herald), Some(ready)) = (&options.ready_file, herald.take(), ready.take()) {
                    let place = path.clone();
                    let written = herald.run(move || ready.write(&place)).await.and_then(|written| written);
                    written.map_err(|source| DaemonError::ReadyFile { path: path.clone(), source })?;
                }
            }
            Some(batch) = batches.recv() => hub.take(batch),
            rung = alarm.ring() => {
                rung.map_err(timer)?;
                hub.tick();
            }
        }
        if hub.is_unheard() {
            break;
        }
    }

    manager.stopping();
    stop.send_replace(true);
    // Whatever does not end in time is left behind; what it handed over until then counts.
    let _ = timeout(FAREWELL, kernel).await;
    if let Some(docker) = docker {
        let _ = timeout(FAREWELL, docker).await;
    }
    logs.abort();
    hub.drain(&mut batches);
    hub.keep_house();
    hub.own(Fact::Shutdown);
    Ok(())
}

/// Docker's listing, then what it cannot tell of the time before the start.
async fn start(
    host: Option<String>,
    (broker, reader, worker): (Broker, Worker, Worker),
    clock: Arc<Clock>,
    outlet: Outlet,
    filter: FilterHandle,
    connected: Connected,
) -> Result<Source<impl Fn(FilterChange) + Send + 'static>, DaemonError> {
    let inventory = outlet.of("pipeline.inventory");
    let docker = outlet.of("pipeline.docker");
    let (told, publish) = (changer(filter.clone(), outlet.clone()), publisher(filter, outlet));
    let (source, listing) = Source::start(host.as_deref(), reader, clock.clone(), docker, told, connected).await?;
    let found = worker.run(move || inventory::read(&listing, &broker, clock.now())).await;
    let found = found.map_err(|source| DaemonError::Start { what: "inventory", source })?;
    found.proxied.into_iter().for_each(publish);
    inventory.lost("inventory.sockets", found.unread);
    inventory.offer(found.observations);
    Ok(source)
}

/// Turns changes into the probe's own calls. One that the kernel does not take is counted, and said.
fn changer(filter: FilterHandle, outlet: Outlet) -> impl Fn(FilterChange) + Send + 'static {
    move |change| {
        let result = match change {
            FilterChange::Publish(port) => filter.publish(port),
            FilterChange::Unpublish(port) => filter.unpublish(port),
            FilterChange::AllowPrefix(prefix) => filter.allow_prefix(prefix.addr(), prefix.prefix_len()),
            FilterChange::AllowCgroup(cgroup) => filter.allow_cgroup(cgroup),
        };
        heed(result, &outlet);
    }
}

fn publisher(filter: FilterHandle, outlet: Outlet) -> impl Fn(u16) + Send + 'static {
    let change = changer(filter, outlet);
    move |port| change(FilterChange::Publish(port))
}

fn heed(result: Result<(), FilterError>, outlet: &Outlet) {
    if let Err(error) = result {
        outlet.lost("filter", 1);
        warn(&error);
    }
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self, DaemonError> {
        let listen = |kind| signal(kind).map_err(|source| DaemonError::Start { what: "signal handlers", source });
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn end(duration: Option<Duration>) {
    match duration {
        Some(duration) => sleep(duration).await,
        None => std::future::pending().await,
    }
}

async fn end_of(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, and the run with it.
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
    fn what_is_missing_is_told_from_the_monitors_own_failure() {
        let missing = DaemonError::Privileges { missing: "CAP_BPF".into() };
        assert!(missing.is_missing_prerequisite());
        assert!(!DaemonError::Ring(std::io::Error::other("gone")).is_missing_prerequisite());
    }
}
