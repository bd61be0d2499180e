//! Docker: which containers there are, and what is asked of them.
//!
//! [`Source::start`] lists, [`Source::run`] follows the event stream. Two halves that never wait for each other:
//! `stream` reads events (Docker drops them for a slow reader), `inspector` looks at what they touched. Docker going
//! away is no error after the start: the stream is taken up again when it is back.

mod cgroups;
mod endpoints;
mod event;
mod filter;
mod inspect;
mod inspector;
mod signal;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bollard::Docker;
use ipnet::IpNet;
use tokio::sync::{mpsc, watch};

pub use filter::FilterChange;
use inspector::Inspector;
use stream::Stream;

use crate::model::event::ContainerInfo;
use crate::pipeline::clock::Clock;
use crate::pipeline::outlet::Outlet;
use crate::sources::worker::Worker;

/// Where Docker listens unless somebody says otherwise.
const USUAL_SOCKET: &str = "unix:///var/run/docker.sock";

/// Looks that are waiting for the inspector; what does not fit is counted as lost at `docker.inspect`.
const LOOKS: usize = 1_024;

#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    #[error("{host} is no address of a Docker daemon; it takes unix://PATH or tcp://HOST:PORT")]
    Address {
        host: String,
        #[source]
        source: bollard::errors::Error,
    },
    #[error("cannot reach Docker at {host}; start it, or name another with --docker-host")]
    Unreachable {
        host: String,
        #[source]
        source: bollard::errors::Error,
    },
    #[error("Docker at {host} does not list its {what}")]
    Listing {
        host: String,
        what: &'static str,
        #[source]
        source: bollard::errors::Error,
    },
}

/// What there was at the start, for the inventory.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub containers: Vec<ContainerInfo>,
    /// Of every network that containers are reached in.
    pub prefixes: Vec<IpNet>,
}

/// Opens a client and agrees on an API version: Engine 20.10 speaks 1.41 at most.
///
/// # Errors
/// When the address is none, or nobody answers there.
pub async fn connect(host: Option<&str>) -> Result<Docker, DockerError> {
    let host = address(host);
    let docker = match Docker::connect_with_host(&host) {
        Ok(docker) => docker,
        // bollard looks for the socket here already.
        Err(source @ bollard::errors::Error::SocketNotFoundError(_)) => {
            return Err(DockerError::Unreachable { host, source });
        }
        Err(source) => return Err(DockerError::Address { host, source }),
    };
    docker.negotiate_version().await.map_err(|source| DockerError::Unreachable { host, source })
}

/// The option, else `DOCKER_HOST`, else the usual socket.
fn address(option: Option<&str>) -> String {
    let named = option.map(str::to_owned).or_else(|| std::env::var("DOCKER_HOST").ok());
    named.filter(|host| !host.is_empty()).unwrap_or_else(|| USUAL_SOCKET.to_owned())
}

/// Is Docker's event stream followed? Shared with whoever tells of it.
#[derive(Clone, Debug, Default)]
pub struct Connected(Arc<AtomicBool>);

impl Connected {
    fn say(&self, connected: bool) {
        self.0.store(connected, Ordering::Relaxed);
    }

    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A Docker that has been listed and is ready to be followed.
pub struct Source<F> {
    stream: Stream,
    inspector: Inspector<F>,
}

impl<F: Fn(FilterChange) + Send + 'static> Source<F> {
    /// Connects and lists (`reader` may look at containers' processes): `ContainerSeen` for every container, running or not, then `InventoryRead`; the filter
    /// learns of published ports, prefixes and cgroups first.
    ///
    /// # Errors
    /// When Docker cannot be reached, or does not list.
    pub async fn start(
        host: Option<&str>,
        reader: Worker,
        clock: Arc<Clock>,
        outlet: Outlet,
        filter: F,
        connected: Connected,
    ) -> Result<(Self, Listing), DockerError> {
        // What happens while the listing is read is replayed by the stream.
        let began = clock.now();
        let docker = connect(host).await?;
        let (sender, looks) = mpsc::channel(LOOKS);
        let mut inspector = Inspector::new(docker.clone(), reader, clock.clone(), outlet.clone(), filter, looks);
        let failed = |what| {
            let host = address(host);
            move |source| DockerError::Listing { host, what, source }
        };
        let prefixes = inspector.networks().await.map_err(failed("networks"))?;
        let containers = inspector.list().await.map_err(failed("containers"))?;
        let names = containers.iter().map(|container| (container.id.clone(), container.name.clone())).collect();
        let stream = Stream::new(docker, clock, outlet, sender, began, names, connected);
        Ok((Self { stream, inspector }, Listing { containers, prefixes }))
    }

    /// Follows the stream until `stop` turns true.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.stream.run() => {}
            () = self.inspector.run() => {}
            // An error means that nobody is left who could stop it: the daemon is going.
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}
