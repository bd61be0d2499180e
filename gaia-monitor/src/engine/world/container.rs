//! Container: its Docker inspection, ports, runs and pauses.
//!
//! Bound: [`DOCKER_RECORDS_CAP`] Docker events, and [`PERIODS_CAP`] pauses, orphaned ports, starts and changes of health;
//! when reached, the oldest is evicted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use crate::model::event::{ContainerInfo, DockerAction};
use crate::model::ids::{CgroupId, Cookie, Pid};
use crate::model::time::{Nanos, Stamp};

pub(super) const DOCKER_RECORDS_CAP: usize = 64;
pub(super) const PERIODS_CAP: usize = 16;
/// A run that listened for this long shows the ports that the container needs.
const LONG_RUN: Nanos = Nanos::from_secs(10);
/// Ports that the kernel assigns by itself (`net.ipv4.ip_local_port_range`, its default).
const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;
/// Distinguishes the replicas of one Compose service.
const COMPOSE_NUMBER: &str = "com.docker.compose.container-number";

#[derive(Clone, Debug)]
pub struct Container {
    pub info: ContainerInfo,
    /// Docker's events, oldest first.
    pub docker_events: VecDeque<DockerRecord>,
    /// Current listening ports, and since when.
    pub listening: BTreeMap<u16, Stamp>,
    /// Current listening sockets: of one port there may be several (`SO_REUSEPORT`, one for each address).
    pub listeners: BTreeMap<Cookie, Listener>,
    /// Every port that it has listened on.
    pub ports: BTreeMap<u16, Stamp>,
    /// Ports that it has listened on since its last start.
    run_ports: BTreeMap<u16, RunPort>,
    /// Ports on which it, or its successor, listens again when it is back.
    pub needed_ports: BTreeSet<u16>,
    /// When its latest listener closed.
    pub listeners_closed: Option<Stamp>,
    /// Ports whose listener was closed by an exiting process.
    pub orphaned_ports: VecDeque<OrphanedPort>,
    /// Periods in which it was paused by Docker or stopped by SIGSTOP.
    pub pauses: VecDeque<Period>,
    /// Every start.
    pub starts: VecDeque<Stamp>,
    /// Since when its first process has been terminated.
    pub down: Option<Stamp>,
    /// When Docker removed it.
    pub destroyed: Option<Stamp>,
    /// Docker's health status, with each change the instant since which it is known.
    health: VecDeque<(Stamp, Option<String>)>,
}

/// A listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pub local: SocketAddr,
    /// The process that called `listen(2)`, or holds the socket.
    pub pid: Option<Pid>,
}

/// A port that a container listened on in its current run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RunPort {
    since: Stamp,
    /// On loopback addresses alone.
    loopback: bool,
}

/// A port whose listener was closed by the exit of process `by`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanedPort {
    pub port: u16,
    pub by: Pid,
    pub since: Stamp,
    pub until: Option<Stamp>,
}

/// A period, open while `until` is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    pub since: Stamp,
    pub until: Option<Stamp>,
    /// The signal that began it; `None`: Docker.
    pub what: Option<String>,
}

#[derive(Clone, Debug)]
pub struct DockerRecord {
    pub at: Stamp,
    pub seen: Stamp,
    pub action: DockerAction,
}

impl Container {
    pub(super) fn new(info: ContainerInfo) -> Self {
        Self {
            info,
            docker_events: VecDeque::new(),
            listening: BTreeMap::new(),
            listeners: BTreeMap::new(),
            ports: BTreeMap::new(),
            run_ports: BTreeMap::new(),
            needed_ports: BTreeSet::new(),
            listeners_closed: None,
            orphaned_ports: VecDeque::new(),
            pauses: VecDeque::new(),
            starts: VecDeque::new(),
            down: None,
            destroyed: None,
            health: VecDeque::new(),
        }
    }

    pub(super) fn record_start(&mut self, start: Option<Stamp>) {
        self.down = self.down.filter(|down| start.is_none_or(|start| start < *down));
        if let Some(start) = start
            && self.starts.back() != Some(&start)
        {
            self.starts.push_back(start);
            if self.starts.len() > PERIODS_CAP {
                self.starts.pop_front();
            }
        }
    }

    pub(super) fn record_health(&mut self, at: Stamp, status: Option<&str>) {
        if self.health.back().is_none_or(|(_, known)| known.as_deref() != status) {
            self.health.push_back((at, status.map(str::to_owned)));
            if self.health.len() > PERIODS_CAP {
                self.health.pop_front();
            }
        }
    }

    /// Docker's health status just before an instant. The engine calls what it stops unhealthy (moby,
    /// daemon/health.go, `stopHealthchecks`), so the latest status is not what it was.
    #[must_use]
    pub fn health_before(&self, at: Stamp) -> Option<&str> {
        self.health.iter().rev().find(|(since, _)| *since <= at).and_then(|(_, status)| status.as_deref())
    }

    pub(super) fn record_port(&mut self, local: SocketAddr, at: Stamp) {
        self.ports.entry(local.port()).or_insert(at);
        let loopback = local.ip().is_loopback();
        let port = self.run_ports.entry(local.port()).or_insert(RunPort { since: at, loopback });
        port.loopback &= loopback;
    }

    /// The run ended: what it listened on is what its clients wait for, unless the run was too short to be the usual one.
    pub(super) fn run_ended(&mut self, at: Stamp) {
        let ports = std::mem::take(&mut self.run_ports);
        let was_long = ports.values().any(|port| at.since(port.since) >= LONG_RUN);
        if ports.is_empty() || !(was_long || self.needed_ports.is_empty()) {
            return;
        }
        let published = |port: u16| self.info.published.iter().any(|published| published.container_port == port);
        let is_own = |port: u16| !EPHEMERAL.contains(&port) || published(port);
        let outer = ports.iter().filter(|(port, run)| !run.loopback && is_own(**port));
        let outer: BTreeSet<u16> = outer.map(|(port, _)| *port).collect();
        self.needed_ports = if outer.is_empty() { ports.into_keys().collect() } else { outer };
    }

    /// Whether a fact of `at` cannot be about this container although its namespace number or pid is the container's:
    /// the kernel reuses both once a container is down. A cgroup below the container's own has another id, so while the
    /// container runs, an unknown cgroup contradicts nothing.
    pub(super) fn is_contradicted_by(&self, cgroup: CgroupId, at: Stamp) -> bool {
        let other_cgroup = cgroup.is_known() && self.info.cgroup.is_some_and(|own| own != cgroup);
        self.destroyed.is_some_and(|gone| gone <= at) || (other_cgroup && self.down.is_some_and(|down| down < at))
    }

    /// The start of the run at an instant.
    #[must_use]
    pub fn started_before(&self, at: Stamp) -> Option<Stamp> {
        self.starts.iter().rev().copied().find(|start| *start <= at).or(self.info.started_at)
    }

    /// The pause in progress at an instant.
    #[must_use]
    pub fn paused_at(&self, at: Stamp) -> Option<&Period> {
        self.pauses.iter().rev().find(|period| period.covers(at))
    }

    /// The address of a port that is open on loopback addresses alone, which nothing outside the namespace reaches.
    #[must_use]
    pub fn loopback_listener(&self, port: u16) -> Option<SocketAddr> {
        let mut listeners = self.listeners.values().map(|it| it.local).filter(|local| local.port() == port).peekable();
        let first = listeners.peek().copied();
        first.filter(|_| listeners.all(|local| local.ip().is_loopback()))
    }

    /// The process that listens on a port.
    #[must_use]
    pub fn listener_of(&self, port: u16) -> Option<Pid> {
        self.listeners.values().find(|it| it.local.port() == port).and_then(|it| it.pid)
    }

    /// The process whose exit closed the listener of a port, if the port was closed at an instant.
    #[must_use]
    pub fn orphaned_by(&self, port: u16, at: Stamp) -> Option<Pid> {
        let is_closed = |orphan: &&OrphanedPort| orphan.since <= at && orphan.until.is_none_or(|until| until > at);
        self.orphaned_ports.iter().rev().filter(is_closed).find(|orphan| orphan.port == port).map(|orphan| orphan.by)
    }

    /// Ports that the exits of these processes closed.
    pub fn closed_by(&self, pids: &[Pid]) -> impl Iterator<Item = &OrphanedPort> + Clone {
        self.orphaned_ports.iter().filter(move |orphan| pids.contains(&orphan.by))
    }

    /// Whether it is the other container, or its successor by name or Compose service and number.
    #[must_use]
    pub fn succeeds(&self, other: &Container) -> bool {
        let number = |it: &Self| it.info.labels.get(COMPOSE_NUMBER).cloned();
        let same_service = self.info.service.is_some()
            && self.info.service == other.info.service
            && self.info.project == other.info.project
            && number(self) == number(other);
        self.info.id == other.info.id || self.info.name == other.info.name || same_service
    }

    /// Whether it is another container that was started in the place of one that is down.
    #[must_use]
    pub fn replaces(&self, other: &Container) -> bool {
        let started = self.starts.back().copied();
        let later = other.down.zip(started).is_some_and(|(down, started)| started >= down);
        later && self.info.id != other.info.id && self.down.is_none() && self.succeeds(other)
    }

    /// Docker's events at or after `from` of the run at `at`: from its start to the next start.
    pub fn events_of_run(&self, from: Stamp, at: Stamp) -> impl Iterator<Item = &DockerRecord> {
        let start = |record: &&DockerRecord| record.action == DockerAction::Start;
        let began = self.docker_events.iter().filter(start).map(|record| record.at).filter(|start| *start <= at).max();
        let next = self.docker_events.iter().filter(start).map(|record| record.at).filter(|start| *start > at).min();
        let from = began.map_or(from, |began| began.max(from));
        self.events_since(from).filter(move |record| next.is_none_or(|next| record.at < next))
    }

    /// Docker's events at or after `from`.
    pub fn events_since(&self, from: Stamp) -> impl Iterator<Item = &DockerRecord> {
        self.docker_events.iter().filter(move |record| record.at >= from)
    }
}

impl Period {
    fn covers(&self, at: Stamp) -> bool {
        self.since <= at && self.until.is_none_or(|until| until > at)
    }
}

pub(super) fn begin_period(periods: &mut VecDeque<Period>, at: Stamp, what: Option<&str>) {
    periods.push_back(Period { since: at, until: None, what: what.map(str::to_owned) });
    if periods.len() > PERIODS_CAP {
        periods.pop_front();
    }
}

pub(super) fn end_period(periods: &mut VecDeque<Period>, at: Stamp, what: Option<&str>) {
    for period in periods.iter_mut().filter(|period| period.until.is_none() && period.what.as_deref() == what) {
        period.until = Some(at);
    }
}
