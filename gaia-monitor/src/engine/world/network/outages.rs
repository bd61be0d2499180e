//! Outages of containers and bridges, opened and ended by kernel and Docker events.
//!
//! A Docker event (`disconnect`, `connect`) and a kernel event (interface removed, created) describe the same outage.
//! They arrive in either order, about 20 ms apart, and are matched here.
//!
//! Bound: [`OUTAGES_CAP`] outages; when reached, the oldest ended one is evicted, else the oldest, and its failures are
//! attributed without it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::event::DockerAction;
use crate::model::ids::ContainerId;
use crate::model::time::{Nanos, Stamp};

use crate::engine::world::containers::Containers;
use crate::engine::world::network::interfaces::{Fault, Interfaces};

pub use crate::engine::world::network::outage_period::{Outage, OutageId, Place};

const OUTAGES_CAP: usize = 1_024;
/// Docker emits `disconnect` at most this long after it removed the interface (22 ms measured, more under load).
const DOCKER_DELAY: Nanos = Nanos::from_secs(5);

/// A fault on the path to a container.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine::world) struct PathFailure<'a> {
    /// The container's interface.
    pub place: Place,
    /// The interface with the fault.
    pub name: &'a str,
    pub fault: Fault,
    pub addresses: &'a BTreeSet<IpAddr>,
    /// The change was reported; otherwise it was found by a reading.
    pub reported: bool,
}

#[derive(Debug, Default)]
pub struct Outages {
    all: BTreeMap<OutageId, Outage>,
    next: u64,
}

impl Outages {
    #[must_use]
    pub fn get(&self, id: OutageId) -> Option<&Outage> {
        self.all.get(&id)
    }

    pub fn all(&self) -> impl Iterator<Item = &Outage> {
        self.all.values()
    }

    /// A container's outage on this network that was requested through Docker, in progress at `from` or begun by
    /// `until`.
    #[must_use]
    pub fn of_network(&self, container: &ContainerId, network: &str, from: Stamp, until: Stamp) -> Option<&Outage> {
        self.all.values().rev().find(|outage| {
            let lasts = outage.since() <= until && outage.until().is_none_or(|ended| ended > from);
            let named = outage.docker.is_some() && outage.network.as_deref() == Some(network);
            outage.container.as_ref() == Some(container) && named && lasts
        })
    }

    fn open(&mut self) -> impl DoubleEndedIterator<Item = &mut Outage> {
        self.all.values_mut().filter(|outage| outage.until().is_none())
    }

    fn add(&mut self, new: Outage) -> OutageId {
        self.next += 1;
        let id = OutageId(self.next);
        self.all.insert(id, Outage { id, ..new });
        if self.all.len() > OUTAGES_CAP {
            let ended = self.all.values().find(|outage| outage.until().is_some()).map(|outage| outage.id);
            if let Some(oldest) = ended.or(self.all.keys().next().copied()) {
                self.all.remove(&oldest);
            }
        }
        id
    }

    /// Records a fault on the path to a container's interface. Returns the outage if it is new.
    pub(in crate::engine::world) fn path_failed(
        &mut self,
        at: Stamp,
        container: &ContainerId,
        failure: &PathFailure,
        containers: &Containers,
    ) -> Option<OutageId> {
        let PathFailure { place, name, fault, addresses, reported } = *failure;
        let network = network_of(containers, container, addresses);
        let is_own = |outage: &&mut Outage| outage.container.as_ref() == Some(container);
        let is_docker =
            |outage: &Outage| outage.docker.is_some_and(|docker| at.since(docker).0.abs() <= DOCKER_DELAY.0);
        let is_same = |outage: &Outage| {
            let network = outage.network.is_none() || network.is_none() || outage.network == network;
            outage.place == Some(place) || (outage.place.is_none() && network && is_docker(outage))
        };
        if let Some(outage) = self.open().filter(is_own).find(|outage| is_same(outage)) {
            let is_new = outage.place.is_none() || (fault == Fault::Removed && outage.removed.is_none());
            outage.place = Some(place);
            outage.addresses.extend(addresses);
            outage.network = outage.network.take().or(network);
            if outage.down.is_none() {
                outage.down = Some(at);
                outage.name = name.to_owned();
            }
            if fault == Fault::Removed {
                outage.removed = outage.removed.or(Some(at));
                outage.fault = fault;
            }
            return is_new.then_some(outage.id);
        }
        Some(self.add(Outage {
            container: Some(container.clone()),
            place: Some(place),
            addresses: addresses.clone(),
            network,
            ..blank(at, name, fault, reported)
        }))
    }

    pub(in crate::engine::world) fn bridge_failed(
        &mut self,
        at: Stamp,
        place: Place,
        name: &str,
        fault: Fault,
        reported: bool,
    ) -> Option<OutageId> {
        if let Some(outage) = self.open().find(|outage| outage.place == Some(place)) {
            if fault == Fault::Removed {
                outage.removed = outage.removed.or(Some(at));
                outage.fault = fault;
            }
            return None;
        }
        Some(self.add(Outage { place: Some(place), ..blank(at, name, fault, reported) }))
    }

    /// Ends the outage of an interface or bridge. A bridge that was removed is recognised by its name.
    pub(in crate::engine::world) fn recovered(&mut self, at: Stamp, place: Place, name: &str) -> Option<OutageId> {
        let is_recovered = |outage: &&mut Outage| {
            let by_name = outage.container.is_none() && outage.removed.is_some() && outage.name == name;
            (outage.place == Some(place) && outage.removed.is_none()) || by_name
        };
        let outage = self.open().find(is_recovered)?;
        outage.recovered_at = Some(at);
        Some(outage.id)
    }

    /// Applies a Docker event of a container.
    pub(in crate::engine::world) fn docker_event(
        &mut self,
        at: Stamp,
        container: &ContainerId,
        action: &DockerAction,
    ) -> Vec<OutageId> {
        let is_own = |outage: &&mut Outage| outage.container.as_ref() == Some(container);
        match action {
            DockerAction::NetworkDisconnect { network } => {
                let fits = |outage: &&mut Outage| {
                    let is_near = |lost: Stamp| at.since(lost).0.abs() <= DOCKER_DELAY.0;
                    let named = outage.network.as_ref().is_none_or(|named| named == network);
                    named && outage.docker.is_none() && is_near(outage.removed.unwrap_or(outage.since()))
                };
                if let Some(outage) = self.open().filter(is_own).rev().find(fits) {
                    outage.docker = Some(at);
                    outage.network = Some(network.clone());
                    return vec![outage.id];
                }
                let is_same = |outage: &Outage| outage.docker.is_some() && outage.network.as_ref() == Some(network);
                if self.open().filter(is_own).any(|outage| is_same(outage)) {
                    return Vec::new();
                }
                vec![self.add(Outage {
                    container: Some(container.clone()),
                    network: Some(network.clone()),
                    docker: Some(at),
                    down: None,
                    removed: None,
                    ..blank(at, network, Fault::Removed, true)
                })]
            }
            DockerAction::NetworkConnect { network } => {
                let mut ended = Vec::new();
                for outage in self.open().filter(is_own).filter(|outage| outage.network.as_ref() == Some(network)) {
                    outage.connected_at = Some(at);
                    ended.push(outage.id);
                }
                ended
            }
            DockerAction::Die { .. } => {
                self.terminated(at, container);
                Vec::new()
            }
            DockerAction::Create
            | DockerAction::Start
            | DockerAction::Oom
            | DockerAction::Kill { .. }
            | DockerAction::Stop
            | DockerAction::Pause
            | DockerAction::Unpause
            | DockerAction::HealthStatus { .. }
            | DockerAction::Restart
            | DockerAction::Rename { .. }
            | DockerAction::Destroy => Vec::new(),
        }
    }

    /// Ends the outages of a container that went down.
    pub(in crate::engine::world) fn terminated(&mut self, at: Stamp, container: &ContainerId) {
        for outage in self.open().filter(|outage| outage.container.as_ref() == Some(container)) {
            outage.terminated_at = Some(at);
        }
    }

    /// Ends a container's outages once a current interface carries the address, or belongs to the network, that was cut
    /// off. Until then, Docker's `connect` alone counts.
    pub(in crate::engine::world) fn find_recovered(
        interfaces: &mut Interfaces,
        containers: &Containers,
        id: &ContainerId,
    ) -> Vec<OutageId> {
        let Some(netns) = containers.get(id).and_then(|container| container.info.netns) else { return Vec::new() };
        let healthy: Vec<(Place, BTreeSet<IpAddr>, Stamp)> =
            interfaces.healthy(netns).map(|(place, addresses, since)| (place, addresses.clone(), since)).collect();
        let mut ended = Vec::new();
        for outage in interfaces.outages.all.values_mut() {
            let lost_at = outage
                .removed
                .or(outage.docker)
                .filter(|_| outage.terminated_at.is_none() && outage.recovered_at.is_none());
            let Some(lost_at) = lost_at.filter(|_| outage.container.as_ref() == Some(id)) else { continue };
            let connected_at = outage.connected_at;
            let ends_outage = |(_, addresses, since): &&(Place, BTreeSet<IpAddr>, Stamp)| {
                let network = network_of(containers, id, addresses);
                let is_same = outage.network.is_some() && network == outage.network;
                let address = !outage.addresses.is_disjoint(addresses);
                // Docker's `connect` names the network of the newest interface before an inspection does.
                let is_near = |docker: Stamp| docker.since(*since).0.abs() <= DOCKER_DELAY.0;
                let by_docker = network.is_none() && connected_at.is_some_and(is_near);
                *since > lost_at && connected_at.is_none_or(is_near) && (is_same || address || by_docker)
            };
            if let Some((_, _, since)) = healthy.iter().filter(ends_outage).min_by_key(|(_, _, since)| *since) {
                outage.recovered_at = Some(*since);
                ended.push(outage.id);
            }
        }
        ended
    }
}

fn blank(at: Stamp, name: &str, fault: Fault, reported: bool) -> Outage {
    Outage {
        id: OutageId(0),
        container: None,
        place: None,
        name: name.to_owned(),
        fault,
        addresses: BTreeSet::new(),
        network: None,
        down: Some(at),
        removed: (fault == Fault::Removed).then_some(at),
        docker: None,
        recovered_at: None,
        connected_at: None,
        terminated_at: None,
        found: !reported,
    }
}

/// The network that these addresses of a container belong to.
fn network_of(containers: &Containers, id: &ContainerId, addresses: &BTreeSet<IpAddr>) -> Option<String> {
    let networks = &containers.get(id)?.info.networks;
    let found = networks.iter().find(|network| network.addresses.iter().any(|ip| addresses.contains(ip)))?;
    Some(found.network.clone())
}
