//! Docker: its containers, and the operations on them.
//!
//! [`Source::start`] lists, [`Source::run`] follows the event stream. Two halves do not wait for each other: `stream` reads
//! events (Docker drops them for a slow reader), `inspector` inspects what they concern. Losing Docker after the start is
//! not an error: the stream is resumed when Docker is back.

mod cgroups;
mod endpoints;
mod event;
#[cfg(test)]
mod fake_engine;
mod filter;
mod inspect;
mod inspector;
mod labels;
mod liveness;
mod retries;
mod signal;
mod stream;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bollard::Docker;
use ipnet::IpNet;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

pub use filter::FilterChange;
use inspector::{InspectRequest, Inspector, Means};
use stream::Stream;

use crate::model::event::ContainerInfo;
use crate::model::ids::ContainerId;
use crate::pipeline::channel::EventSender;
use crate::pipeline::clock::Clock;
use crate::sources::worker::SourceThread;

const DEFAULT_SOCKET: &str = "unix:///var/run/docker.sock";

/// Requests queued for the inspector. One that does not fit is counted as lost at `docker.inspect`.
const REQUESTS: usize = 1_024;

#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    #[error("{host} is not the address of a Docker daemon; use unix://PATH or tcp://HOST:PORT")]
    Address {
        host: String,
        #[source]
        source: bollard::errors::Error,
    },
    #[error("cannot reach Docker at {host}; start it, or name another address with --docker-host")]
    Unreachable {
        host: String,
        #[source]
        source: bollard::errors::Error,
    },
    #[error(
        "Docker at {host} has not responded for {} s; restart it, or name another address with --docker-host",
        liveness::DEADLINE.as_secs()
    )]
    Hung { host: String },
    #[error("Docker at {host} failed to list its {what}")]
    Listing {
        host: String,
        what: &'static str,
        #[source]
        source: bollard::errors::Error,
    },
}

/// Containers and prefixes at the start, for the inventory.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub containers: Vec<ContainerInfo>,
    /// Containers that Docker could not inspect.
    pub uninspected: Vec<ContainerId>,
    /// Of every network with addresses of containers.
    pub prefixes: Vec<IpNet>,
}

/// Opens a client and negotiates the API version: Engine 20.10 supports 1.41 at most.
///
/// # Errors
/// When the address is invalid, or Docker does not respond there in time.
pub async fn connect(host: Option<&str>) -> Result<Docker, DockerError> {
    let host = address(host);
    let docker = match Docker::connect_with_host(&host) {
        Ok(docker) => docker,
        // bollard already checks here whether the socket exists.
        Err(source @ bollard::errors::Error::SocketNotFoundError(_)) => {
            return Err(DockerError::Unreachable { host, source });
        }
        Err(source) => return Err(DockerError::Address { host, source }),
    };
    match timeout(liveness::DEADLINE, docker.negotiate_version()).await {
        Err(_) => Err(DockerError::Hung { host }),
        Ok(negotiated) => negotiated.map_err(|source| DockerError::Unreachable { host, source }),
    }
}

/// The option, else `DOCKER_HOST`, else the default socket.
fn address(option: Option<&str>) -> String {
    let named = option.map(str::to_owned).or_else(|| std::env::var("DOCKER_HOST").ok());
    named.filter(|host| !host.is_empty()).unwrap_or_else(|| DEFAULT_SOCKET.to_owned())
}

/// The engine's socket file at this address; `None` for an engine that is reached over TCP.
#[must_use]
pub fn socket_path(host: Option<&str>) -> Option<PathBuf> {
    address(host).strip_prefix("unix://").map(PathBuf::from)
}

/// Whether Docker's event stream is connected and Docker responds; shared with the metrics and the readiness check.
#[derive(Clone, Debug, Default)]
pub struct Connected(Arc<Connection>);

#[derive(Debug, Default)]
struct Connection {
    stream: AtomicBool,
    hung: AtomicBool,
}

impl Connected {
    fn set(&self, connected: bool) {
        self.0.stream.store(connected, Ordering::Relaxed);
    }

    fn set_hung(&self, hung: bool) {
        self.0.hung.store(hung, Ordering::Relaxed);
    }

    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.stream.load(Ordering::Relaxed) && !self.0.hung.load(Ordering::Relaxed)
    }
}

/// A connection after the listing, ready to follow the event stream.
pub struct Source<F> {
    docker: Docker,
    connected: Connected,
    requests: mpsc::Sender<InspectRequest>,
    stream: Stream,
    inspector: Inspector<F>,
}

impl<F: Fn(FilterChange) + Send + 'static> Source<F> {
    /// Connects and lists: emits `ContainerSeen` for every container, running or not, then `InventoryRead`. The filter
    /// receives published ports, prefixes and cgroups first. `reader` may read the processes of containers. `labels`: those
    /// of the scope, which are kept.
    ///
    /// # Errors
    /// When Docker cannot be reached or does not respond, or the listing fails. A container that Docker cannot inspect is
    /// no error: it is left out, and inspected later.
    pub async fn start(
        host: Option<&str>,
        reader: SourceThread,
        labels: Vec<String>,
        clock: Arc<Clock>,
        sender: EventSender,
        filter: F,
        connected: Connected,
    ) -> Result<(Self, Listing), DockerError> {
        // Events during the listing are replayed by the stream.
        let began = clock.now();
        let docker = connect(host).await?;
        let (queue, requests) = mpsc::channel(REQUESTS);
        let means = Means::new(docker.clone(), reader, labels);
        let mut inspector = Inspector::new(means, clock.clone(), sender.clone(), filter, requests);
        let failed = |what| {
            let host = address(host);
            move |source| DockerError::Listing { host, what, source }
        };
        let listed = async {
            let prefixes = inspector.networks().await.map_err(failed("networks"))?;
            let listed = inspector.list().await.map_err(failed("containers"))?;
            Ok(Listing { prefixes, ..listed })
        };
        // A single slow response is no hang: Docker inspects a container that it is stopping only once it has stopped.
        let listing = tokio::select! {
            listed = listed => listed?,
            () = liveness::hung(&docker) => return Err(DockerError::Hung { host: address(host) }),
        };
        let names: BTreeMap<_, _> =
            listing.containers.iter().map(|container| (container.id.clone(), container.name.clone())).collect();
        let losses = sender.clone();
        let stream = Stream::new(docker.clone(), clock, sender, queue.clone(), began, names, connected.clone());
        // Without it the record of each end remains.
        if !matches!(timeout(liveness::DEADLINE, stream.replay_ends(&listing.containers)).await, Ok(Ok(()))) {
            losses.lost("docker.events", 1);
        }
        Ok((Self { docker, connected, requests: queue, stream, inspector }, listing))
    }

    /// Follows the stream until `stop` turns true.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.stream.run() => {}
            () = self.inspector.run() => {}
            () = liveness::watch(self.docker, self.connected, self.requests) => {}
            // An error means that the sender was dropped: the daemon is ending.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

#[cfg(test)]
mod tests;
