//! Looks at containers and networks after the events that touched them, and keeps the probe's filter up to date.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
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
use tokio::time::{MissedTickBehavior, interval};

use super::cgroups::Cgroups;
use super::filter::{FilterChange, Ports};
use super::inspect::{container, first_process};
use crate::model::event::{ContainerInfo, Fact, Observation};
use crate::model::ids::ContainerId;
use crate::pipeline::clock::Clock;
use crate::pipeline::outlet::Outlet;
use crate::sources::procfs::CgroupTree;
use crate::sources::worker::Worker;

/// Containers that are inspected at a time during a listing: Docker answers each in a millisecond or two.
const AT_A_TIME: usize = 8;

/// How often ports of removed containers are looked through.
const EXPIRY: Duration = Duration::from_secs(30);

/// Networks of these drivers put containers on the operator's own network: their prefix is no container's.
const FOREIGN_DRIVERS: [&str; 4] = ["macvlan", "ipvlan", "host", "null"];

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// After a break of the stream: list again.
    Everything,
    /// By name or id.
    Network(String),
    Container(ContainerId),
    Removed(ContainerId),
}

/// An inspection under way. Docker answers a look at a container that it is just stopping only when that is done:
/// the others must not wait for it.
type Inspection = Pin<Box<dyn Future<Output = (ContainerId, Result<Option<Inspected>, Error>)> + Send>>;

pub struct Inspector<F> {
    docker: Docker,
    /// May look at containers' processes.
    reader: Worker,
    clock: Arc<Clock>,
    outlet: Outlet,
    filter: F,
    looks: mpsc::Receiver<Look>,
    tree: Option<CgroupTree>,
    cgroups: Option<Cgroups>,
    ports: Ports,
    /// One a container at most.
    under_way: FuturesUnordered<Inspection>,
    /// Containers under inspection; `true`: something happened to it since, look again.
    again: BTreeMap<ContainerId, bool>,
}

impl<F: Fn(FilterChange)> Inspector<F> {
    pub fn new(
        docker: Docker,
        reader: Worker,
        clock: Arc<Clock>,
        outlet: Outlet,
        filter: F,
        looks: mpsc::Receiver<Look>,
    ) -> Self {
        let tree = CgroupTree::find();
        let cgroups = tree.as_ref().and_then(Cgroups::watch);
        let (ports, under_way, again) = (Ports::default(), FuturesUnordered::new(), BTreeMap::new());
        Self { docker, reader, clock, outlet, filter, looks, tree, cgroups, ports, under_way, again }
    }

    /// Ends when nobody is left to send looks.
    pub async fn run(mut self) {
        let mut expiry = interval(EXPIRY);
        expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // A new cgroup first: it may be gone before the container's inspection ends.
                biased;
                learned = learn(&mut self.cgroups) => if learned.is_err() {
                    self.cgroups = None;
                },
                look = self.looks.recv() => match look {
                    None => return,
                    Some(look) => if self.look(look).await.is_err() {
                        self.outlet.lost("docker.inspect", 1);
                    },
                },
                Some((id, inspected)) = self.under_way.next() => self.inspected(id, inspected),
                _ = expiry.tick() => {
                    for change in self.ports.expire(self.clock.now()) {
                        (self.filter)(change);
                    }
                }
            }
        }
    }

    async fn look(&mut self, look: Look) -> Result<(), Error> {
        match look {
            Look::Everything => {
                self.networks().await?;
                self.list().await?;
            }
            Look::Network(name) => {
                if let Some(network) = existing(self.docker.inspect_network(&name, None).await)? {
                    self.allow(network.driver.as_deref(), network.ipam);
                }
            }
            Look::Container(id) => match self.again.entry(id) {
                Entry::Occupied(mut under_way) => {
                    under_way.insert(true);
                }
                Entry::Vacant(free) => {
                    let id = free.key().clone();
                    free.insert(false);
                    self.begin(id);
                }
            },
            Look::Removed(id) => {
                self.ports.release(&id, self.clock.now());
                // An inspection under way may still want its cgroup.
                if let Some(cgroups) = &mut self.cgroups
                    && !self.again.contains_key(&id)
                {
                    cgroups.forget(&id);
                }
            }
        }
        Ok(())
    }

    fn begin(&self, id: ContainerId) {
        let (docker, reader, tree) = (self.docker.clone(), self.reader.clone(), self.tree.clone());
        self.under_way.push(Box::pin(async move {
            let inspected = inspect(&docker, &reader, &id.0, tree.as_ref()).await;
            (id, inspected)
        }));
    }

    fn inspected(&mut self, id: ContainerId, inspected: Result<Option<Inspected>, Error>) {
        match inspected {
            Ok(Some(inspected)) => {
                let seen = self.apply(inspected);
                let fact = Fact::ContainerSeen(Box::new(seen));
                self.outlet.offer(vec![Observation { at: self.clock.now(), fact }]);
            }
            Ok(None) => {}
            Err(_) => self.outlet.lost("docker.inspect", 1),
        }
        if self.again.remove(&id) == Some(true) {
            self.again.insert(id.clone(), false);
            self.begin(id);
        }
    }

    /// Tells the filter of every network's prefixes.
    ///
    /// # Errors
    /// When Docker does not list its networks.
    pub async fn networks(&mut self) -> Result<Vec<IpNet>, Error> {
        let networks = self.docker.list_networks(None).await?;
        Ok(networks.into_iter().flat_map(|network| self.allow(network.driver.as_deref(), network.ipam)).collect())
    }

    /// Inspects every container, running or not, and ends with `InventoryRead`. Its instant lies before the listing:
    /// a container that came later is not missing from it.
    ///
    /// # Errors
    /// When Docker does not list its containers, or does not let one be inspected.
    pub async fn list(&mut self) -> Result<Vec<ContainerInfo>, Error> {
        let at = self.clock.now();
        let all = ListContainersOptionsBuilder::new().all(true).build();
        let listed = self.docker.list_containers(Some(all)).await?;
        let (docker, reader, tree) = (self.docker.clone(), self.reader.clone(), self.tree.clone());
        let (docker, reader, tree) = (&docker, &reader, tree.as_ref());
        // One that is removed meanwhile is not there.
        let inspected: Vec<_> = stream::iter(listed.into_iter().filter_map(|container| container.id))
            .map(|id| async move { inspect(docker, reader, &id, tree).await })
            .buffered(AT_A_TIME)
            .collect()
            .await;
        let inspected: Vec<_> = inspected.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()?;
        let containers: Vec<_> = inspected.into_iter().map(|inspected| self.apply(inspected)).collect();
        let ids: Vec<_> = containers.iter().map(|seen| seen.id.clone()).collect();
        self.ports.retain(&ids.iter().cloned().collect(), at);
        let read = Observation { at, fact: Fact::InventoryRead { containers: ids } };
        let at = self.clock.now();
        let seen = containers.iter().map(|seen| Fact::ContainerSeen(Box::new(seen.clone())));
        let seen = seen.map(|fact| Observation { at, fact });
        self.outlet.offer(seen.chain([read]).collect());
        Ok(containers)
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

    /// Tells the filter of a container, and adds what only its cgroup's making could tell.
    fn apply(&mut self, inspected: Inspected) -> ContainerInfo {
        let Inspected { mut seen, cgroup_path } = inspected;
        if let Some(cgroups) = &mut self.cgroups {
            if let Some(parent) = cgroup_path.as_deref().and_then(Path::parent) {
                cgroups.parent(parent);
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

/// Never ready without a watch.
async fn learn(cgroups: &mut Option<Cgroups>) -> std::io::Result<()> {
    match cgroups {
        Some(cgroups) => cgroups.learn().await,
        None => std::future::pending().await,
    }
}

struct Inspected {
    seen: ContainerInfo,
    cgroup_path: Option<PathBuf>,
}

async fn inspect(
    docker: &Docker,
    reader: &Worker,
    id: &str,
    tree: Option<&CgroupTree>,
) -> Result<Option<Inspected>, Error> {
    let Some(inspected) = existing(docker.inspect_container(id, None).await)? else { return Ok(None) };
    let tree = tree.cloned();
    let looked = reader.run(move || (first_process(&inspected, tree.as_ref()), inspected)).await;
    let (first, inspected) = looked.map_err(Error::from)?;
    let seen = container(inspected, &first);
    Ok(seen.map(|seen| Inspected { seen, cgroup_path: first.cgroup_path }))
}

/// What is gone is no error: events are late.
fn existing<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
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
    fn prefixes_of_both_families_are_read_and_broken_ones_left_out() {
        let config = ["172.28.0.5/16", "fd00:28::/64", "nonsense", ""]
            .map(|subnet| IpamConfig { subnet: Some(subnet.to_owned()), ..IpamConfig::default() });
        let read: Vec<_> = prefixes(config.into()).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["172.28.0.0/16", "fd00:28::/64"]);
    }
}
