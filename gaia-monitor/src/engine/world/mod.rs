//! What is known of the host: absorbed from events, asked by rules, never judged here.
//!
//! Names survive death: containers, addresses and namespaces are kept as history with times, because namespaces,
//! addresses and pids are reused.

pub mod containers;
pub mod dns;
pub mod failover_pairs;
pub mod logs;
pub mod network;
pub mod processes;
pub mod tcp;
pub mod terminations;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::model::event::{
    DockerAction, DockerEvent, Event, Fact, LogsUnread, ProcessExited, Signal, Socket, SocketSeen, TcpState,
    TcpStateChange,
};
use crate::model::ids::{ContainerId, Cookie, NetnsId, Pid};
use crate::model::time::{Nanos, Stamp};

use containers::Containers;
use dns::lookups::{Change as LookupChange, Lookups};
use dns::names::Names;
use logs::{Line, Logs};
use network::drops::Drops;
use network::interfaces::Interfaces;
use network::outages::OutageId;
use processes::Processes;
use tcp::endpoint::Side;
use tcp::proxy::ProxyHops;
use tcp::sockets::{Change as SocketChange, Sockets};
use terminations::{TerminationId, Terminations};

/// Losses kept; the oldest go first.
const LOSSES: usize = 256;
/// Signals that ask a process to end.
const ENDING: [&str; 4] = ["SIGTERM", "SIGINT", "SIGQUIT", "SIGKILL"];
/// A worker's death that took its container along comes at most this long before.
const TAKES_ALONG: Nanos = Nanos::from_secs(1);
/// Listeners kept until their container is named; the oldest go first.
const UNNAMED: usize = 1_024;

#[derive(Debug, Default)]
pub struct World {
    pub containers: Containers,
    pub processes: Processes,
    pub sockets: Sockets,
    pub terminations: Terminations,
    pub proxy_hops: ProxyHops,
    pub logs: Logs,
    pub interfaces: Interfaces,
    pub names: Names,
    pub lookups: Lookups,
    pub drops: Drops,
    /// The instant of release of the event, or the deadline of the timer, that is being worked on.
    pub now: Stamp,
    /// Listeners of containers that nobody has named yet: a fast server binds before Docker's `start` is read.
    unnamed: VecDeque<(Stamp, Socket)>,
    /// Losses of events: when each was told, where, and how many.
    losses: VecDeque<(Stamp, String, u64)>,
}

/// What an event changed, as far as a rule may care.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Socket(SocketChange),
    Lookup(LookupChange),
    /// What is said of a name changed, or its container is down.
    DnsChanged(String),
    /// A process began to listen.
    Listening {
        container: ContainerId,
        port: u16,
    },
    /// A container's termination began or went on.
    Termination(TerminationId),
    /// A process that serves, and does not stand for its container, ended.
    WorkerExited(Pid),
    /// Any other process's end.
    Exited(Pid),
    Signalled(Pid),
    OomMarked(Pid),
    /// The way to a container, or through a bridge, was cut, or is free again.
    Outage(OutageId),
    /// A packet between these ends was dropped, or refused by ICMP.
    PacketDropped {
        netns: NetnsId,
        source: SocketAddr,
        destination: SocketAddr,
    },
    /// A full queue dropped a handshake in this namespace, or the kernel's counters of such handshakes grew.
    AcceptQueueFull(NetnsId),
    /// Docker said something, or an inspection added to what is known.
    Docker(ContainerId),
    /// A container's log has a further line.
    Logged(ContainerId, Line),
    LogsUnread(LogsUnread),
    Lost {
        stage: String,
        count: u64,
    },
    Shutdown,
}

impl World {
    /// Takes one event in and says what it changed.
    pub fn absorb(&mut self, event: &Event) -> Vec<Change> {
        let (at, seen) = (event.at, event.seen);
        self.now = seen;
        match &event.fact {
            Fact::TcpState(change) => self.tcp_state(at, change),
            Fact::ResetReceived(reset) => {
                self.sockets.reset_received(at, reset);
                Vec::new()
            }
            Fact::ResetSent(reset) => {
                self.sockets.reset_sent(at, reset);
                Vec::new()
            }
            Fact::SocketError(error) => {
                self.sockets.error(error);
                Vec::new()
            }
            Fact::Reading(reading) => {
                if self.sockets.socket_read(reading) {
                    self.processes.serves(reading.task.pid);
                }
                Vec::new()
            }
            Fact::PacketDropped(found) => {
                self.drops.dropped(at, found);
                vec![hindered(found.netns, found.source, found.destination)]
            }
            Fact::IcmpSent(found) => {
                self.drops.refused(at, found);
                vec![hindered(found.netns, found.source, found.destination)]
            }
            Fact::Retransmitted(again) => {
                self.sockets.retransmitted(at, &again.socket);
                Vec::new()
            }
            Fact::ListenOverflow(found) => {
                self.drops.overflowed(at, found);
                vec![Change::AcceptQueueFull(found.netns)]
            }
            Fact::ListenCounts(found) => {
                self.drops.counted(at, found);
                vec![Change::AcceptQueueFull(found.netns)]
            }
            Fact::Http(http) => self.sockets.http(at, http).into_iter().map(Change::Socket).collect(),
            Fact::ProcessStarted(started) => {
                self.processes.started(at, &started.process, started.parent, started.parent_outside);
                Vec::new()
            }
            Fact::ProcessExec(exec) => {
                self.processes.executed(&exec.process);
                Vec::new()
            }
            Fact::ProcessSeen(found) => {
                self.processes.found(&found.process, found.parent, found.parent_outside, found.serves);
                Vec::new()
            }
            Fact::ProcessExited(exited) => self.exited(at, seen, exited),
            Fact::Signal(signal) => self.signalled(at, seen, signal),
            Fact::OomVictim { pid } => {
                self.processes.marked_by_oom(at, *pid);
                vec![Change::OomMarked(*pid)]
            }
            Fact::SocketSeen(found) => {
                self.found(at, found);
                Vec::new()
            }
            Fact::LinksRead(read) => {
                let outages = self.interfaces.links_read(at, read, &self.containers);
                self.interfaces_changed(at, read.netns, outages)
            }
            Fact::Link(change) => {
                let outages = self.interfaces.link_changed(at, change, &self.containers);
                self.interfaces_changed(at, change.netns, outages)
            }
            Fact::Address(change) => match self.interfaces.address_changed(at, change, &self.containers) {
                Some(container) => self.find_recovered(&container),
                None => Vec::new(),
            },
            Fact::Neighbour(change) => {
                self.interfaces.neighbour_changed(at, change, &self.containers);
                Vec::new()
            }
            // The published port alone joins both legs (see `route`); the proxy's own word is not needed.
            Fact::ProxySeen(_) | Fact::InventoryRead { .. } | Fact::Tick => Vec::new(),
            Fact::LookUp(look_up) => self.dns_message(at, look_up),
            Fact::AskerClosed(closed) => {
                let changes = self.lookups.socket_closed(at, closed);
                changes.into_iter().flat_map(|change| self.apply_lookup_change(change)).collect()
            }
            Fact::NameChecked(checked) => self.dns_probe(at, checked),
            Fact::ContainerSeen(info) => {
                self.names.inspected(info, at);
                if let Some(gone) = self.containers.inspected(info, at) {
                    self.terminations.forget(&gone);
                    self.names.evict(&gone);
                }
                let mut changes = vec![Change::Docker(info.id.clone())];
                self.name_listeners(&mut changes);
                changes.extend(self.find_recovered(&info.id));
                changes
            }
            Fact::Log(said) => {
                let line = self.logs.take(at, said);
                line.map(|line| Change::Logged(said.container.clone(), line)).into_iter().collect()
            }
            Fact::LogsUnread(unread) => vec![Change::LogsUnread(unread.clone())],
            Fact::Memory(found) => {
                self.processes.measured(found);
                Vec::new()
            }
            Fact::CoreDump(found) => {
                self.processes.dumps_by(found);
                Vec::new()
            }
            Fact::Docker(said) => self.told(at, seen, said),
            Fact::Lost { stage, count } => {
                self.losses.push_back((at, stage.clone(), *count));
                if self.losses.len() > LOSSES {
                    self.losses.pop_front();
                }
                if stage.starts_with("ring.") {
                    self.sockets.mark_doubtful();
                    self.lookups.mark_doubtful();
                }
                vec![Change::Lost { stage: stage.clone(), count: *count }]
            }
            Fact::Shutdown => vec![Change::Shutdown],
        }
    }

    fn told(&mut self, at: Stamp, seen: Stamp, said: &DockerEvent) -> Vec<Change> {
        self.containers.told(at, seen, said);
        let mut changes = self.network_event(at, &said.container, &said.action);
        changes.push(Change::Docker(said.container.clone()));
        match &said.action {
            DockerAction::Die { exit_code } => {
                changes.push(Change::Termination(self.terminations.died(at, seen, &said.container, *exit_code)));
            }
            DockerAction::Rename { .. } => self.names.renamed(&said.container, &said.name, at),
            DockerAction::Create
            | DockerAction::Start
            | DockerAction::Oom
            | DockerAction::Kill { .. }
            | DockerAction::Stop
            | DockerAction::Pause
            | DockerAction::Unpause
            | DockerAction::HealthStatus { .. }
            | DockerAction::Restart
            | DockerAction::Destroy
            | DockerAction::NetworkConnect { .. }
            | DockerAction::NetworkDisconnect { .. } => {}
        }
        changes
    }

    /// Losses since an instant, by stage: when each was last told, and how many in all.
    #[must_use]
    pub fn losses_since(&self, from: Stamp) -> BTreeMap<String, (Stamp, u64)> {
        let mut losses: BTreeMap<String, (Stamp, u64)> = BTreeMap::new();
        for (at, stage, count) in self.losses.iter().filter(|(at, ..)| *at >= from) {
            let lost = losses.entry(stage.clone()).or_default();
            *lost = (*at, lost.1.saturating_add(*count));
        }
        losses
    }

    /// The container that a process belongs to.
    #[must_use]
    pub fn container_of(&self, pid: Pid) -> Option<ContainerId> {
        let process = self.processes.get(pid)?;
        let instant = process.exit.as_ref().map_or(Stamp(i64::MAX), |exit| exit.at);
        let by_cgroup = self.containers.of_cgroup(process.cgroup);
        by_cgroup.or_else(|| self.containers.of_first_process(pid)).or_else(|| {
            // Depth 0 is the host, whose namespace is nobody's.
            (process.ns_level > 0).then(|| self.containers.of_netns(process.netns, instant)).flatten()
        })
    }

    /// The container that a socket belongs to.
    #[must_use]
    pub fn container_of_end(&self, cookie: Cookie) -> Option<ContainerId> {
        let end = self.sockets.get(cookie)?;
        self.containers.of_socket(&end.socket, end.opened)
    }

    /// The container came back: its termination, and those before it in a crash loop, are over.
    pub fn recovered(&mut self, at: Stamp, termination: TerminationId) {
        self.terminations.over(at, termination);
    }

    fn tcp_state(&mut self, at: Stamp, change: &TcpStateChange) -> Vec<Change> {
        let mut changes = Vec::new();
        if change.new == TcpState::Listen || (change.old == TcpState::Listen && change.new == TcpState::Close) {
            self.note_listener(at, change, &mut changes);
        }
        let softly = change.errno.is_none() && !change.task.exiting;
        let soft = (softly && (change.old, change.new) == (TcpState::SynSent, TcpState::Close))
            .then(|| self.drops.soft_error(change.socket.local, at))
            .flatten();
        let with_error = soft.map(|errno| TcpStateChange { errno: Some(errno.to_owned()), ..change.clone() });
        let found = self.sockets.state_changed(at, with_error.as_ref().unwrap_or(change));
        for found in &found {
            match found {
                SocketChange::Connecting { client: cookie } | SocketChange::ServerReady { server: cookie } => {
                    self.record_proxy_endpoint(*cookie);
                }
                SocketChange::ConnectFailed { .. }
                | SocketChange::FinArrived { .. }
                | SocketChange::ResetArrived { .. }
                | SocketChange::TimedOut { .. }
                | SocketChange::Left { .. }
                | SocketChange::Malformed { .. }
                | SocketChange::Connected { .. }
                | SocketChange::Arrived { .. }
                | SocketChange::ServerClosed { .. } => {}
            }
        }
        changes.extend(found.into_iter().map(Change::Socket));
        changes
    }

    fn exited(&mut self, at: Stamp, seen: Stamp, exited: &ProcessExited) -> Vec<Change> {
        let pid = exited.process.pid;
        self.processes.exited(at, seen, exited);
        let Some(container) = self.container_of(pid) else { return vec![Change::Exited(pid)] };
        let init = self.processes.is_init(pid);
        if init || self.processes.stands_for_container(pid) {
            if init && self.is_reported_by_child(&container, pid, at) {
                return vec![Change::Exited(pid)];
            }
            let parent = self.processes.get(pid).map(|process| process.parent);
            let above = parent.filter(|parent| self.processes.is_init(*parent));
            let id = self.terminations.exited(at, seen, &container, pid, above, &exited.status);
            self.containers.terminated(&container, at);
            self.interfaces.outages.terminated(at, &container);
            if !init {
                self.find_root(id, pid, &container, at);
            }
            return vec![Change::Termination(id), Change::Exited(pid)];
        }
        let process = self.processes.get(pid);
        // An OOM victim always counts, others when they serve and came by no exec.
        let counts = process.is_some_and(|process| process.oom.is_some() || (process.serves && !process.entered));
        if counts { vec![Change::WorkerExited(pid), Change::Exited(pid)] } else { vec![Change::Exited(pid)] }
    }

    /// An init ends with its only child, whose end is the container's. Where the init went first (it was killed, and the
    /// kernel ended the rest of its namespace), the child's end takes the init's place.
    fn is_reported_by_child(&self, container: &ContainerId, init: Pid, at: Stamp) -> bool {
        let told = self.terminations.current(container, at).filter(|termination| termination.exit.is_some());
        let child = told.and_then(|termination| termination.pid).and_then(|pid| self.processes.get(pid));
        child.is_some_and(|child| child.parent == init)
    }

    /// A first process that ends by itself right after a process of the same life that served: that one's death was the
    /// cause.
    fn find_root(&mut self, id: TerminationId, first: Pid, container: &ContainerId, at: Stamp) {
        let Some(process) = self.processes.get(first) else { return };
        let by_itself = process.exit.as_ref().is_some_and(|exit| exit.status.code().is_some());
        let asked = self.terminations.get(id).is_some_and(|termination| termination.requested.is_some());
        if !by_itself || asked {
            return;
        }
        let worker = self.processes.dead_since(at.minus(TAKES_ALONG)).find(|worker| {
            let ended_badly = worker.exit.as_ref().is_some_and(|exit| !exit.status.is_success());
            let was_server = worker.serves || worker.oom.is_some();
            let same_life = process.started.is_none_or(|begun| worker.started.is_some_and(|own| own >= begun));
            worker.pid != first
                && same_life
                && !worker.entered
                && was_server
                && ended_badly
                && self.container_of(worker.pid).as_ref() == Some(container)
        });
        if let Some(worker) = worker.map(|worker| worker.pid) {
            self.terminations.root(id, worker);
        }
    }

    fn signalled(&mut self, at: Stamp, seen: Stamp, signal: &Signal) -> Vec<Change> {
        let pid = signal.target.pid;
        self.processes.signalled(at, signal);
        let stands = self.processes.stands_for_container(pid) || self.processes.is_init(pid);
        if let Some(container) = self.container_of(pid)
            && stands
        {
            // SIGCONT works even where the tracepoint calls it ignored.
            match signal.signal.as_str() {
                "SIGSTOP" if signal.delivered => self.containers.stopped_by_signal(&container, at, true),
                "SIGCONT" => self.containers.stopped_by_signal(&container, at, false),
                _ => {}
            }
        }
        if let Some(container) = self.container_of(pid)
            && stands
            && signal.delivered
            && self.asks_to_end(&container, &signal.signal)
        {
            self.terminations.asked(at, seen, &container, pid, &signal.signal);
            let current =
                self.terminations.current(&container, at).map(|termination| Change::Termination(termination.id));
            return current.into_iter().chain([Change::Signalled(pid)]).collect();
        }
        vec![Change::Signalled(pid)]
    }

    fn asks_to_end(&self, container: &ContainerId, signal: &str) -> bool {
        let stop = self.containers.get(container).map(|container| container.info.stop_signal.as_str());
        ENDING.contains(&signal) || stop == Some(signal)
    }

    fn found(&mut self, at: Stamp, found: &SocketSeen) {
        let container = self.containers.of_socket(&found.socket, at);
        if found.state == TcpState::Listen {
            if let Some(id) = &container {
                self.containers.listening(id, found.socket.local, at);
            }
            if let Some(task) = &found.task {
                self.processes.serves(task.pid);
            }
            return;
        }
        // A connection whose local port is one that its container listens on was accepted.
        let port = found.socket.local.port();
        let listens = container.as_ref().and_then(|id| self.containers.get(id));
        let accepted = match listens {
            Some(container) => container.listening.contains_key(&port),
            None => self.containers.is_published(port),
        };
        let side = if accepted { Side::Server } else { Side::Client };
        if let Some(task) = &found.task
            && accepted
        {
            self.processes.serves(task.pid);
        }
        self.sockets.insert_preexisting(at, found, side);
        self.record_proxy_endpoint(found.socket.cookie);
    }

    /// Hands listeners that were nobody's to the container that has just been named.
    fn name_listeners(&mut self, changes: &mut Vec<Change>) {
        for (at, socket) in std::mem::take(&mut self.unnamed) {
            match self.containers.of_socket(&socket, at) {
                Some(container) => {
                    self.containers.listening(&container, socket.local, at);
                    changes.push(Change::Listening { container, port: socket.local.port() });
                }
                None => self.unnamed.push_back((at, socket)),
            }
        }
    }

    fn note_listener(&mut self, at: Stamp, change: &TcpStateChange, changes: &mut Vec<Change>) {
        if change.new == TcpState::Listen {
            self.processes.serves(change.task.pid);
        }
        let Some(container) = self.containers.of_socket(&change.socket, at) else {
            self.unnamed.retain(|(_, socket)| socket.cookie != change.socket.cookie);
            if change.new == TcpState::Listen {
                self.unnamed.push_back((at, change.socket));
                if self.unnamed.len() > UNNAMED {
                    self.unnamed.pop_front();
                }
            }
            return;
        };
        if change.new == TcpState::Listen {
            self.containers.listening(&container, change.socket.local, at);
            changes.push(Change::Listening { container, port: change.socket.local.port() });
        } else {
            // A first process takes its container along, which says more.
            let pid = change.task.pid;
            let dying = (change.task.exiting && !self.processes.stands_for_container(pid)).then_some(pid);
            self.containers.stopped_listening(&container, change.socket.local, at, dying);
        }
    }
}

fn hindered(netns: NetnsId, source: SocketAddr, destination: SocketAddr) -> Change {
    Change::PacketDropped { netns, source, destination }
}
