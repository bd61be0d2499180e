//! Statistics for metrics, independent of incidents: traffic, failures, failover, running containers, names.
//!
//! A fold over the same events as the world, applied after it. It never changes the world, so no incident depends on a
//! count. Frequent events (packets, responses) are counted in place and read from time to time ([`Flow`]); each rare
//! event is an effect. Each part documents its bound; beyond it, facts are counted under the name [`OTHER`].

/// Whether each container is running.
mod container_state;
/// The monitor's own lookups.
mod dns_probes;
/// Failover durations.
mod failover;
/// Counters of client failures.
mod failures;
/// Gauges, from the container states and the lookups.
pub mod gauges;
/// Counters of resets and HTTP responses.
mod traffic;

use crate::model::event::{BodyFraming, DockerAction, Event, Fact, HttpFact, HttpWhat, Source};
use crate::model::ids::{ContainerId, Cookie, Pid};
use crate::model::time::Stamp;

use crate::engine::effect::{Counter, Effect};
use crate::engine::world::containers::Container;
use crate::engine::world::terminations::TerminationId;
use crate::engine::world::{Change, World};
use crate::model::scope;
use crate::model::settings::Scope;
use container_state::ContainerStates;
use dns_probes::DnsProbes;
use failover::Failovers;
pub(super) use failures::Uncounted;
use gauges::Gauges;
use traffic::Traffic;
pub use traffic::{Class, Direction, Unavailable};

/// The name under which facts are counted beyond a bound.
pub const OTHER: &str = "other";

#[derive(Debug, Default)]
pub struct Stats {
    /// Events by [`Source`].
    events: [u64; Source::ALL.len()],
    traffic: Traffic,
    pub(super) pending: Uncounted,
    container_states: ContainerStates,
    dns_probes: DnsProbes,
    failovers: Failovers,
}

/// The growth of a counter since it was last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterDelta<'a> {
    Events { source: Source, count: u64 },
    Resets { container: &'a str, service: &'a str, direction: Direction, reason: &'a str, count: u64 },
    Responses { service: &'a str, class: Class, count: u64 },
    Unavailable { service: &'a str, status: Unavailable, count: u64 },
}

impl Stats {
    /// Applies a change of the world.
    pub(super) fn change(
        &mut self,
        world: &World,
        limits: &Scope,
        at: Stamp,
        change: &Change,
        effects: &mut Vec<Effect>,
    ) {
        match change {
            Change::Termination(id) => self.terminated(world, limits, *id),
            Change::OomMarked(pid) => oom_killed(world, limits, *pid, effects),
            Change::Docker(id) => self.docker(world, limits, at, id, effects),
            Change::Listening { .. } | Change::Outage(_) => self.container_states.mark_dirty(),
            Change::Socket(_)
            | Change::Lookup(_)
            | Change::DnsChanged(_)
            | Change::PacketDropped { .. }
            | Change::AcceptQueueFull(_)
            | Change::Logged(..)
            | Change::LogsUnread(_)
            | Change::Exited(_)
            | Change::Signalled(_)
            | Change::Lost { .. }
            | Change::Shutdown => {}
        }
    }

    /// Applies an event that the world has absorbed.
    pub(super) fn event(&mut self, world: &World, limits: &Scope, event: &Event, effects: &mut Vec<Effect>) {
        let (at, fact) = (event.at, &event.fact);
        let source = fact.source();
        if let Some(count) = self.events.get_mut(source as usize) {
            *count += 1;
        }
        match source {
            Source::Tcp => {
                if let Fact::ResetSent(reset) = fact {
                    self.traffic.reset(world, limits, &reset.socket, at, Direction::Sent, &reset.reason);
                } else if let Fact::ResetReceived(reset) = fact {
                    self.traffic.reset_received(world, limits, reset, at);
                }
            }
            Source::Http => {
                if let Fact::Http(http) = fact {
                    self.http(world, limits, at, http, effects);
                }
            }
            Source::Dns => {
                if let Fact::DnsProbe(checked) = fact
                    && self.dns_probes.record(at, checked)
                {
                    self.container_states.mark_dirty();
                }
            }
            Source::Docker => {
                if let Fact::InventoryRead { containers } = fact {
                    self.container_states.listed(containers);
                    self.dns_probes.listed(containers);
                }
            }
            Source::Process | Source::Link | Source::Inventory | Source::Log | Source::Monitor => {}
        }
    }

    fn terminated(&mut self, world: &World, limits: &Scope, id: TerminationId) {
        let Some(termination) = world.terminations.get(id) else { return };
        let Some((down, container)) = termination.down().zip(world.containers.get(&termination.container)) else {
            return;
        };
        self.container_states.down(&termination.container, down);
        if scope::contains(limits, &container.info) {
            self.failovers.down(container, id, down);
        }
    }

    /// Applies an event of Docker, or an inspection, of a container.
    fn docker(&mut self, world: &World, limits: &Scope, at: Stamp, id: &ContainerId, effects: &mut Vec<Effect>) {
        self.traffic.clear_cache();
        let Some(container) = world.containers.get(id) else { return };
        let last = container.docker_events.back().filter(|event| event.at == at);
        if last.is_some_and(|event| event.action == DockerAction::Destroy) {
            self.dns_probes.removed(at, id, self.container_states.has_run(id));
        }
        let restarted = self.container_states.update(container, last.map(|event| (event.at, &event.action)));
        if restarted && scope::contains(limits, &container.info) {
            let (container, service) = labels(container);
            effects.push(Effect::Count(Counter::Restarted { container, service }));
        }
    }

    fn http(&mut self, world: &World, limits: &Scope, at: Stamp, http: &HttpFact, effects: &mut Vec<Effect>) {
        match &http.what {
            HttpWhat::ResponseHeaders { status, body, .. } => {
                self.traffic.response(world, limits, http.cookie, *status);
                if *body == BodyFraming::Empty {
                    self.response_complete(world, http.cookie, at, effects);
                }
            }
            HttpWhat::ResponseComplete => self.response_complete(world, http.cookie, at, effects),
            HttpWhat::RequestBegun
            | HttpWhat::RequestComplete
            | HttpWhat::ResponseBegun
            | HttpWhat::Informational { .. }
            | HttpWhat::Upgraded
            | HttpWhat::Malformed
            | HttpWhat::Opaque => {}
        }
    }

    fn response_complete(&mut self, world: &World, server: Cookie, at: Stamp, effects: &mut Vec<Effect>) {
        self.failovers.responded(world, server, at, |service, after| {
            effects.push(Effect::Count(Counter::ServedAgain { service, after }));
        });
    }

    /// Passes each counter that grew since the last call to `each`.
    pub(super) fn drain(&mut self, mut each: impl FnMut(CounterDelta<'_>)) {
        for (source, count) in Source::ALL.into_iter().zip(&mut self.events) {
            if *count > 0 {
                each(CounterDelta::Events { source, count: std::mem::take(count) });
            }
        }
        self.traffic.drain(each);
    }

    /// The gauges, if they may have changed since the last call.
    pub(super) fn gauges(&mut self, world: &World, limits: &Scope) -> Option<Gauges> {
        let expired = self.dns_probes.expire(world.now);
        let dirty = self.container_states.take_dirty() || expired;
        dirty.then(|| gauges::of(world, limits, &self.container_states, &self.dns_probes))
    }
}

fn oom_killed(world: &World, limits: &Scope, pid: Pid, effects: &mut Vec<Effect>) {
    let container = world.container_of(pid);
    let Some(container) = container.and_then(|id| world.containers.get(&id)) else { return };
    if scope::contains(limits, &container.info) {
        let (container, service) = labels(container);
        effects.push(Effect::Count(Counter::OomKill { container, service }));
    }
}

/// The labels `container` and `service`.
fn labels(container: &Container) -> (String, String) {
    (container.info.name.clone(), container.info.service_label().to_owned())
}
