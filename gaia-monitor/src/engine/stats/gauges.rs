//! Gauges, computed from the current state: running containers, the state of each pair, names that resolve.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::incident::Role;

use crate::engine::stats::container_state::ContainerStates;
use crate::engine::stats::dns_probes::DnsProbes;
use crate::engine::world::World;
use crate::engine::world::containers::Container;
use crate::engine::world::failover_pairs::FailoverPairs;
use crate::model::scope;
use crate::model::settings::Scope;

/// The values of all gauges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    pub containers: Vec<ContainerGauge>,
    pub pairs: BTreeMap<PairNames, PairState>,
    pub names: Vec<NameGauge>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerGauge {
    pub container: String,
    pub service: String,
    pub role: Role,
    pub up: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PairNames {
    /// The service whose environment declares the pair; [`ANY_CLIENT`] if only the names form it.
    pub client: String,
    pub primary: String,
    pub candidate: String,
}

/// The client of a pair that only the naming convention `NAME`, `NAME-candidate` forms.
pub const ANY_CLIENT: &str = "any";

/// The state of a primary and its candidate, from which of the two can respond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PairState {
    Active,
    Degraded,
    FailoverActive,
    Failed,
}

impl PairState {
    pub const ALL: [PairState; 4] =
        [PairState::Active, PairState::Degraded, PairState::FailoverActive, PairState::Failed];

    /// The value of the label `state`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PairState::Active => "active",
            PairState::Degraded => "degraded",
            PairState::FailoverActive => "failover_active",
            PairState::Failed => "failed",
        }
    }

    fn of(primary: bool, candidate: bool) -> Self {
        match (primary, candidate) {
            (true, true) => PairState::Active,
            (true, false) => PairState::Degraded,
            (false, true) => PairState::FailoverActive,
            (false, false) => PairState::Failed,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameGauge {
    pub name: String,
    /// The service of the container in whose network namespace the lookup was made.
    pub observer: String,
    pub up: bool,
}

pub(super) fn of(world: &World, limits: &Scope, container_states: &ContainerStates, dns_probes: &DnsProbes) -> Gauges {
    let inside = |container: &&Container| scope::contains(limits, &container.info);
    let present: Vec<&Container> =
        world.containers.all().filter(|container| container_states.is_there(&container.info.id)).collect();
    let pairs = FailoverPairs::among(&present, &world.names);
    let containers = present.iter().copied().filter(inside).map(|container| ContainerGauge {
        container: container.info.name.clone(),
        service: container.info.service_label().to_owned(),
        role: pairs.role_of(container),
        up: container_states.is_up(&container.info.id),
    });
    // A replaced container may still have the name of its successor. The running one is last, so its value is kept.
    let mut containers: Vec<ContainerGauge> = containers.collect();
    containers.sort_by_key(|level| level.up);
    Gauges {
        containers,
        pairs: states(world, pairs, |container| inside(&container), container_states),
        names: dns_probes.gauges(world, |container| inside(&container), container_states),
    }
}

fn states(
    world: &World,
    pairs: FailoverPairs<'_>,
    inside: impl Fn(&Container) -> bool,
    container_states: &ContainerStates,
) -> BTreeMap<PairNames, PairState> {
    // What a name means to `by`; beyond its own stack only what is in scope.
    let holders = |by, name| -> Vec<&Container> {
        let named = pairs.matching(by, name).filter(|found| inside(found) || pairs.is_near(by, found));
        named.collect()
    };
    // The label is the name of the service, even if the declaration contains an alias or the name of a container.
    let shown = |name: &str, of: &[&Container]| of.first().map_or(name, |found| found.info.service_label()).to_owned();
    let ok = |of: &[&Container]| of.iter().any(|container| can_respond(world, container_states, container));
    let mut states: BTreeMap<PairNames, PairState> = BTreeMap::new();
    let mut add = |client: &str, first: &[&Container], second: &[&Container], names: (String, String)| {
        let names = PairNames { client: client.to_owned(), primary: names.0, candidate: names.1 };
        let state = PairState::of(ok(first), ok(second));
        // Two stacks with equal names share a series, which shows the worse state.
        states.entry(names).and_modify(|known| *known = state.max(*known)).or_insert(state);
    };
    let mut declared = BTreeSet::new();
    for (client, primary, candidate) in pairs.declared() {
        let (first, second) = (holders(client, primary), holders(client, candidate));
        let names = (shown(primary, &first), shown(candidate, &second));
        declared.insert(names.clone());
        // Neither side may be a container of this host, or none in scope.
        let known = !first.is_empty() || !second.is_empty();
        if known && (inside(client) || first.iter().chain(&second).any(|container| inside(container))) {
            add(client.info.service_label(), &first, &second, names);
        }
    }
    for (by, primary, candidate) in pairs.habitual() {
        let (first, mut second) = (holders(by, primary), holders(by, candidate));
        if !second.iter().any(|other| other.info.id == by.info.id) {
            second.push(by);
        }
        let names = (shown(primary, &first), shown(candidate, &second));
        let in_scope = first.iter().chain(&second).any(|container| inside(container));
        if !first.is_empty() && in_scope && !declared.contains(&names) {
            add(ANY_CLIENT, &first, &second, names);
        }
    }
    states
}

/// Whether the container can be expected to respond: it runs, has recovered from its last termination, is reachable on
/// a network, is not paused, and Docker's health check does not report `unhealthy`.
fn can_respond(world: &World, container_states: &ContainerStates, container: &Container) -> bool {
    let id = &container.info.id;
    let recovered = world
        .terminations
        .of_container(id)
        .all(|termination| termination.down().is_none() || termination.recovered.is_some());
    let is_cut_off = |ip: &IpAddr| {
        let mut open = world.interfaces.outages.all().filter(|outage| outage.until().is_none());
        // An outage without a container is that of a bridge, and affects all addresses behind it.
        open.any(|outage| match &outage.container {
            Some(_) => outage.cuts_off(container, *ip),
            None => outage.addresses.contains(ip),
        })
    };
    let mut addresses = container.info.networks.iter().flat_map(|network| &network.addresses).peekable();
    // A container on the host's network has no address of its own.
    let reachable = addresses.peek().is_none() || addresses.any(|ip| !is_cut_off(ip));
    container_states.is_up(id)
        && recovered
        && reachable
        && container.info.health.as_deref() != Some("unhealthy")
        && container.paused_at(world.now).is_none()
}
