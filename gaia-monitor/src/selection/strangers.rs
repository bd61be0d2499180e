//! Containers outside a scope, and which of them belong to a stack in it.
//!
//! Bound: [`CONTAINERS`] containers; the lowest ids are evicted, and what is about them passes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::model::event::{ContainerInfo, Socket};
use crate::model::ids::{CgroupId, ContainerId, NetnsId, Pid};

pub(super) const CONTAINERS: usize = 4_096;
/// Docker's names of what is no network.
const NO_NETWORKS: [&str; 2] = ["host", "none"];

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Container(ContainerId),
    /// The host, or another host.
    Neutral,
    /// It may be a container in scope.
    Unknown,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    #[default]
    Hidden,
    /// Only its traffic is left out.
    Named,
    Related,
}

#[derive(Debug, Default)]
struct Known {
    standing: Standing,
    networks: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    published: BTreeSet<u16>,
    project: Option<String>,
    netns: Option<NetnsId>,
    cgroup: Option<CgroupId>,
    first_process: Option<Pid>,
    on_host: bool,
    in_scope: bool,
    /// A related container was connected with it.
    met: bool,
}

impl Known {
    /// Related for nothing but the network.
    fn is_on_host_only(&self) -> bool {
        self.on_host && !self.in_scope && !self.met
    }
}

#[derive(Debug, Default)]
pub(super) struct Strangers {
    containers: BTreeMap<ContainerId, Known>,
    cgroups: BTreeMap<CgroupId, ContainerId>,
    addresses: BTreeMap<IpAddr, ContainerId>,
    /// By port of the host.
    published: BTreeMap<u16, ContainerId>,
    /// A container in scope uses the host's network.
    scope_on_host: bool,
    /// The host's network namespace.
    pub(super) host: Option<NetnsId>,
}

impl Strangers {
    pub(super) fn inspected(&mut self, info: &ContainerInfo, in_scope: bool) {
        if let Some(cgroup) = info.cgroup {
            self.cgroups.insert(cgroup, info.id.clone());
        }
        let known = self.containers.entry(info.id.clone()).or_default();
        let names = info.networks.iter().map(|network| &network.network);
        known.networks = names.filter(|name| !NO_NETWORKS.contains(&name.as_str())).cloned().collect();
        // Of a container that is down, another one may have these already.
        known.addresses = info.networks.iter().flat_map(|network| network.addresses.iter().copied()).collect();
        known.published = info.published.iter().map(|port| port.host_port).collect();
        known.netns = info.netns.filter(|_| !info.host_network);
        known.project.clone_from(&info.project);
        known.first_process = info.pid.or(known.first_process);
        known.on_host = info.host_network;
        known.in_scope = in_scope;
        known.cgroup = info.cgroup.or(known.cgroup);
        if self.containers.len() > CONTAINERS
            && let Some((_, evicted)) = self.containers.pop_first()
            && let Some(cgroup) = evicted.cgroup
        {
            self.cgroups.remove(&cgroup);
        }
        self.index();
    }

    /// The first process ended: the kernel may give its namespace, and Docker its addresses, to another container.
    pub(super) fn ended(&mut self, id: &ContainerId) {
        if let Some(known) = self.containers.get_mut(id) {
            known.netns = None;
            known.addresses.clear();
            self.index();
        }
    }

    fn index(&mut self) {
        self.addresses.clear();
        self.published.clear();
        for (id, known) in &self.containers {
            self.addresses.extend(known.addresses.iter().map(|ip| (*ip, id.clone())));
            self.published.extend(known.published.iter().map(|port| (*port, id.clone())));
        }
        self.scope_on_host = self.containers.values().any(|known| known.on_host && known.in_scope);
    }

    pub(super) fn is_stranger(&self, id: &ContainerId) -> bool {
        self.containers.get(id).is_some_and(|known| known.standing == Standing::Hidden)
    }

    /// As [`Self::is_stranger`]; also true of a container that was never inspected.
    pub(super) fn is_hidden(&self, id: &ContainerId) -> bool {
        self.containers.get(id).is_none_or(|known| known.standing == Standing::Hidden)
    }

    pub(super) fn is_first_process(&self, id: &ContainerId, pid: Pid) -> bool {
        self.containers.get(id).is_some_and(|known| known.first_process == Some(pid))
    }

    /// The container at this end, if its traffic is left out.
    pub(super) fn stranger<'a>(&self, end: &'a End) -> Option<&'a ContainerId> {
        let End::Container(id) = end else { return None };
        self.containers.get(id).is_some_and(|known| known.standing < Standing::Related).then_some(id)
    }

    pub(super) fn is_related(&self, end: &End) -> bool {
        let End::Container(id) = end else { return false };
        self.containers.get(id).is_some_and(|known| known.standing == Standing::Related)
    }

    pub(super) fn of_cgroup(&self, cgroup: CgroupId) -> Option<ContainerId> {
        self.cgroups.get(&cgroup).cloned()
    }

    pub(super) fn of_netns(&self, netns: NetnsId) -> Option<ContainerId> {
        let mut sharing = self.containers.iter().filter(|(_, known)| known.netns == Some(netns));
        sharing.next().map(|(id, _)| id.clone())
    }

    /// The local and the remote end of a socket. The creating cgroup decides about the local one: namespaces and
    /// addresses are reused before Docker has reported their next holder.
    pub(super) fn ends(&self, socket: &Socket) -> (End, End) {
        let local = match self.of_cgroup(socket.cgroup) {
            Some(id) => End::Container(id),
            None if !socket.cgroup.is_known() => self.at(socket.local),
            // docker-proxy accepts at the published port.
            None if self.host == Some(socket.netns) => self.at(socket.local),
            None => End::Unknown,
        };
        (local, self.at(socket.remote))
    }

    /// The container at an address: its own, or that of a port that it publishes.
    pub(super) fn at(&self, address: SocketAddr) -> End {
        match self.addresses.get(&address.ip()).or_else(|| self.published.get(&address.port())) {
            Some(id) => End::Container(id.clone()),
            // On the host's network a container in scope may be at any address of the host.
            None if self.scope_on_host => End::Unknown,
            None => End::Neutral,
        }
    }

    pub(super) fn met(&mut self, id: &ContainerId) {
        if let Some(known) = self.containers.get_mut(id) {
            known.met = true;
        }
    }

    /// Returns whether the container was hidden until now.
    pub(super) fn named(&mut self, id: &ContainerId) -> bool {
        let known = self.containers.get_mut(id).filter(|known| known.standing == Standing::Hidden);
        known.map(|known| known.standing = Standing::Named).is_some()
    }

    /// Finds the containers that are related and were not before.
    pub(super) fn relate(&mut self) -> BTreeSet<ContainerId> {
        let mut found = BTreeSet::new();
        loop {
            // One on the host's network may serve anything, but is in no stack because of that.
            let is_in_stack = |known: &&Known| known.standing == Standing::Related && !known.is_on_host_only();
            let related = || self.containers.values().filter(is_in_stack);
            let networks: BTreeSet<String> = related().flat_map(|known| known.networks.iter().cloned()).collect();
            let projects: BTreeSet<String> = related().filter_map(|known| known.project.clone()).collect();
            let namespaces: BTreeSet<NetnsId> = related().filter_map(|known| known.netns).collect();
            let mut grew = false;
            for (id, known) in self.containers.iter_mut().filter(|(_, known)| known.standing < Standing::Related) {
                let is_near = !known.networks.is_disjoint(&networks)
                    || known.project.as_ref().is_some_and(|project| projects.contains(project))
                    || known.netns.is_some_and(|netns| namespaces.contains(&netns));
                if known.in_scope || known.met || known.on_host || is_near {
                    known.standing = Standing::Related;
                    found.insert(id.clone());
                    grew = true;
                }
            }
            if !grew {
                return found;
            }
        }
    }
}
