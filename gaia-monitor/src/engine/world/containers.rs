//! Containers, and by what a fact is joined to one: cgroup, namespace, address, published port.
//!
//! Bound: [`CAP`] containers; the longest gone go first, and facts about them are then nobody's.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::model::event::{ContainerInfo, DockerAction, DockerEvent, Socket};
use crate::model::ids::{CgroupId, ContainerId, NetnsId, Pid};
use crate::model::time::Stamp;

/// Containers kept, dead ones included.
const CAP: usize = 4_096;
/// Docker's events kept for each container.
const SAID: usize = 64;
/// Pauses, orphaned ports and starts kept for each container.
const PERIODS: usize = 16;
/// Docker's embedded name server listens here in every container's namespace; it is no port of the container.
const EMBEDDED_DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

#[derive(Clone, Debug)]
pub struct Container {
    pub info: ContainerInfo,
    /// What Docker said, oldest first.
    pub said: VecDeque<DockerRecord>,
    /// Ports on which it listens now, since when.
    pub listening: BTreeMap<u16, Stamp>,
    /// Every port that it ever listened on.
    pub ports: BTreeMap<u16, Stamp>,
    /// When its last listener closed.
    pub listeners_closed: Option<Stamp>,
    /// Ports whose listener went with a dying process.
    pub orphaned_ports: VecDeque<OrphanedPort>,
    /// Times in which it stood still, by Docker's pause or by SIGSTOP.
    pub pauses: VecDeque<Period>,
    /// When it was started, each time.
    pub starts: VecDeque<Stamp>,
    /// Since when its first process has been dead.
    pub down: Option<Stamp>,
}

/// A port without its listener, by the process that took it along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanedPort {
    pub port: u16,
    pub by: Pid,
    pub since: Stamp,
    pub until: Option<Stamp>,
}

/// A time with a beginning and, once it is over, an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    pub since: Stamp,
    pub until: Option<Stamp>,
    /// The signal.
    pub what: Option<String>,
}

#[derive(Clone, Debug)]
pub struct DockerRecord {
    pub at: Stamp,
    pub seen: Stamp,
    pub action: DockerAction,
}

/// Who had a key from when on.
type History<K> = BTreeMap<K, Vec<(Stamp, ContainerId)>>;

/// A port of the host that leads to a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Published {
    since: Stamp,
    container: ContainerId,
    /// The container's own port.
    own: u16,
    /// The address on the host; unspecified: each of them.
    at: IpAddr,
}

#[derive(Debug, Default)]
pub struct Containers {
    by_id: BTreeMap<ContainerId, Container>,
    arrived: VecDeque<ContainerId>,
    cgroups: BTreeMap<CgroupId, ContainerId>,
    firsts: BTreeMap<Pid, ContainerId>,
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

    #[must_use]
    pub fn of_first_process(&self, pid: Pid) -> Option<ContainerId> {
        self.firsts.get(&pid).cloned()
    }

    #[must_use]
    pub fn of_netns(&self, netns: NetnsId, at: Stamp) -> Option<ContainerId> {
        holder(&self.namespaces, &netns, at)
    }

    /// Whose interfaces a namespace holds: of containers that share one, the one that has networks of its own.
    #[must_use]
    pub fn owner_of_netns(&self, netns: NetnsId, at: Stamp) -> Option<ContainerId> {
        let last = self.of_netns(netns, at)?;
        let has_networks = |container: &&Container| !container.info.networks.is_empty();
        if self.get(&last).as_ref().is_some_and(has_networks) {
            return Some(last);
        }
        let sharing = self.all().filter(|other| other.info.netns == Some(netns) && other.down.is_none());
        sharing.filter(has_networks).map(|other| other.info.id.clone()).next().or(Some(last))
    }

    #[must_use]
    pub fn of_address(&self, ip: IpAddr, at: Stamp) -> Option<ContainerId> {
        holder(&self.addresses, &ip, at)
    }

    /// The container, and its own port, behind a published address.
    #[must_use]
    pub fn published_to(&self, address: SocketAddr, at: Stamp) -> Option<(ContainerId, u16)> {
        let holders = self.published.get(&address.port())?;
        let here = |holder: &&Published| holder.at.is_unspecified() || holder.at == address.ip();
        let latest = holders.iter().rev().filter(here).find(|holder| holder.since <= at);
        let found = latest.or_else(|| holders.iter().find(here));
        found.map(|holder| (holder.container.clone(), holder.own))
    }

    #[must_use]
    pub fn is_published(&self, port: u16) -> bool {
        self.published.contains_key(&port)
    }

    /// The creating cgroup decides, because a namespace may be shared; the namespace stands in where the cgroup is
    /// not known yet.
    #[must_use]
    pub fn of_socket(&self, socket: &Socket, at: Stamp) -> Option<ContainerId> {
        self.of_cgroup(socket.cgroup).or_else(|| self.of_netns(socket.netns, at))
    }

    /// Returns the container that had to be forgotten for it.
    pub(super) fn inspected(&mut self, info: &ContainerInfo, at: Stamp) -> Option<ContainerId> {
        let id = &info.id;
        let since = info.started_at.unwrap_or(at);
        if let Some(cgroup) = info.cgroup {
            self.cgroups.insert(cgroup, id.clone());
        }
        if let Some(pid) = info.pid {
            self.firsts.insert(pid, id.clone());
        }
        if let Some(netns) = info.netns.filter(|_| !info.host_network) {
            note(&mut self.namespaces, netns, since, id);
        }
        for ip in info.networks.iter().flat_map(|network| &network.addresses) {
            note(&mut self.addresses, *ip, since, id);
        }
        for port in &info.published {
            let holders = self.published.entry(port.host_port).or_default();
            let holder = Published { since, container: id.clone(), own: port.container_port, at: port.host_ip };
            if !holders.contains(&holder) {
                holders.push(holder);
                holders.sort();
            }
        }
        match self.by_id.get_mut(id) {
            Some(container) => {
                container.note_start(info.started_at);
                let mut info = info.clone();
                keep_what_death_takes(&mut info, &container.info);
                if container.down.is_some() && !info.running {
                    info.name.clone_from(&container.info.name);
                }
                container.info = info;
            }
            None => {
                let mut container = Container::new(info.clone());
                container.note_start(info.started_at);
                if info.paused {
                    begin(&mut container.pauses, at, None);
                }
                self.by_id.insert(id.clone(), container);
                self.arrived.push_back(id.clone());
                return self.forget_oldest();
            }
        }
        None
    }

    pub(super) fn told(&mut self, at: Stamp, seen: Stamp, event: &DockerEvent) {
        let Some(container) = self.by_id.get_mut(&event.container) else { return };
        match &event.action {
            DockerAction::Pause => begin(&mut container.pauses, at, None),
            DockerAction::Unpause => end(&mut container.pauses, at, None),
            DockerAction::Die { .. } => {
                end(&mut container.pauses, at, None);
                container.down = container.down.or(Some(at));
            }
            DockerAction::Start => container.down = container.down.filter(|down| *down > at),
            // What died keeps the name that it had then: Compose renames what it replaces.
            DockerAction::Rename { .. } if container.down.is_some() => {}
            DockerAction::Rename { .. } => container.info.name.clone_from(&event.name),
            DockerAction::HealthStatus { status } => container.info.health = Some(status.clone()),
            DockerAction::Create
            | DockerAction::NetworkConnect { .. }
            | DockerAction::NetworkDisconnect { .. }
            | DockerAction::Oom
            | DockerAction::Kill { .. }
            | DockerAction::Stop
            | DockerAction::Restart
            | DockerAction::Destroy => {}
        }
        container.said.push_back(DockerRecord { at, seen, action: event.action.clone() });
        if container.said.len() > SAID {
            container.said.pop_front();
        }
    }

    pub(super) fn listening(&mut self, id: &ContainerId, local: SocketAddr, at: Stamp) {
        if local.ip() == EMBEDDED_DNS {
            return;
        }
        if let Some(container) = self.by_id.get_mut(id) {
            container.listening.insert(local.port(), at);
            let back = |orphan: &&mut OrphanedPort| orphan.port == local.port() && orphan.until.is_none();
            for orphan in container.orphaned_ports.iter_mut().filter(back) {
                orphan.until = Some(at);
            }
            container.ports.entry(local.port()).or_insert(at);
        }
    }

    /// SIGSTOP and SIGCONT to the first process stand for pause and unpause.
    pub(super) fn stopped_by_signal(&mut self, id: &ContainerId, at: Stamp, stopped: bool) {
        let Some(container) = self.by_id.get_mut(id) else { return };
        let by = Some("SIGSTOP");
        if stopped { begin(&mut container.pauses, at, by) } else { end(&mut container.pauses, at, by) }
    }

    /// A dead container listens on nothing, whether or not each closing was seen.
    pub(super) fn terminated(&mut self, id: &ContainerId, at: Stamp) {
        if let Some(container) = self.by_id.get_mut(id) {
            container.listening.clear();
            container.listeners_closed = Some(at);
            container.down = Some(at);
        }
    }

    /// `dying`: the process that went with it.
    pub(super) fn stopped_listening(&mut self, id: &ContainerId, local: SocketAddr, at: Stamp, dying: Option<Pid>) {
        let Some(container) = self.by_id.get_mut(id) else { return };
        if container.listening.remove(&local.port()).is_some() {
            container.listeners_closed = Some(at);
        }
        if let Some(by) = dying {
            container.orphaned_ports.push_back(OrphanedPort { port: local.port(), by, since: at, until: None });
            if container.orphaned_ports.len() > PERIODS {
                container.orphaned_ports.pop_front();
            }
        }
    }

    fn forget_oldest(&mut self) -> Option<ContainerId> {
        if self.arrived.len() <= CAP {
            return None;
        }
        let id = self.arrived.pop_front()?;
        self.by_id.remove(&id);
        self.cgroups.retain(|_, holder| *holder != id);
        self.firsts.retain(|_, holder| *holder != id);
        forget(&mut self.namespaces, &id);
        forget(&mut self.addresses, &id);
        for holders in self.published.values_mut() {
            holders.retain(|holder| holder.container != id);
        }
        self.published.retain(|_, holders| !holders.is_empty());
        Some(id)
    }
}

impl Container {
    fn new(info: ContainerInfo) -> Self {
        Self {
            info,
            said: VecDeque::new(),
            listening: BTreeMap::new(),
            ports: BTreeMap::new(),
            listeners_closed: None,
            orphaned_ports: VecDeque::new(),
            pauses: VecDeque::new(),
            starts: VecDeque::new(),
            down: None,
        }
    }

    fn note_start(&mut self, start: Option<Stamp>) {
        self.down = self.down.filter(|down| start.is_none_or(|start| start < *down));
        if let Some(start) = start
            && self.starts.back() != Some(&start)
        {
            self.starts.push_back(start);
            if self.starts.len() > PERIODS {
                self.starts.pop_front();
            }
        }
    }

    /// The start that a fact at this instant belongs to.
    #[must_use]
    pub fn started_before(&self, at: Stamp) -> Option<Stamp> {
        self.starts.iter().rev().copied().find(|start| *start <= at).or(self.info.started_at)
    }

    /// The pause that an instant falls into.
    #[must_use]
    pub fn paused_at(&self, at: Stamp) -> Option<&Period> {
        self.pauses.iter().rev().find(|period| period.covers(at))
    }

    /// The process that took the listener of a port along, if the port was closed by it at an instant.
    #[must_use]
    pub fn orphaned_by(&self, port: u16, at: Stamp) -> Option<Pid> {
        let closed = |orphan: &&OrphanedPort| orphan.since <= at && orphan.until.is_none_or(|until| until > at);
        self.orphaned_ports.iter().rev().filter(closed).find(|orphan| orphan.port == port).map(|orphan| orphan.by)
    }

    /// Compose's service, else the name: what metrics and policies call it.
    #[must_use]
    pub fn service_or_name(&self) -> &str {
        self.info.service.as_deref().unwrap_or(&self.info.name)
    }

    /// The same container, or its successor by name or Compose service.
    #[must_use]
    pub fn succeeds(&self, other: &Container) -> bool {
        let same_service = self.info.service.is_some()
            && self.info.service == other.info.service
            && self.info.project == other.info.project;
        self.info.id == other.info.id || self.info.name == other.info.name || same_service
    }

    /// What Docker said at or after `from` of the life that `at` falls into: from its start to the next one.
    pub fn events_of_run(&self, from: Stamp, at: Stamp) -> impl Iterator<Item = &DockerRecord> {
        let start = |said: &&DockerRecord| said.action == DockerAction::Start;
        let began = self.said.iter().filter(start).map(|said| said.at).filter(|start| *start <= at).max();
        let next = self.said.iter().filter(start).map(|said| said.at).filter(|start| *start > at).min();
        let from = began.map_or(from, |began| began.max(from));
        self.events_since(from).filter(move |said| next.is_none_or(|next| said.at < next))
    }

    /// What Docker said at or after `from`.
    pub fn events_since(&self, from: Stamp) -> impl Iterator<Item = &DockerRecord> {
        self.said.iter().filter(move |said| said.at >= from)
    }
}

impl Period {
    fn covers(&self, at: Stamp) -> bool {
        self.since <= at && self.until.is_none_or(|until| until > at)
    }
}

fn begin(periods: &mut VecDeque<Period>, at: Stamp, what: Option<&str>) {
    periods.push_back(Period { since: at, until: None, what: what.map(str::to_owned) });
    if periods.len() > PERIODS {
        periods.pop_front();
    }
}

fn end(periods: &mut VecDeque<Period>, at: Stamp, what: Option<&str>) {
    for period in periods.iter_mut().filter(|period| period.until.is_none() && period.what.as_deref() == what) {
        period.until = Some(at);
    }
}

/// A dead container has no addresses, pid or namespace any more: the last known ones stay.
fn keep_what_death_takes(info: &mut ContainerInfo, before: &ContainerInfo) {
    info.pid = info.pid.or(before.pid);
    info.cgroup = info.cgroup.or(before.cgroup);
    info.netns = info.netns.or(before.netns);
    if info.networks.iter().all(|network| network.addresses.is_empty()) {
        info.networks.clone_from(&before.networks);
    }
    if info.published.is_empty() {
        info.published.clone_from(&before.published);
    }
}

fn note<K: Ord>(history: &mut History<K>, key: K, since: Stamp, id: &ContainerId) {
    let holders = history.entry(key).or_default();
    if holders.iter().any(|(from, holder)| *from == since && holder == id) {
        return;
    }
    holders.push((since, id.clone()));
    holders.sort();
}

/// Who held the key at an instant: the last that had it by then, else the first that ever had it (a namespace is
/// made a moment before Docker says `start`).
fn holder<K: Ord>(history: &History<K>, key: &K, at: Stamp) -> Option<ContainerId> {
    let holders = history.get(key)?;
    let found = holders.iter().rev().find(|(from, _)| *from <= at).or_else(|| holders.first());
    found.map(|(_, id)| id.clone())
}

fn forget<K: Ord>(history: &mut History<K>, id: &ContainerId) {
    for holders in history.values_mut() {
        holders.retain(|(_, holder)| holder != id);
    }
    history.retain(|_, holders| !holders.is_empty());
}
