//! What is counted beside incidents: traffic, resets, what is up, what came back. Metrics read it.
//!
//! A fold over the same events as the world, after it, and it changes nothing there: no incident depends on a count.
//! What comes with every packet or answer is counted in place, by number, and read now and then ([`Flow`]); what is rare
//! leaves as an effect. Bounds stand with each part; at them, facts are counted under the name [`OTHER`].

mod container_state;
mod dns_probes;
mod failover;
mod failures;
pub mod gauges;
mod source;
mod traffic;

use crate::model::event::{BodyFraming, DockerAction, Event, Fact, HttpWhat};
use crate::model::time::Stamp;

use crate::engine::Engine;
use crate::engine::effect::{Counted, Effect};
use crate::engine::world::{Change, World};
use crate::model::scope;
use crate::model::settings::Scope;
use container_state::ContainerStates;
use dns_probes::Names;
use failover::Failovers;
use failures::Pending;
use gauges::Levels;
pub use source::Source;
use traffic::Traffic;
pub use traffic::{Class, Direction, Unavailable};

/// What facts are counted under that no name is kept for.
pub const OTHER: &str = "other";

#[derive(Debug, Default)]
pub struct Stats {
    events: [u64; Source::ALL.len()],
    traffic: Traffic,
    container_states: ContainerStates,
    names: Names,
    failovers: Failovers,
    pending: Pending,
}

/// A count that grew since it was last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow<'a> {
    Events { source: Source, count: u64 },
    Resets { container: &'a str, service: &'a str, direction: Direction, reason: &'a str, count: u64 },
    Responses { service: &'a str, class: Class, count: u64 },
    Unavailable { service: &'a str, status: Unavailable, count: u64 },
}

impl Stats {
    /// What an event changed in the world.
    pub(super) fn change(
        &mut self,
        world: &World,
        limits: &Scope,
        at: Stamp,
        change: &Change,
        effects: &mut Vec<Effect>,
    ) {
        match change {
            Change::Termination(id) => {
                let Some(termination) = world.terminations.get(*id) else { return };
                let Some((down, container)) = termination.down().zip(world.containers.get(&termination.container))
                else {
                    return;
                };
                self.container_states.down(&termination.container, down);
                if scope::contains(limits, &container.info) {
                    self.failovers.down(container, *id, down);
                }
            }
            Change::OomMarked(pid) => {
                let container = world.container_of(*pid);
                let Some(container) = container.and_then(|id| world.containers.get(&id)) else { return };
                if scope::contains(limits, &container.info) {
                    let (name, service) = (container.info.name.clone(), container.service_or_name().to_owned());
                    effects.push(Effect::Counted(Counted::OomKill { container: name, service }));
                }
            }
            Change::Docker(id) => {
                self.traffic.forget_names();
                let Some(container) = world.containers.get(id) else { return };
                let last = container.said.back().filter(|said| said.at == at);
                if last.is_some_and(|said| said.action == DockerAction::Destroy) {
                    self.names.removed(at, id, self.container_states.has_run(id));
                }
                let restarted = self.container_states.told(container, last.map(|said| (said.at, &said.action)));
                if restarted && scope::contains(limits, &container.info) {
                    let (name, service) = (container.info.name.clone(), container.service_or_name().to_owned());
                    effects.push(Effect::Counted(Counted::Restarted { container: name, service }));
                }
            }
            Change::Listening { .. } | Change::Outage(_) => self.container_states.mark_dirty(),
            Change::Socket(_)
            | Change::Lookup(_)
            | Change::DnsChanged(_)
            | Change::PacketDropped { .. }
            | Change::AcceptQueueFull(_)
            | Change::Logged(..)
            | Change::LogsUnread(_)
            | Change::WorkerExited(_)
            | Change::Exited(_)
            | Change::Signalled(_)
            | Change::Lost { .. }
            | Change::Shutdown => {}
        }
    }

    /// An event that the world has absorbed.
    pub(super) fn event(&mut self, world: &World, limits: &Scope, event: &Event, effects: &mut Vec<Effect>) {
        if let Some(count) = self.events.get_mut(Source::of(&event.fact) as usize) {
            *count += 1;
        }
        match &event.fact {
            Fact::ResetSent(reset) => {
                self.traffic.reset(world, limits, &reset.socket, event.at, Direction::Sent, &reset.reason);
            }
            Fact::ResetReceived(reset) => self.traffic.reset_received(world, limits, reset, event.at),
            Fact::Http(http) => match &http.what {
                HttpWhat::AnswerHead { status, body, .. } => {
                    self.traffic.answered(world, limits, http.cookie, *status);
                    if *body == BodyFraming::Empty {
                        self.served(world, http.cookie, event.at, effects);
                    }
                }
                HttpWhat::AnswerComplete => self.served(world, http.cookie, event.at, effects),
                HttpWhat::RequestBegun
                | HttpWhat::RequestComplete
                | HttpWhat::AnswerBegun
                | HttpWhat::Informational { .. }
                | HttpWhat::Upgraded
                | HttpWhat::Malformed
                | HttpWhat::Opaque => {}
            },
            Fact::NameChecked(checked) => {
                if self.names.checked(event.at, checked) {
                    self.container_states.mark_dirty();
                }
            }
            Fact::InventoryRead { containers } => {
                self.container_states.listed(containers);
                self.names.listed(containers);
            }
            Fact::TcpState(_)
            | Fact::SocketError(_)
            | Fact::Reading(_)
            | Fact::PacketDropped(_)
            | Fact::IcmpSent(_)
            | Fact::Retransmitted(_)
            | Fact::ListenOverflow(_)
            | Fact::ListenCounts(_)
            | Fact::Log(_)
            | Fact::LogsUnread(_)
            | Fact::Memory(_)
            | Fact::CoreDump(_)
            | Fact::LookUp(_)
            | Fact::AskerClosed(_)
            | Fact::LinksRead(_)
            | Fact::Link(_)
            | Fact::Address(_)
            | Fact::Neighbour(_)
            | Fact::ProcessStarted(_)
            | Fact::ProcessExec(_)
            | Fact::ProcessExited(_)
            | Fact::Signal(_)
            | Fact::OomVictim { .. }
            | Fact::SocketSeen(_)
            | Fact::ProcessSeen(_)
            | Fact::ProxySeen(_)
            | Fact::ContainerSeen(_)
            | Fact::Docker(_)
            | Fact::Lost { .. }
            | Fact::Tick
            | Fact::Shutdown => {}
        }
    }

    fn served(&mut self, world: &World, server: crate::model::ids::Cookie, at: Stamp, effects: &mut Vec<Effect>) {
        self.failovers.answered(world, server, at, |service, after| {
            effects.push(Effect::Counted(Counted::ServedAgain { service, after }));
        });
    }
}

impl Engine {
    /// Hands over what was counted in place since the last call.
    pub fn flows(&mut self, mut each: impl FnMut(Flow<'_>)) {
        for (source, count) in Source::ALL.into_iter().zip(&mut self.stats.events) {
            if *count > 0 {
                each(Flow::Events { source, count: std::mem::take(count) });
            }
        }
        self.stats.traffic.drain(each);
    }

    /// What is up and what stands by, where that may have changed since the last call.
    pub fn levels(&mut self) -> Option<Levels> {
        let Stats { container_states, names, .. } = &mut self.stats;
        let forgot = names.forget(self.world.now);
        let dirty = container_states.take_dirty() || forgot;
        dirty.then(|| gauges::of(&self.world, &self.settings.scope, container_states, names))
    }
}
