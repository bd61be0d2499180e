//! Selection of the facts that a scope needs: what concerns only other stacks reaches neither the engine nor a recording.
//!
//! Pure. A container is *related* if it is in scope, on the host's network, or in one stack with a related one: on a
//! network with it, in its network namespace, in its Compose project, or connected with it in another way, such as a
//! published port. Everything about related containers passes, because a failure in scope may have its cause there. Any
//! other container is a *stranger*: its traffic is left out, and what happens to itself is held, because it may become
//! related, or be named by a verdict as the sender of a signal or as a client of the Docker engine.
//!
//! What cannot be attributed passes: a cgroup that Docker has not reported yet may be one in scope.
//!
//! Bounds: [`HELD`] facts of each stranger, [`COOKIES`] sockets; see `docs/limits.md`.

/// Containers outside the scope.
mod strangers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use crate::model::event::{DockerAction, Fact, Observation, SignalSender, TcpState};
use crate::model::ids::{ContainerId, Cookie, Pid};
use crate::model::scope;
use crate::model::settings::Scope;
use strangers::{CONTAINERS, End, Strangers};

/// Facts held of one stranger; beyond it the oldest is left out, inspections last.
const HELD: usize = 64;
/// Sockets of strangers whose HTTP facts are left out; beyond it the oldest pass, and the engine ignores them.
const COOKIES: usize = 65_536;

#[derive(Debug, Default)]
pub struct Selection {
    scope: Scope,
    strangers: Strangers,
    held: BTreeMap<ContainerId, VecDeque<Observation>>,
    /// Sockets whose facts are left out, each with the stranger that they belong to.
    sockets: BTreeMap<Cookie, ContainerId>,
}

/// What a fact is about.
enum Subject {
    /// It passes.
    Anything,
    Container(ContainerId),
    /// Both ends, or the only one; the socket, if it has one.
    Traffic([End; 2], Option<Cookie>),
    /// A socket that an earlier fact introduced.
    Socket(Cookie),
}

impl Selection {
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self { scope, ..Self::default() }
    }

    /// Appends the observation to `selected` if the scope needs it, after what was held and is needed now.
    pub fn select(&mut self, mut observation: Observation, selected: &mut Vec<Observation>) {
        if !scope::is_limited(&self.scope) {
            return selected.push(observation);
        }
        self.learn(&observation.fact, selected);
        match self.subject(&observation.fact) {
            Subject::Anything => {}
            Subject::Container(id) if self.strangers.is_stranger(&id) || self.is_new(&observation.fact) => {
                return self.hold(id, observation);
            }
            Subject::Container(_) => {}
            Subject::Socket(cookie) if self.sockets.contains_key(&cookie) => return,
            Subject::Socket(_) => {}
            Subject::Traffic(ends, cookie) => {
                if let Some(stranger) = self.leaves_out(&ends, selected) {
                    return self.leave_out(stranger, cookie, observation);
                }
            }
        }
        if let Fact::InventoryRead { containers } = &mut observation.fact {
            containers.retain(|id| !self.strangers.is_hidden(id));
        }
        selected.push(observation);
    }

    /// Updates what is known of containers, and releases what that makes necessary.
    fn learn(&mut self, fact: &Fact, selected: &mut Vec<Observation>) {
        match fact {
            Fact::ContainerSeen(info) => {
                self.strangers.inspected(info, scope::contains(&self.scope, info));
                self.release(selected);
            }
            Fact::ProcessExited(exited) => {
                let id = self.strangers.of_cgroup(exited.process.cgroup);
                if let Some(id) = id.filter(|id| self.strangers.is_first_process(id, exited.process.pid)) {
                    self.strangers.ended(&id);
                }
            }
            Fact::Docker(event) if event.action == DockerAction::Destroy => {
                // What it held is of no use to anything that comes later.
                self.held.remove(&event.container);
                self.sockets.retain(|_, id| *id != event.container);
            }
            Fact::LinksRead(read) if read.host => self.strangers.host = Some(read.netns),
            Fact::EngineUsed(used) => self.name(self.strangers.of_cgroup(used.process.cgroup), selected),
            Fact::Signal(signal) => {
                let target = self.strangers.of_cgroup(signal.target.cgroup);
                if let SignalSender::Process(sender) = &signal.sender
                    && !target.is_some_and(|id| self.strangers.is_stranger(&id))
                {
                    self.name(self.strangers.of_cgroup(sender.cgroup), selected);
                }
            }
            _ => {}
        }
    }

    fn subject(&self, fact: &Fact) -> Subject {
        let strangers = &self.strangers;
        let socket = |socket: &_| {
            let (local, remote) = strangers.ends(socket);
            Subject::Traffic([local, remote], Some(socket.cookie))
        };
        let ends =
            |one: SocketAddr, other: SocketAddr| Subject::Traffic([strangers.at(one), strangers.at(other)], None);
        let of = |id: Option<ContainerId>| id.map_or(Subject::Anything, Subject::Container);
        match fact {
            Fact::TcpState(change) => socket(&change.socket),
            Fact::ResetReceived(reset) => socket(&reset.socket),
            Fact::ResetSent(reset) => socket(&reset.socket),
            Fact::SocketError(error) => socket(&error.socket),
            Fact::SocketRead(reading) => socket(&reading.socket),
            Fact::Retransmitted(retransmitted) => socket(&retransmitted.socket),
            Fact::SocketSeen(seen) => socket(&seen.socket),
            Fact::DnsMessage(message) => {
                Subject::Traffic([strangers.ends(&message.socket).0, End::Neutral], Some(message.socket.cookie))
            }
            Fact::PacketDropped(dropped) => ends(dropped.source, dropped.destination),
            Fact::IcmpSent(refused) => ends(refused.source, refused.destination),
            Fact::AcceptQueueFull(full) => ends(full.packet.client, full.packet.server),
            Fact::AcceptQueueCounts(counts) => of(strangers.of_netns(counts.netns)),
            Fact::Http(http) => Subject::Socket(http.cookie),
            Fact::DnsSocketClosed(closed) => Subject::Socket(closed.cookie),
            Fact::ProcessStarted(started) => of(strangers.of_cgroup(started.process.cgroup)),
            Fact::ProcessExec(exec) => of(strangers.of_cgroup(exec.process.cgroup)),
            Fact::ProcessExited(exited) => of(strangers.of_cgroup(exited.process.cgroup)),
            Fact::ProcessSeen(seen) => of(strangers.of_cgroup(seen.process.cgroup)),
            Fact::CrashSite(site) => of(strangers.of_cgroup(site.process.cgroup)),
            Fact::Signal(signal) => of(strangers.of_cgroup(signal.target.cgroup)),
            Fact::LinksRead(read) => of(strangers.of_netns(read.netns)),
            Fact::Link(change) => of(strangers.of_netns(change.netns)),
            Fact::Address(change) => of(strangers.of_netns(change.netns)),
            Fact::Neighbour(change) => of(strangers.of_netns(change.netns)),
            Fact::ProxySeen(proxy) => Subject::Traffic([strangers.at(proxy.backend), End::Neutral], None),
            Fact::ContainerSeen(info) => Subject::Container(info.id.clone()),
            Fact::Docker(event) => Subject::Container(event.container.clone()),
            Fact::DnsProbe(checked) => Subject::Container(checked.observer.clone()),
            // Requested for an incident in scope, or of the monitor itself.
            Fact::Log(_)
            | Fact::LogsUnread(_)
            | Fact::Memory(_)
            | Fact::CoreDump(_)
            | Fact::Maintenance(_)
            | Fact::OomVictim { .. }
            | Fact::EngineUsed(_)
            | Fact::InventoryRead { .. }
            | Fact::Lost { .. }
            | Fact::Tick
            | Fact::Shutdown => Subject::Anything,
        }
    }

    /// Docker reports `create` before the inspection that shows whether the container is in scope.
    fn is_new(&self, fact: &Fact) -> bool {
        let Fact::Docker(event) = fact else { return false };
        event.action == DockerAction::Create && self.strangers.is_hidden(&event.container)
    }

    /// The stranger whose traffic it is, if nothing related is at either end. A stranger that meets a related container
    /// becomes related.
    fn leaves_out(&mut self, ends: &[End; 2], selected: &mut Vec<Observation>) -> Option<ContainerId> {
        let strangers: Vec<ContainerId> = ends.iter().filter_map(|end| self.strangers.stranger(end)).cloned().collect();
        let first = strangers.first()?.clone();
        if ends.iter().any(|end| matches!(end, End::Unknown)) {
            return None;
        }
        if !ends.iter().any(|end| self.strangers.is_related(end)) {
            return Some(first);
        }
        for stranger in &strangers {
            self.strangers.met(stranger);
        }
        self.release(selected);
        None
    }

    fn leave_out(&mut self, stranger: ContainerId, cookie: Option<Cookie>, observation: Observation) {
        let (listens, closes) = match &observation.fact {
            Fact::TcpState(change) => (change.new == TcpState::Listen, change.new == TcpState::Close),
            Fact::SocketSeen(seen) => (seen.state == TcpState::Listen, false),
            _ => (false, false),
        };
        let Some(cookie) = cookie.filter(|cookie| *cookie != Cookie::NONE) else { return };
        if closes {
            self.sockets.remove(&cookie);
            if let Some(held) = self.held.get_mut(&stranger) {
                held.retain(|held| socket_of(&held.fact) != Some(cookie));
            }
            return;
        }
        if self.sockets.len() >= COOKIES {
            self.sockets.pop_first();
        }
        self.sockets.insert(cookie, stranger.clone());
        if listens {
            self.hold(stranger, observation);
        }
    }

    /// Holds a fact of a stranger; that of a process that ended belongs to nothing any more, except the first one's.
    fn hold(&mut self, id: ContainerId, observation: Observation) {
        if matches!(&observation.fact, Fact::Docker(event) if event.action == DockerAction::Destroy) {
            return;
        }
        if self.held.len() > CONTAINERS {
            self.held.pop_first();
        }
        let held = self.held.entry(id.clone()).or_default();
        if let Fact::ProcessExited(exited) = &observation.fact
            && !self.strangers.is_first_process(&id, exited.process.pid)
        {
            let pid = exited.process.pid;
            return held.retain(|held| process_of(&held.fact) != Some(pid));
        }
        held.push_back(observation);
        if held.len() > HELD {
            let oldest = held.iter().position(|held| !matches!(held.fact, Fact::ContainerSeen(_)));
            held.remove(oldest.unwrap_or(0));
        }
    }

    /// A verdict in scope may name the container: what happens to itself passes from here on.
    fn name(&mut self, id: Option<ContainerId>, selected: &mut Vec<Observation>) {
        if let Some(id) = id.filter(|id| self.strangers.named(id)) {
            selected.extend(self.held.remove(&id).unwrap_or_default());
        }
    }

    /// Releases what was held of containers that are related now.
    fn release(&mut self, selected: &mut Vec<Observation>) {
        let related: BTreeSet<ContainerId> = self.strangers.relate();
        for id in &related {
            selected.extend(self.held.remove(id).unwrap_or_default());
        }
        if !related.is_empty() {
            self.sockets.retain(|_, id| !related.contains(id));
        }
    }
}

fn socket_of(fact: &Fact) -> Option<Cookie> {
    match fact {
        Fact::TcpState(change) => Some(change.socket.cookie),
        Fact::SocketSeen(seen) => Some(seen.socket.cookie),
        _ => None,
    }
}

fn process_of(fact: &Fact) -> Option<Pid> {
    match fact {
        Fact::ProcessStarted(started) => Some(started.process.pid),
        Fact::ProcessExec(exec) => Some(exec.process.pid),
        Fact::ProcessSeen(seen) => Some(seen.process.pid),
        Fact::Signal(signal) => Some(signal.target.pid),
        _ => None,
    }
}
