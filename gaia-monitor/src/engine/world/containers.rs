//! All containers, and the keys that join a fact to one: cgroup, network namespace, address and published port.
//!
//! Namespaces, addresses and published ports are kept as histories, because they are reused, and facts may refer to a
//! terminated container.
//!
//! Bound: [`CONTAINERS_CAP`] containers, terminated ones included; when reached, the oldest is evicted, and facts about
//! it are unattributed.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::model::event::{ContainerInfo, DockerAction, DockerEvent, Socket};
use crate::model::ids::{CgroupId, ContainerId, NetnsId, Pid};
use crate::model::time::Stamp;

use crate::engine::world::container::{DOCKER_RECORDS_CAP, PERIODS_CAP, begin_period, end_period};

pub use crate::engine::world::container::{Container, DockerRecord, Listener, OrphanedPort};

const CONTAINERS_CAP: usize = 4_096;
/// Listening sockets kept of each container; of further ones only the port is known, until the first of them closes.
const LISTENERS_CAP: usize = 1_024;
/// Docker's embedded DNS server listens here in every container's namespace; it is no port of the container.
pub(super) const EMBEDDED_DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// The holders of a key, each with the start of its use.
type History<K> = BTreeMap<K, Vec<(Stamp, ContainerId)>>;

/// A port of the host that leads to a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Published {
    since: Stamp,
    container: ContainerId,
    /// The container's own port.
    container_port: u16,
    /// The address on the host; unspecified: every address.
    host_ip: IpAddr,
}

#[derive(Debug, Default)]
pub struct Containers {
    by_id: BTreeMap<ContainerId, Container>,
    arrived: VecDeque<ContainerId>,
    cgroups: BTreeMap<CgroupId, ContainerId>,
    first_processes: BTreeMap<Pid, ContainerId>,
    namespaces: History<NetnsId>,
    addresses: History<IpAddr>,
    /// By port of the host.
    published: BTreeMap<u16, Vec<Published>>,
}

impl Containers {
    #[must_use]
    pub fn get(&self, id: &ContainerId) -> Option<&Container> {
        self.by_id.get(id)
    }

    pub fn all(&self) -> impl Iterator<Item = &Container> {
        self.by_id.values()
    }

    #[must_use]
    pub fn of_cgroup(&self, cgroup: CgroupId) -> Option<ContainerId> {
        self.cgroups.get(&cgroup).cloned()
    }

    /// The container whose first process has this pid, unless the process is in another container's cgroup.
    #[must_use]
    pub fn of_first_process(&self, pid: Pid, cgroup: CgroupId, at: Stamp) -> Option<ContainerId> {
        self.first_processes.get(&pid).filter(|id| self.may_own(id, cgroup, at)).cloned()
    }

    /// Whether nothing contradicts that a process or socket of `cgroup` belongs to the container.
    fn may_own(&self, id: &ContainerId, cgroup: CgroupId, at: Stamp) -> bool {
        self.get(id).is_none_or(|container| !container.is_contradicted_by(cgroup, at))
    }

    /// The last container with this namespace. The number may have been reused since the container ended.
    #[must_use]
    pub fn of_netns(&self, netns: NetnsId, at: Stamp) -> Option<ContainerId> {
        holder_at(&self.namespaces, &netns, at)
    }

    /// The container with this namespace, for a process or socket of `cgroup`.
    #[must_use]
    pub fn of_namespace(&self, netns: NetnsId, cgroup: CgroupId, at: Stamp) -> Option<ContainerId> {
        self.of_netns(netns, at).filter(|id| self.may_own(id, cgroup, at))
    }

    /// The owner of a namespace's interfaces: of the containers that share it, the one with networks of its own.
    #[must_use]
    pub fn owner_of_netns(&self, netns: NetnsId, at: Stamp) -> Option<ContainerId> {
        let last = self.of_netns(netns, at)?;
        let has_networks = |container: &&Container| !container.info.networks.is_empty();
        if self.get(&last).as_ref().is_some_and(has_networks) {
            return Some(last);
        }
        let in_namespace = self.all().filter(|other| other.info.netns == Some(netns) && other.destroyed.is_none());
        let owner = in_namespace.filter(has_networks).max_by_key(|other| (other.down.is_none(), other.starts.back()));
        owner.map(|owner| owner.info.id.clone()).or(Some(last))
    }

    /// The container whose networks another one uses (`network_mode: service:X`), as long as one of the two had them.
    #[must_use]
    pub fn namespace_owner(&self, id: &ContainerId) -> Option<&Container> {
        let guest = self.get(id).filter(|guest| guest.info.networks.is_empty() && !guest.info.host_network)?;
        let holders = self.namespaces.get(&guest.info.netns?)?;
        let others = holders.iter().rev().filter(|(_, holder)| holder != id).filter_map(|(_, holder)| self.get(holder));
        others.filter(|other| !other.info.networks.is_empty()).max_by_key(|other| other.starts.back())
    }

    /// Of the containers that share the namespace of `id`, the one whose process listened on the port last.
    #[must_use]
    pub fn listener_beside(&self, id: &ContainerId, port: u16) -> Option<ContainerId> {
        let holders = self.namespaces.get(&self.get(id)?.info.netns?)?;
        let sharing = holders.iter().filter_map(|(_, holder)| self.get(holder)).filter(|other| {
            other.info.id == *id
                || (other.info.networks.is_empty()
                    && self.namespace_owner(&other.info.id).is_some_and(|owner| owner.info.id == *id))
        });
        let listened = sharing.filter_map(|other| Some((other.ports.get(&port)?, &other.info.id)));
        listened.max().map(|(_, id)| id.clone())
    }

    /// The container on the host's network whose process listened on this port last.
    #[must_use]
    pub fn listener_on_host(&self, port: u16) -> Option<&Container> {
        let on_host = self.all().filter(|container| container.info.host_network);
        on_host
            .filter(|container| container.ports.contains_key(&port))
            .max_by_key(|container| container.ports.get(&port))
    }

    #[must_use]
    pub fn of_address(&self, ip: IpAddr, at: Stamp) -> Option<ContainerId> {
        holder_at(&self.addresses, &ip, at)
    }

    /// The container, and its own port, behind a published address.
    #[must_use]
    pub fn published_to(&self, address: SocketAddr, at: Stamp) -> Option<(ContainerId, u16)> {
        let holders = self.published.get(&address.port())?;
        let is_bound = |holder: &&Published| holder.host_ip.is_unspecified() || holder.host_ip == address.ip();
        let latest = holders.iter().rev().filter(is_bound).find(|holder| holder.since <= at);
        let found = latest.or_else(|| holders.iter().find(is_bound));
        found.map(|holder| (holder.container.clone(), holder.container_port))
    }

    #[must_use]
    pub fn is_published(&self, port: u16) -> bool {
        self.published.contains_key(&port)
    }

    /// The container of a socket. The creating cgroup decides, because a namespace may be shared; the namespace is the
    /// fallback while the cgroup is unknown.
    #[must_use]
    pub fn of_socket(&self, socket: &Socket, at: Stamp) -> Option<ContainerId> {
        self.of_cgroup(socket.cgroup).or_else(|| self.of_namespace(socket.netns, socket.cgroup, at))
    }

    /// Records an inspection. Returns the container that was evicted for it, if any.
    pub(super) fn inspected(&mut self, info: &ContainerInfo, at: Stamp) -> Option<ContainerId> {
        let id = &info.id;
        let since = info.started_at.unwrap_or(at);
        if let Some(cgroup) = info.cgroup {
            self.cgroups.insert(cgroup, id.clone());
        }
        if let Some(pid) = info.pid {
            self.first_processes.insert(pid, id.clone());
        }
        if let Some(netns) = info.netns.filter(|_| !info.host_network) {
            record_holder(&mut self.namespaces, netns, since, id);
        }
        for ip in info.networks.iter().flat_map(|network| &network.addresses) {
            record_holder(&mut self.addresses, *ip, since, id);
        }
        for port in &info.published {
            let holders = self.published.entry(port.host_port).or_default();
            let holder =
                Published { since, container: id.clone(), container_port: port.container_port, host_ip: port.host_ip };
            if !holders.contains(&holder) {
                holders.push(holder);
                holders.sort();
            }
        }
        match self.by_id.get_mut(id) {
            Some(container) => {
                container.record_start(info.started_at);
                container.record_health(at, info.health.as_deref());
                let mut info = info.clone();
                keep_last_known(&mut info, &container.info);
                if container.down.is_some() && !info.running {
                    info.name.clone_from(&container.info.name);
                }
                container.info = info;
            }
            None => {
                let mut container = Container::new(info.clone());
                container.record_start(info.started_at);
                container.record_health(at, info.health.as_deref());
                if info.paused {
                    begin_period(&mut container.pauses, at, None);
                }
                self.by_id.insert(id.clone(), container);
                self.arrived.push_back(id.clone());
                return self.evict_oldest();
            }
        }
        None
    }

    pub(super) fn docker_event(&mut self, at: Stamp, seen: Stamp, event: &DockerEvent) {
        let Some(container) = self.by_id.get_mut(&event.container) else { return };
        match &event.action {
            DockerAction::Pause => begin_period(&mut container.pauses, at, None),
            DockerAction::Unpause => end_period(&mut container.pauses, at, None),
            DockerAction::Die { .. } => {
                end_period(&mut container.pauses, at, None);
                if container.down.is_none() {
                    container.run_ended(at);
                    container.down = Some(at);
                }
            }
            DockerAction::Start => container.down = container.down.filter(|down| *down > at),
            // A container that is down keeps its name: Compose renames a container before it replaces it.
            DockerAction::Rename { .. } if container.down.is_some() => {}
            DockerAction::Rename { .. } => container.info.name.clone_from(&event.name),
            DockerAction::HealthStatus { status } => {
                container.record_health(at, Some(status));
                container.info.health = Some(status.clone());
            }
            DockerAction::Create
            | DockerAction::NetworkConnect { .. }
            | DockerAction::NetworkDisconnect { .. }
            | DockerAction::Oom
            | DockerAction::Kill { .. }
            | DockerAction::Stop
            | DockerAction::Restart => {}
            DockerAction::Destroy => container.destroyed = Some(at),
        }
        container.docker_events.push_back(DockerRecord { at, seen, action: event.action.clone() });
        if container.docker_events.len() > DOCKER_RECORDS_CAP {
            container.docker_events.pop_front();
        }
    }

    /// `pid`: the process that called `listen(2)`, or holds the socket.
    pub(super) fn listening(&mut self, id: &ContainerId, socket: &Socket, pid: Option<Pid>, at: Stamp) {
        let local = socket.local;
        if local.ip() == EMBEDDED_DNS {
            return;
        }
        if let Some(container) = self.by_id.get_mut(id) {
            if container.listeners.len() < LISTENERS_CAP {
                container.listeners.insert(socket.cookie, Listener { local, pid });
            }
            container.listening.insert(local.port(), at);
            let is_reopened = |orphan: &&mut OrphanedPort| orphan.port == local.port() && orphan.until.is_none();
            for orphan in container.orphaned_ports.iter_mut().filter(is_reopened) {
                orphan.until = Some(at);
            }
            container.record_port(local, at);
        }
    }

    /// SIGSTOP and SIGCONT of the first process count as pause and unpause.
    pub(super) fn stopped_by_signal(&mut self, id: &ContainerId, at: Stamp, stopped: bool) {
        let Some(container) = self.by_id.get_mut(id) else { return };
        let what = Some("SIGSTOP");
        if stopped {
            begin_period(&mut container.pauses, at, what)
        } else {
            end_period(&mut container.pauses, at, what)
        }
    }

    /// A terminated container listens on no port, whether or not every close was reported.
    pub(super) fn terminated(&mut self, id: &ContainerId, at: Stamp) {
        if let Some(container) = self.by_id.get_mut(id) {
            container.run_ended(at);
            container.listening.clear();
            container.listeners.clear();
            container.listeners_closed = Some(at);
            container.down = Some(at);
        }
    }

    /// `dying`: the process whose exit closed the listener.
    pub(super) fn stopped_listening(&mut self, id: &ContainerId, socket: &Socket, at: Stamp, dying: Option<Pid>) {
        let Some(container) = self.by_id.get_mut(id) else { return };
        let local = socket.local;
        container.listeners.remove(&socket.cookie);
        // Another socket listens on: a sibling with `SO_REUSEPORT`, or one on another address.
        if container.listeners.values().any(|other| other.local.port() == local.port()) {
            return;
        }
        if container.listening.remove(&local.port()).is_some() {
            container.listeners_closed = Some(at);
        }
        if let Some(by) = dying {
            container.orphaned_ports.push_back(OrphanedPort { port: local.port(), by, since: at, until: None });
            if container.orphaned_ports.len() > PERIODS_CAP {
                container.orphaned_ports.pop_front();
            }
        }
    }

    fn evict_oldest(&mut self) -> Option<ContainerId> {
        if self.arrived.len() <= CONTAINERS_CAP {
            return None;
        }
        let id = self.arrived.pop_front()?;
        self.by_id.remove(&id);
        self.cgroups.retain(|_, holder| *holder != id);
        self.first_processes.retain(|_, holder| *holder != id);
        evict(&mut self.namespaces, &id);
        evict(&mut self.addresses, &id);
        for holders in self.published.values_mut() {
            holders.retain(|holder| holder.container != id);
        }
        self.published.retain(|_, holders| !holders.is_empty());
        Some(id)
    }
}

/// Docker reports no addresses, pid or namespace of a terminated container: keep the last known ones.
fn keep_last_known(info: &mut ContainerInfo, previous: &ContainerInfo) {
    info.pid = info.pid.or(previous.pid);
    info.cgroup = info.cgroup.or(previous.cgroup);
    info.netns = info.netns.or(previous.netns);
    if info.networks.iter().all(|network| network.addresses.is_empty()) {
        info.networks.clone_from(&previous.networks);
    }
    if info.published.is_empty() {
        info.published.clone_from(&previous.published);
    }
}

fn record_holder<K: Ord>(history: &mut History<K>, key: K, since: Stamp, id: &ContainerId) {
    let holders = history.entry(key).or_default();
    if holders.iter().any(|(from, holder)| *from == since && holder == id) {
        return;
    }
    holders.push((since, id.clone()));
    holders.sort();
}

/// The holder of a key at an instant: the latest by then, else the first (a namespace is created just before Docker
/// emits `start`).
fn holder_at<K: Ord>(history: &History<K>, key: &K, at: Stamp) -> Option<ContainerId> {
    let holders = history.get(key)?;
    let found = holders.iter().rev().find(|(from, _)| *from <= at).or_else(|| holders.first());
    found.map(|(_, id)| id.clone())
}

fn evict<K: Ord>(history: &mut History<K>, id: &ContainerId) {
    for holders in history.values_mut() {
        holders.retain(|(_, holder)| holder != id);
    }
    history.retain(|_, holders| !holders.is_empty());
}
