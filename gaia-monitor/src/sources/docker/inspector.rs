//! Inspection of containers and networks after events that concern them; keeps the probe's filter up to date.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{Ipam, IpamConfig};
use bollard::query_parameters::ListContainersOptionsBuilder;
use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use ipnet::IpNet;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::Listing;
use super::cgroups::Cgroups;
use super::filter::{FilterChange, Ports};
use super::inspect::{container, first_process};
use super::retries::Retries;
use crate::exit::chain;
use crate::model::event::{ContainerInfo, Fact, Observation};
use crate::model::ids::ContainerId;
use crate::pipeline::channel::EventSender;
use crate::pipeline::clock::Clock;
use crate::sources::procfs::CgroupTree;
use crate::sources::worker::SourceThread;
use crate::stderr::warn;
use crate::text::harmless;

/// Concurrent inspections during a listing. Docker takes a millisecond or two for each.
const CONCURRENT: usize = 8;

/// Time for one inspection of a listing. Longer than it takes to notice a hang (`liveness`): what ends here is a single
/// container, for example one that Docker is stopping.
const INSPECTION: Duration = Duration::from_secs(8);

/// After a listing that failed.
const LIST_AGAIN: Duration = Duration::from_secs(5);

/// Containers named by one warning, and characters of the reason: an error of Docker may contain a document.
const NAMED: usize = 5;
const REASON: usize = 200;

/// Interval at which expired ports of removed containers are dropped.
const EXPIRY: Duration = Duration::from_secs(30);

/// Drivers that connect containers to the operator's own network; its prefix does not belong to containers.
const FOREIGN_DRIVERS: [&str; 4] = ["macvlan", "ipvlan", "host", "null"];

/// What to inspect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InspectRequest {
    /// List again, after the stream was interrupted.
    All,
    /// By name or id.
    Network(String),
    Container(ContainerId),
    Removed(ContainerId),
}

/// An inspection in flight. Docker responds for a container that it is stopping only once it has stopped; inspections of
/// other containers must not wait for that.
type Inspection = Pin<Box<dyn Future<Output = (ContainerId, Result<Option<Inspected>, Error>)> + Send>>;

/// What every inspection uses.
#[derive(Clone)]
pub struct Means {
    docker: Docker,
    /// May read the processes of containers.
    reader: SourceThread,
    tree: Option<CgroupTree>,
    /// Labels of the scope.
    labels: Arc<[String]>,
}

impl Means {
    #[must_use]
    pub fn new(docker: Docker, reader: SourceThread, labels: Vec<String>) -> Self {
        Self { docker, reader, tree: CgroupTree::find(), labels: labels.into() }
    }

    async fn inspect(&self, id: &str) -> Result<Option<Inspected>, Error> {
        let Some(inspected) = existing(self.docker.inspect_container(id, None).await)? else { return Ok(None) };
        let tree = self.tree.clone();
        let read = self.reader.run(move || (first_process(&inspected, tree.as_ref()), inspected)).await;
        let (first, inspected) = read.map_err(Error::from)?;
        let seen = container(inspected, &first, &self.labels);
        Ok(seen.map(|seen| Inspected { seen, cgroup_path: first.cgroup_path }))
    }
}

pub struct Inspector<F> {
    means: Means,
    clock: Arc<Clock>,
    sender: EventSender,
    filter: F,
    requests: mpsc::Receiver<InspectRequest>,
    cgroups: Option<Cgroups>,
    ports: Ports,
    /// At most one for each container.
    in_flight: FuturesUnordered<Inspection>,
    /// Containers being inspected; `true`: a later event requires another inspection.
    repeat: BTreeMap<ContainerId, bool>,
    retries: Retries,
    /// When to list again after a failure.
    list_again: Option<Instant>,
}

impl<F: Fn(FilterChange)> Inspector<F> {
    pub fn new(
        means: Means,
        clock: Arc<Clock>,
        sender: EventSender,
        filter: F,
        requests: mpsc::Receiver<InspectRequest>,
    ) -> Self {
        let cgroups = means.tree.as_ref().and_then(Cgroups::watch);
        let (ports, in_flight, repeat) = (Ports::default(), FuturesUnordered::new(), BTreeMap::new());
        let (retries, list_again) = (Retries::default(), None);
        Self { means, clock, sender, filter, requests, cgroups, ports, in_flight, repeat, retries, list_again }
    }

    /// Ends when the stream was dropped.
    pub async fn run(mut self) {
        let mut expiry = interval(EXPIRY);
        expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let again = self.retries.next().into_iter().chain(self.list_again).min();
            tokio::select! {
                // New cgroups come first: one may be removed before the container's inspection ends.
                biased;
                updated = update(&mut self.cgroups) => if updated.is_err() {
                    self.cgroups = None;
                },
                request = self.requests.recv() => match request {
                    None => return,
                    Some(request) => self.try_handle(request).await,
                },
                () = reached(again) => self.try_again().await,
                Some((id, inspected)) = self.in_flight.next() => self.inspected(id, inspected),
                _ = expiry.tick() => {
                    for change in self.ports.expire(self.clock.now()) {
                        (self.filter)(change);
                    }
                }
            }
        }
    }

    async fn try_handle(&mut self, request: InspectRequest) {
        if self.handle(request).await.is_err() {
            self.sender.lost("docker.inspect", 1);
            // A listing includes what any other request is for.
            self.list_again = Some(Instant::now() + LIST_AGAIN);
        }
    }

    async fn try_again(&mut self) {
        let now = Instant::now();
        if self.list_again.take_if(|at| *at <= now).is_some() {
            self.try_handle(InspectRequest::All).await;
        }
        for id in self.retries.take_due(now) {
            self.try_handle(InspectRequest::Container(id)).await;
        }
    }

    async fn handle(&mut self, request: InspectRequest) -> Result<(), Error> {
        match request {
            InspectRequest::All => {
                let networks = self.networks().await;
                self.list().await?;
                networks?;
            }
            InspectRequest::Network(name) => {
                if let Some(network) = existing(self.means.docker.inspect_network(&name, None).await)? {
                    self.allow(network.driver.as_deref(), network.ipam);
                }
            }
            InspectRequest::Container(id) => match self.repeat.entry(id) {
                Entry::Occupied(mut in_flight) => {
                    in_flight.insert(true);
                }
                Entry::Vacant(free) => {
                    let id = free.key().clone();
                    free.insert(false);
                    self.begin(id);
                }
            },
            InspectRequest::Removed(id) => {
                self.retries.ended(&id);
                self.ports.release(&id, self.clock.now());
                // An inspection in flight may still need the cgroup.
                if let Some(cgroups) = &mut self.cgroups
                    && !self.repeat.contains_key(&id)
                {
                    cgroups.forget(&id);
                }
            }
        }
        Ok(())
    }

    fn begin(&self, id: ContainerId) {
        let means = self.means.clone();
        self.in_flight.push(Box::pin(async move {
            let inspected = means.inspect(&id.0).await;
            (id, inspected)
        }));
    }

    fn inspected(&mut self, id: ContainerId, inspected: Result<Option<Inspected>, Error>) {
        match inspected {
            Ok(Some(inspected)) => {
                if self.retries.ended(&id) {
                    warn(format_args!(
                        "Docker can inspect the container {} ({}) again",
                        inspected.seen.name,
                        id.short()
                    ));
                }
                let seen = self.apply(inspected);
                let fact = Fact::ContainerSeen(Box::new(seen));
                self.sender.send(vec![Observation { at: self.clock.now(), fact }]);
            }
            Ok(None) => {
                self.retries.ended(&id);
            }
            Err(error) => self.failed(vec![Uninspected { id: id.clone(), name: None, error }]),
        }
        if self.repeat.remove(&id) == Some(true) {
            self.repeat.insert(id.clone(), false);
            self.begin(id);
        }
    }

    /// Adds the prefixes of all networks to the filter.
    ///
    /// # Errors
    /// When Docker fails to list its networks.
    pub async fn networks(&mut self) -> Result<Vec<IpNet>, Error> {
        let networks = self.means.docker.list_networks(None).await?;
        Ok(networks.into_iter().flat_map(|network| self.allow(network.driver.as_deref(), network.ipam)).collect())
    }

    /// Inspects every container, running or not, then emits `InventoryRead`. Its instant is before the listing: a container
    /// that was created later is not missing from it.
    ///
    /// # Errors
    /// When Docker fails to list its containers. One that it fails to inspect, or not in time, is tried again.
    pub async fn list(&mut self) -> Result<Listing, Error> {
        (self.filter)(FilterChange::WatchEngine);
        let at = self.clock.now();
        let all = ListContainersOptionsBuilder::new().all(true).build();
        let listed = self.means.docker.list_containers(Some(all)).await?;
        let means = &self.means;
        // A container that is removed meanwhile is left out.
        let inspections: Vec<_> =
            stream::iter(listed.into_iter().filter_map(|listed| Some((listed.id?, listed.names))))
                .map(|(id, names)| async move {
                    let inspected = timeout(INSPECTION, means.inspect(&id)).await;
                    (ContainerId(id), names, inspected.unwrap_or(Err(Error::RequestTimeoutError)))
                })
                .buffered(CONCURRENT)
                .collect()
                .await;
        let (mut containers, mut uninspected) = (Vec::new(), Vec::new());
        for (id, names, inspected) in inspections {
            match inspected {
                Ok(inspected) => {
                    self.retries.ended(&id);
                    containers.extend(inspected.map(|inspected| self.apply(inspected)));
                }
                Err(error) => {
                    let name = names.unwrap_or_default().into_iter().next();
                    uninspected.push(Uninspected { id, name, error });
                }
            }
        }
        let failed: Vec<_> = uninspected.iter().map(|failed| failed.id.clone()).collect();
        self.failed(uninspected);
        // A container that cannot be inspected exists nevertheless.
        let ids: Vec<_> = containers.iter().map(|seen| &seen.id).chain(&failed).cloned().collect();
        self.ports.retain(&ids.iter().cloned().collect(), at);
        let read = Observation { at, fact: Fact::InventoryRead { containers: ids } };
        let at = self.clock.now();
        let seen = containers.iter().map(|seen| Fact::ContainerSeen(Box::new(seen.clone())));
        let seen = seen.map(|fact| Observation { at, fact });
        self.sender.send(seen.chain([read]).collect());
        Ok(Listing { containers, uninspected: failed, prefixes: Vec::new() })
    }

    /// Counts and names what failed for the first time, and schedules the next attempt of each.
    fn failed(&mut self, all: Vec<Uninspected>) {
        let now = Instant::now();
        let new: Vec<_> = all.into_iter().filter(|failed| self.retries.failed(failed.id.clone(), now)).collect();
        let Some(first) = new.first() else { return };
        self.sender.lost("docker.inspect", new.len() as u64);
        let named: Vec<_> = new.iter().take(NAMED).map(ToString::to_string).collect();
        let more = match new.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let reason: String = chain(&first.error).chars().take(REASON).collect();
        warn(format_args!(
            "Docker cannot inspect {}{more}: {}; what breaks there has no name until it can, and each is tried again",
            named.join(", "),
            harmless(&reason)
        ));
    }

    fn allow(&mut self, driver: Option<&str>, ipam: Option<Ipam>) -> Vec<IpNet> {
        if driver.is_some_and(|driver| FOREIGN_DRIVERS.contains(&driver)) {
            return Vec::new();
        }
        let prefixes = prefixes(ipam.and_then(|ipam| ipam.config).unwrap_or_default());
        for prefix in &prefixes {
            (self.filter)(FilterChange::AllowPrefix(*prefix));
        }
        prefixes
    }

    /// Updates the filter for a container, and adds its cgroup if only the creation of the directory revealed it.
    fn apply(&mut self, inspected: Inspected) -> ContainerInfo {
        let Inspected { mut seen, cgroup_path } = inspected;
        if let Some(cgroups) = &mut self.cgroups {
            if let Some(parent) = cgroup_path.as_deref().and_then(Path::parent) {
                cgroups.watch_parent(parent);
            }
            seen.cgroup = seen.cgroup.or_else(|| cgroups.of(&seen.id));
        }
        let ports = seen.published.iter().map(|port| port.host_port).collect();
        for change in self.ports.hold(&seen.id, ports, self.clock.now()) {
            (self.filter)(change);
        }
        if seen.host_network
            && let Some(cgroup) = seen.cgroup
        {
            (self.filter)(FilterChange::AllowCgroup(cgroup));
        }
        seen
    }
}

/// Never completes without a watch.
async fn update(cgroups: &mut Option<Cgroups>) -> std::io::Result<()> {
    match cgroups {
        Some(cgroups) => cgroups.update().await,
        None => std::future::pending().await,
    }
}

/// Never completes without an instant.
async fn reached(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// A container that Docker listed or reported and failed to inspect.
struct Uninspected {
    id: ContainerId,
    /// As the listing spells it, with a slash.
    name: Option<String>,
    error: Error,
}

impl fmt::Display for Uninspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} ({})", harmless(name.trim_start_matches('/')), self.id.short()),
            None => f.write_str(self.id.short()),
        }
    }
}

struct Inspected {
    seen: ContainerInfo,
    cgroup_path: Option<PathBuf>,
}

/// `None` for what no longer exists, which is not an error: events are late.
fn existing<T>(response: Result<T, Error>) -> Result<Option<T>, Error> {
    match response {
        Ok(found) => Ok(Some(found)),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn prefixes(config: Vec<IpamConfig>) -> Vec<IpNet> {
    config.into_iter().filter_map(|config| Some(config.subnet?.parse::<IpNet>().ok()?.trunc())).collect()
}

#[cfg(test)]
mod tests {
    use super::prefixes;
    use bollard::models::IpamConfig;

    #[test]
    fn reads_prefixes_of_both_families_and_ignores_invalid_ones() {
        let config = ["172.28.0.5/16", "fd00:28::/64", "nonsense", ""]
            .map(|subnet| IpamConfig { subnet: Some(subnet.to_owned()), ..IpamConfig::default() });
        let read: Vec<_> = prefixes(config.into()).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["172.28.0.0/16", "fd00:28::/64"]);
    }
}
