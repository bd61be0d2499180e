//! Inventory of what is older than the probe: processes and connections of running containers, and docker-proxies.
//!
//! Read once, after the probe is attached: a change meanwhile is reported twice, never missed. Of the host's own sockets,
//! only those that concern containers are reported. Reading blocks for some milliseconds, so it runs on its own thread.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ipnet::IpNet;

use super::docker::Listing;
use super::netns::{Broker, SocketKind};
use super::procfs::{self, CgroupTree, ProcEntry};
use super::sockdiag::{self, Listed};
use crate::model::event::{
    ContainerInfo, Fact, Observation, ProcessSeen, ProxySeen, Socket, SocketSeen, Task, TcpState,
};
use crate::model::ids::{CgroupId, ContainerId, NetnsId, Pid};
use crate::model::time::Stamp;

/// The facts found, and what could not be read.
#[derive(Debug, Default)]
pub struct Inventory {
    pub observations: Vec<Observation>,
    /// Ports on which docker-proxies listen.
    pub proxied: BTreeSet<u16>,
    /// Network namespaces whose sockets could not be listed.
    pub unread: u64,
}

/// Reads the inventory; `at` becomes the instant of all its facts.
#[must_use]
pub fn read(listing: &Listing, broker: &Broker, at: Stamp) -> Inventory {
    let tree = CgroupTree::find();
    let all = procfs::processes(tree.as_ref());
    let running = running(listing, &all);
    let members = members(&running, &all);
    let proxies: Vec<_> = proxies(&all).collect();
    let mut found =
        Inventory { proxied: proxies.iter().map(|proxy| proxy.listen.port()).collect(), ..Default::default() };

    let host = procfs::netns_at(Path::new(procfs::OWN_NETNS)).ok();
    let mut sockets = Vec::new();
    for (netns, pid) in namespaces(&running).into_iter().filter(|(netns, _)| Some(*netns) != host) {
        let path = procfs::netns_path(pid);
        match list(broker, &path) {
            Some(listed) => sockets.extend(listed.into_iter().map(|socket| (netns, socket))),
            None if procfs::netns_at(&path).is_ok() => found.unread += 1,
            // The container has ended since it was listed; the probe, attached before, has reported that.
            None => {}
        }
    }
    let relevance = Relevance::new(listing, &found.proxied);
    match host.zip(list(broker, Path::new(procfs::OWN_NETNS))) {
        Some((netns, listed)) => {
            sockets
                .extend(listed.into_iter().filter(|socket| relevance.applies_to(socket)).map(|socket| (netns, socket)));
        }
        None => found.unread += 1,
    }

    let holders = holders(&sockets, &members, &all);
    let servers: BTreeSet<Pid> =
        serving(&sockets).iter().filter_map(|inode| holders.get(inode)).flatten().copied().collect();
    let facts = members.iter().filter_map(|pid| all.get(pid).map(|entry| process(entry, servers.contains(pid))));
    let seen = sockets.iter().map(|(netns, socket)| connection(*netns, socket, &holders, &all, at));
    let proxies = proxies.into_iter().map(Fact::ProxySeen);
    found.observations = facts.chain(seen).chain(proxies).map(|fact| Observation { at, fact }).collect();
    found
}

fn list(broker: &Broker, namespace: &Path) -> Option<Vec<Listed>> {
    sockdiag::dump(broker.socket(namespace, SocketKind::SOCK_DIAG).ok()?).ok()
}

/// A container that runs, with a process by which to enter its network namespace.
struct Running<'a> {
    id: &'a ContainerId,
    pid: Pid,
    netns: Option<NetnsId>,
}

/// A container that Docker could not inspect is known by the path of its processes' cgroup.
fn running<'a>(listing: &'a Listing, all: &BTreeMap<Pid, ProcEntry>) -> Vec<Running<'a>> {
    let inspected = listing.containers.iter().filter_map(|seen| {
        let ContainerInfo { id, pid, netns, .. } = seen;
        Some(Running { id, pid: (*pid)?, netns: *netns })
    });
    let uninspected = listing.uninspected.iter().filter_map(|id| {
        let process = &all.values().find(|entry| is_named(&entry.cgroup_path, id))?.process;
        Some(Running { id, pid: process.pid, netns: Some(process.netns) })
    });
    inspected.chain(uninspected).collect()
}

fn is_named(cgroup_path: &Path, id: &ContainerId) -> bool {
    cgroup_path.iter().filter_map(|part| part.to_str()).any(|part| part.contains(&id.0))
}

/// The processes of containers: those in or below the cgroup of one, or in the pid namespace of its first process if that
/// is its own (a container may share the host's).
fn members(running: &[Running<'_>], all: &BTreeMap<Pid, ProcEntry>) -> BTreeSet<Pid> {
    let own: BTreeSet<u64> = running
        .iter()
        .filter_map(|container| Some(all.get(&container.pid)?.pid_namespace))
        .filter(|namespace| *namespace != procfs::INITIAL_PID_NAMESPACE)
        .collect();
    let named = |path: &Path| running.iter().any(|container| is_named(path, container.id));
    all.iter()
        .filter(|(_, entry)| own.contains(&entry.pid_namespace) || named(&entry.cgroup_path))
        .map(|(pid, _)| *pid)
        .collect()
}

fn proxies(all: &BTreeMap<Pid, ProcEntry>) -> impl Iterator<Item = ProxySeen> {
    // The kernel keeps fifteen characters of a name, so rootlesskit's proxy is recognized by its prefix.
    let named = |comm: &str| comm == procfs::PROXY || comm.starts_with("rootlesskit-doc");
    all.values().filter(move |entry| named(&entry.process.comm)).filter_map(|entry| procfs::proxy(entry.process.pid))
}

/// Each namespace once (containers may share one), with a process by which to enter it.
fn namespaces(running: &[Running<'_>]) -> BTreeMap<NetnsId, Pid> {
    running.iter().filter_map(|container| Some((container.netns?, container.pid))).collect()
}

/// Criteria by which a socket in the host's namespace concerns a container.
struct Relevance<'a> {
    ports: BTreeSet<u16>,
    prefixes: &'a [IpNet],
    cgroups: BTreeSet<CgroupId>,
}

impl<'a> Relevance<'a> {
    fn new(listing: &'a Listing, proxied: &BTreeSet<u16>) -> Self {
        let published = listing.containers.iter().flat_map(|seen| seen.published.iter().map(|port| port.host_port));
        let on_host = listing.containers.iter().filter(|seen| seen.host_network);
        Self {
            ports: published.chain(proxied.iter().copied()).collect(),
            prefixes: &listing.prefixes,
            cgroups: on_host.filter_map(|seen| seen.cgroup).collect(),
        }
    }

    fn applies_to(&self, socket: &Listed) -> bool {
        self.ports.contains(&socket.local.port())
            || self.ports.contains(&socket.remote.port())
            || self.prefixes.iter().any(|prefix| prefix.contains(&socket.remote.ip()))
            || socket.cgroup.is_some_and(|cgroup| self.cgroups.contains(&cgroup))
    }
}

/// The processes that hold each socket. Those of the host are read only if a socket has no holder among the containers.
fn holders(
    sockets: &[(NetnsId, Listed)],
    members: &BTreeSet<Pid>,
    all: &BTreeMap<Pid, ProcEntry>,
) -> BTreeMap<u64, BTreeSet<Pid>> {
    let wanted: BTreeSet<u64> = sockets.iter().map(|(_, socket)| socket.inode).filter(|inode| *inode != 0).collect();
    let mut holders = BTreeMap::new();
    add_holders(&mut holders, &wanted, members.iter());
    if holders.len() < wanted.len() {
        add_holders(&mut holders, &wanted, all.keys().filter(|pid| !members.contains(pid)));
    }
    holders
}

fn add_holders<'a>(
    holders: &mut BTreeMap<u64, BTreeSet<Pid>>,
    wanted: &BTreeSet<u64>,
    pids: impl Iterator<Item = &'a Pid>,
) {
    for pid in pids {
        for inode in procfs::sockets(*pid).into_iter().filter(|inode| wanted.contains(inode)) {
            holders.entry(inode).or_default().insert(*pid);
        }
    }
}

/// Listening sockets, and connections to the port of one in the same namespace.
fn serving(sockets: &[(NetnsId, Listed)]) -> BTreeSet<u64> {
    let listening = sockets.iter().filter(|(_, socket)| socket.state == TcpState::Listen);
    let ports: BTreeSet<_> = listening.map(|(netns, socket)| (*netns, socket.local.port())).collect();
    sockets
        .iter()
        .filter(|(netns, socket)| socket.inode != 0 && ports.contains(&(*netns, socket.local.port())))
        .map(|(_, socket)| socket.inode)
        .collect()
}

fn process(entry: &ProcEntry, serves: bool) -> Fact {
    Fact::ProcessSeen(ProcessSeen {
        process: entry.process.clone(),
        parent: entry.parent,
        parent_outside: entry.parent_outside,
        serves,
    })
}

fn connection(
    netns: NetnsId,
    listed: &Listed,
    holders: &BTreeMap<u64, BTreeSet<Pid>>,
    all: &BTreeMap<Pid, ProcEntry>,
    at: Stamp,
) -> Fact {
    // Of several holders the one with the lowest pid: workers inherit a listener from it.
    let holder = holders.get(&listed.inode).and_then(|pids| all.get(pids.first()?));
    let cgroup = listed.cgroup.or_else(|| holder.map(|entry| entry.process.cgroup)).unwrap_or(CgroupId(0));
    Fact::SocketSeen(SocketSeen {
        socket: Socket { cookie: listed.cookie, netns, cgroup, local: listed.local, remote: listed.remote },
        state: listed.state,
        task: holder.map(|entry| Task { pid: entry.process.pid, comm: entry.process.comm.clone(), exiting: false }),
        last_sent: listed.sent_ago.map(|ago| at.minus(ago)),
        last_received: listed.received_ago.map(|ago| at.minus(ago)),
    })
}

#[cfg(test)]
mod tests;
