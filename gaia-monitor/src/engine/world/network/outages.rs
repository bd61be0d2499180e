//! Times in which a container could not be reached because its interface, or its bridge, was down or gone.
//!
//! Docker's word (a disconnect, a connect) and the kernel's (an interface went, came) describe one outage and come in
//! either order, some twenty milliseconds apart: they are matched here.
//!
//! Bound: [`CAP`]; those that are over go first, then the oldest, and what they broke is told without them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::event::DockerAction;
use crate::model::ids::{ContainerId, NetnsId};
use crate::model::time::{Nanos, Stamp};

use crate::engine::world::containers::{Container, Containers};
use crate::engine::world::network::interfaces::{Fault, Interfaces};

const CAP: usize = 1_024;
/// Docker tells a disconnect at most this long after it took the interface away (22 ms here, more under load).
const TOLD_WITHIN: Nanos = Nanos::from_secs(5);
/// TCP doubles its waits: what was sent in an outage is sent again at the latest after as long again, and this.
const SENT_AGAIN: Nanos = Nanos::from_secs(1);
/// Bytes that were under way when the way was cut.
const UNDER_WAY: Nanos = Nanos::from_millis(10);

/// An interface: its namespace and index.
pub type Place = (NetnsId, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutageId(pub u64);

#[derive(Clone, Debug)]
pub struct Outage {
    pub id: OutageId,
    /// `None`: a bridge's, which cuts every container behind it.
    pub container: Option<ContainerId>,
    /// The container's interface, or the bridge; `None` while only Docker has told of it.
    pub place: Option<Place>,
    /// The interface that went down, or the network that Docker named.
    pub name: String,
    pub fault: Fault,
    /// Addresses that cannot be reached.
    pub addresses: BTreeSet<IpAddr>,
    /// Docker's name of the network.
    pub network: Option<String>,
    /// When the kernel told that something was wrong.
    pub down: Option<Stamp>,
    /// When the interface went.
    pub removed: Option<Stamp>,
    /// When Docker told the disconnect.
    pub docker: Option<Stamp>,
    /// When the kernel told that all is well again, and when Docker told the connect.
    back: Option<Stamp>,
    connected: Option<Stamp>,
    /// When the container itself went down.
    gone: Option<Stamp>,
    /// It was found so: when it began is not known.
    pub found: bool,
}

impl Outage {
    #[must_use]
    pub fn since(&self) -> Stamp {
        self.down.or(self.removed).or(self.docker).unwrap_or_default()
    }

    /// When the way was free again; `None` also where the container went down first.
    #[must_use]
    pub fn mended(&self) -> Option<Stamp> {
        self.back.or(self.connected)
    }

    /// Its end, for whichever reason.
    #[must_use]
    pub fn until(&self) -> Option<Stamp> {
        self.mended().or(self.gone)
    }

    /// Does it cut a container off at one of its addresses?
    #[must_use]
    pub fn cuts_off(&self, container: &Container, ip: IpAddr) -> bool {
        let info = &container.info;
        let shares = self.place.is_some_and(|(netns, _)| info.netns == Some(netns));
        if self.container.as_ref() != Some(&info.id) && !shares {
            return false;
        }
        if !self.addresses.is_empty() {
            return self.addresses.contains(&ip);
        }
        let elsewhere = info.networks.iter().filter(|network| Some(&network.network) != self.network.as_ref());
        !elsewhere.flat_map(|network| &network.addresses).any(|other| *other == ip)
    }

    /// Does it explain that an exchange which began at `begun` had got nothing by `at`? `received`: its last bytes.
    #[must_use]
    pub fn explains(&self, begun: Stamp, at: Stamp, received: Option<Stamp>) -> bool {
        let since = self.since();
        let fresh = |received: Stamp| received > since.plus(UNDER_WAY) && self.until().is_none_or(|end| received < end);
        if since > at || received.is_some_and(fresh) {
            return false;
        }
        self.until().is_none_or(|end| end > begun && at <= end.plus(end.since(since)).plus(SENT_AGAIN))
    }
}

/// What is wrong with the way to a container.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine::world) struct Cut<'a> {
    /// The container's interface.
    pub place: Place,
    /// The interface that it is wrong with.
    pub name: &'a str,
    pub fault: Fault,
    pub addresses: &'a BTreeSet<IpAddr>,
    /// The change itself was told.
    pub seen: bool,
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

    /// An outage of a container on this network that Docker was asked for, and that lasts at `from` or begins by `until`.
    #[must_use]
    pub fn of_network(&self, container: &ContainerId, network: &str, from: Stamp, until: Stamp) -> Option<&Outage> {
        self.all.values().rev().find(|outage| {
            let lasts = outage.since() <= until && outage.until().is_none_or(|over| over > from);
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
        if self.all.len() > CAP {
            let over = self.all.values().find(|outage| outage.until().is_some()).map(|outage| outage.id);
            if let Some(oldest) = over.or(self.all.keys().next().copied()) {
                self.all.remove(&oldest);
            }
        }
        id
    }

    /// Something is wrong with the way to a container's interface. Returns the outage if that is news.
    pub(in crate::engine::world) fn cut(
        &mut self,
        at: Stamp,
        container: &ContainerId,
        cut: &Cut,
        containers: &Containers,
    ) -> Option<OutageId> {
        let Cut { place, name, fault, addresses, seen } = *cut;
        let network = network_of(containers, container, addresses);
        let own = |outage: &&mut Outage| outage.container.as_ref() == Some(container);
        let told = |outage: &Outage| outage.docker.is_some_and(|told| at.since(told).0.abs() <= TOLD_WITHIN.0);
        let same = |outage: &Outage| {
            let network = outage.network.is_none() || network.is_none() || outage.network == network;
            outage.place == Some(place) || (outage.place.is_none() && network && told(outage))
        };
        if let Some(outage) = self.open().filter(own).find(|outage| same(outage)) {
            let news = outage.place.is_none() || (fault == Fault::Removed && outage.removed.is_none());
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
            return news.then_some(outage.id);
        }
        Some(self.add(Outage {
            container: Some(container.clone()),
            place: Some(place),
            addresses: addresses.clone(),
            network,
            ..blank(at, name, fault, seen)
        }))
    }

    pub(in crate::engine::world) fn bridge_cut(
        &mut self,
        at: Stamp,
        place: Place,
        name: &str,
        fault: Fault,
        seen: bool,
    ) -> Option<OutageId> {
        if let Some(outage) = self.open().find(|outage| outage.place == Some(place)) {
            if fault == Fault::Removed {
                outage.removed = outage.removed.or(Some(at));
                outage.fault = fault;
            }
            return None;
        }
        Some(self.add(Outage { place: Some(place), ..blank(at, name, fault, seen) }))
    }

    /// Nothing is wrong with an interface, or a bridge, any more; a bridge that was removed comes back by its name.
    pub(in crate::engine::world) fn mended(&mut self, at: Stamp, place: Place, name: &str) -> Option<OutageId> {
        let back = |outage: &&mut Outage| {
            let by_name = outage.container.is_none() && outage.removed.is_some() && outage.name == name;
            (outage.place == Some(place) && outage.removed.is_none()) || by_name
        };
        let outage = self.open().find(back)?;
        outage.back = Some(at);
        Some(outage.id)
    }

    /// What Docker says of a container's networks.
    pub(in crate::engine::world) fn told(
        &mut self,
        at: Stamp,
        container: &ContainerId,
        action: &DockerAction,
    ) -> Vec<OutageId> {
        let own = |outage: &&mut Outage| outage.container.as_ref() == Some(container);
        match action {
            DockerAction::NetworkDisconnect { network } => {
                let fits = |outage: &&mut Outage| {
                    let near = |cut: Stamp| at.since(cut).0.abs() <= TOLD_WITHIN.0;
                    let named = outage.network.as_ref().is_none_or(|named| named == network);
                    named && outage.docker.is_none() && near(outage.removed.unwrap_or(outage.since()))
                };
                if let Some(outage) = self.open().filter(own).rev().find(fits) {
                    outage.docker = Some(at);
                    outage.network = Some(network.clone());
                    return vec![outage.id];
                }
                let same = |outage: &Outage| outage.docker.is_some() && outage.network.as_ref() == Some(network);
                if self.open().filter(own).any(|outage| same(outage)) {
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
                for outage in self.open().filter(own).filter(|outage| outage.network.as_ref() == Some(network)) {
                    outage.connected = Some(at);
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

    /// A dead container has no way that could be cut.
    pub(in crate::engine::world) fn terminated(&mut self, at: Stamp, container: &ContainerId) {
        for outage in self.open().filter(|outage| outage.container.as_ref() == Some(container)) {
            outage.gone = Some(at);
        }
    }

    /// Whether the interfaces that a container has now end an outage: one that carries the address, or belongs to the
    /// network, that was cut off. Docker's word alone stands until then.
    pub(in crate::engine::world) fn find_recovered(
        links: &mut Interfaces,
        containers: &Containers,
        id: &ContainerId,
    ) -> Vec<OutageId> {
        let Some(netns) = containers.get(id).and_then(|container| container.info.netns) else { return Vec::new() };
        let fine: Vec<(Place, BTreeSet<IpAddr>, Stamp)> =
            links.fine(netns).map(|(place, addresses, since)| (place, addresses.clone(), since)).collect();
        let mut ended = Vec::new();
        for outage in links.outages.all.values_mut() {
            let cut_off = outage.removed.or(outage.docker).filter(|_| outage.gone.is_none() && outage.back.is_none());
            let Some(cut_off) = cut_off.filter(|_| outage.container.as_ref() == Some(id)) else { continue };
            let connected = outage.connected;
            let carries = |(_, addresses, since): &&(Place, BTreeSet<IpAddr>, Stamp)| {
                let network = network_of(containers, id, addresses);
                let same = outage.network.is_some() && network == outage.network;
                let address = !outage.addresses.is_disjoint(addresses);
                // Docker says which network the newest interface belongs to before an inspection does.
                let near = |told: Stamp| told.since(*since).0.abs() <= TOLD_WITHIN.0;
                let told = network.is_none() && connected.is_some_and(near);
                *since > cut_off && connected.is_none_or(near) && (same || address || told)
            };
            if let Some((_, _, since)) = fine.iter().filter(carries).min_by_key(|(_, _, since)| *since) {
                outage.back = Some(*since);
                ended.push(outage.id);
            }
        }
        ended
    }
}

fn blank(at: Stamp, name: &str, fault: Fault, seen: bool) -> Outage {
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
        back: None,
        connected: None,
        gone: None,
        found: !seen,
    }
}

/// The network that these addresses of a container belong to.
fn network_of(containers: &Containers, id: &ContainerId, addresses: &BTreeSet<IpAddr>) -> Option<String> {
    let networks = &containers.get(id)?.info.networks;
    let found = networks.iter().find(|network| network.addresses.iter().any(|ip| addresses.contains(ip)))?;
    Some(found.network.clone())
}
