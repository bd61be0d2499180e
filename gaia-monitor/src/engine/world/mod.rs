//! State of the host, absorbed from events and queried by the rest of the engine.
//!
//! Names outlive their holders: containers, addresses and namespaces are kept as histories with times, because
//! namespaces, addresses and pids are reused.

// What an event changed.
mod change;

// Containers, and the keys that join facts to them.
pub mod container;
pub mod containers;

// Docker's events and inspections.
mod docker_events;

// Primaries and their candidates.
pub mod failover_pairs;

// Processes, their exits and signals.
mod process_events;
mod process_tree;
pub mod processes;

// Processes that use the Docker engine's socket.
pub mod docker_clients;

// Containers that go down.
pub mod terminations;

// Listening sockets.
mod listeners;

// Connections.
pub mod tcp;

// Interfaces, outages and dropped packets.
pub mod network;

// Lookups and names.
pub mod dns;

// Log lines.
pub mod logs;

// Losses of events.
mod losses;

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::model::event::{Event, Fact, Socket, Task};
use crate::model::ids::{ContainerId, Cookie, NetnsId, Pid};
use crate::model::time::Stamp;

use containers::{Containers, EMBEDDED_DNS};
use dns::lookups::Lookups;
use dns::names::Names;
use docker_clients::DockerClients;
use logs::Logs;
use network::drops::Drops;
use network::interfaces::Interfaces;
use processes::Processes;
use tcp::proxy::ProxyHops;
use tcp::sockets::Sockets;
use terminations::{Termination, TerminationId, Terminations};

pub use change::Change;

#[derive(Debug, Default)]
pub struct World {
    pub containers: Containers,
    pub processes: Processes,
    pub docker_clients: DockerClients,
    pub sockets: Sockets,
    pub terminations: Terminations,
    pub proxy_hops: ProxyHops,
    pub logs: Logs,
    pub interfaces: Interfaces,
    pub names: Names,
    pub lookups: Lookups,
    pub drops: Drops,
    /// When the current event was released, or the deadline of the current timer.
    pub now: Stamp,
    /// When the first event was released: what came before it was not observed.
    began: Option<Stamp>,
    /// Listeners of containers that are not known yet, each with the process that called `listen(2)`.
    unassigned_listeners: VecDeque<(Stamp, Socket, Pid)>,
    /// Losses of events: time of the report, stage and count.
    losses: VecDeque<(Stamp, String, u64)>,
}

impl World {
    /// Absorbs one event and returns its changes.
    pub fn absorb(&mut self, event: &Event) -> Vec<Change> {
        let (at, seen) = (event.at, event.seen);
        self.now = seen;
        self.began.get_or_insert(seen);
        match &event.fact {
            Fact::TcpState(change) => {
                let mut changes = self.tcp_state(at, change);
                changes.extend(self.report_evictions(at));
                changes
            }
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
            Fact::SocketRead(reading) => {
                if self.sockets.socket_read(reading) {
                    self.processes.mark_accepting(reading.task.pid);
                }
                Vec::new()
            }
            Fact::PacketDropped(dropped) => {
                self.drops.dropped(at, dropped);
                vec![packet_dropped(dropped.netns, dropped.source, dropped.destination)]
            }
            Fact::IcmpSent(refused) => {
                self.drops.refused(at, refused);
                vec![packet_dropped(refused.netns, refused.source, refused.destination)]
            }
            Fact::Retransmitted(retransmitted) => {
                self.sockets.retransmitted(at, &retransmitted.socket);
                Vec::new()
            }
            Fact::AcceptQueueFull(overflow) => {
                self.drops.overflowed(at, overflow);
                vec![Change::AcceptQueueFull(overflow.netns)]
            }
            Fact::AcceptQueueCounts(counts) => {
                self.drops.counted(at, counts);
                vec![Change::AcceptQueueFull(counts.netns)]
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
            Fact::ProcessSeen(seen) => {
                self.processes.record_preexisting(&seen.process, seen.parent, seen.parent_outside, seen.serves);
                Vec::new()
            }
            Fact::ProcessExited(exited) => self.process_exited(at, seen, exited),
            Fact::Signal(signal) => self.process_signalled(at, seen, signal),
            Fact::OomVictim { pid } => {
                self.processes.marked_by_oom(at, *pid);
                vec![Change::OomMarked(*pid)]
            }
            Fact::CrashSite(site) => self.process_crashed(at, seen, site),
            Fact::EngineUsed(used) => {
                self.docker_clients.used(at, &used.process);
                Vec::new()
            }
            Fact::SocketSeen(seen) => {
                self.socket_seen(at, seen);
                self.report_evictions(at)
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
            // Published ports alone join both legs of a proxy hop (see `tcp::proxy`).
            Fact::ProxySeen(_) | Fact::InventoryRead { .. } | Fact::Tick => Vec::new(),
            // Only stories depend on it.
            Fact::Maintenance(_) => Vec::new(),
            Fact::DnsMessage(message) => self.dns_message(at, message),
            Fact::DnsSocketClosed(closed) => {
                let changes = self.lookups.socket_closed(at, closed);
                changes.into_iter().flat_map(|change| self.apply_lookup_change(change)).collect()
            }
            Fact::DnsProbe(checked) => self.dns_probe(at, checked),
            Fact::ContainerSeen(info) => self.container_inspected(at, info),
            Fact::Log(log) => {
                let line = self.logs.record(at, log);
                line.map(|line| Change::Logged(log.container.clone(), line)).into_iter().collect()
            }
            Fact::LogsUnread(unread) => vec![Change::LogsUnread(unread.clone())],
            Fact::Memory(read) => {
                self.processes.memory_read(read);
                Vec::new()
            }
            Fact::CoreDump(dump) => {
                self.processes.core_dump(dump);
                Vec::new()
            }
            Fact::Docker(event) => self.docker_event(at, seen, event),
            Fact::Lost { stage, count } => self.record_loss(at, stage, *count),
            Fact::Shutdown => vec![Change::Shutdown],
        }
    }

    /// The container that a process belongs to.
    #[must_use]
    pub fn container_of(&self, pid: Pid) -> Option<ContainerId> {
        let process = self.processes.get(pid)?;
        let exit = process.exit.as_ref().map(|exit| exit.at);
        // The kernel ends what is left in the namespace after the first process, so the start counts.
        let begun = process.started.or(exit).unwrap_or(self.now);
        let by_cgroup = self.containers.of_cgroup(process.cgroup);
        by_cgroup.or_else(|| self.containers.of_first_process(pid, process.cgroup, begun)).or_else(|| {
            // Level 0 is the host, whose namespace belongs to no container.
            (process.ns_level > 0).then(|| self.containers.of_namespace(process.netns, process.cgroup, begun)).flatten()
        })
    }

    /// Whether a process that is not of a container uses the container's namespace: nsenter, another monitor, a debugging
    /// shell. The socket's cgroup is that of the host or of another container.
    #[must_use]
    pub fn is_outsider(&self, socket: &Socket, task: Option<&Task>, at: Stamp) -> bool {
        let Some(task) = task.filter(|_| socket.cgroup.is_known()) else { return false };
        if self.asks_a_foreign_resolver(socket) {
            return true;
        }
        let Some(owner) = self.containers.of_namespace(socket.netns, socket.cgroup, at) else { return false };
        if let Some(id) = self.containers.of_cgroup(socket.cgroup) {
            // Its own namespace may also be one that it shares, or one of its own making.
            let own = self.containers.get(&id).and_then(|container| container.info.netns);
            return id != owner && own != Some(socket.netns);
        }
        let own_cgroup = self.containers.get(&owner).and_then(|container| container.info.cgroup);
        let is_contained = self.processes.get(task.pid).is_some_and(|process| process.ns_level > 0);
        own_cgroup.is_some() && !is_contained
    }

    /// Whether a process of a container on the host's network asks Docker's embedded resolver: the host has none, so the
    /// socket was made inside another container's namespace, whichever one the task that sends is in.
    fn asks_a_foreign_resolver(&self, socket: &Socket) -> bool {
        let holder = self.containers.of_cgroup(socket.cgroup);
        let holder = holder.and_then(|id| self.containers.get(&id));
        socket.remote.ip() == EMBEDDED_DNS && holder.is_some_and(|container| container.info.host_network)
    }

    /// The container that a socket belongs to.
    #[must_use]
    pub fn container_of_endpoint(&self, cookie: Cookie) -> Option<ContainerId> {
        let endpoint = self.sockets.get(cookie)?;
        self.containers.of_socket(&endpoint.socket, endpoint.opened)
    }

    /// The termination of a container's predecessor (by name, or by Compose service) that lasts at an instant.
    #[must_use]
    pub fn predecessor_down(&self, id: &ContainerId, at: Stamp) -> Option<&Termination> {
        let successor = self.containers.get(id)?;
        let before =
            self.terminations.down().filter(|termination| termination.container != *id && termination.covers(at));
        let replaced = before.filter(|termination| {
            let predecessor = self.containers.get(&termination.container);
            predecessor.is_some_and(|predecessor| successor.replaces(predecessor))
        });
        replaced.max_by_key(|termination| (termination.since(), termination.id))
    }

    /// Marks a termination as recovered: the container serves again.
    pub fn recovered(&mut self, at: Stamp, termination: TerminationId) {
        self.terminations.mark_recovered(at, termination);
    }
}

fn packet_dropped(netns: NetnsId, source: SocketAddr, destination: SocketAddr) -> Change {
    Change::PacketDropped { netns, source, destination }
}
