//! What stands at a moment: containers that are up, the state of each pair, names that are answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::incident::Role;

use crate::engine::stats::container_state::ContainerStates;
use crate::engine::stats::dns_probes::Names;
use crate::engine::world::World;
use crate::engine::world::containers::Container;
use crate::engine::world::failover_pairs::{self, FailoverPairs};
use crate::model::scope;
use crate::model::settings::Scope;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    pub containers: Vec<ContainerLevel>,
    pub pairs: BTreeMap<PairNames, PairState>,
    pub names: Vec<NameLevel>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerLevel {
    pub container: String,
    pub service: String,
    pub role: Role,
    pub up: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PairNames {
    /// Whose environment declares it; [`ANY_CLIENT`] where only the names do.
    pub client: String,
    pub primary: String,
    pub candidate: String,
}

/// The client of a pair that goes by the habit `NAME`, `NAME-candidate`.
pub const ANY_CLIENT: &str = "any";

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
pub struct NameLevel {
    pub name: String,
    /// The service of the container that asked.
    pub observer: String,
    pub up: bool,
}

pub(super) fn of(world: &World, limits: &Scope, container_states: &ContainerStates, names: &Names) -> Levels {
    let inside = |container: &&Container| scope::contains(limits, &container.info);
    let there: Vec<&Container> =
        world.containers.all().filter(|container| container_states.is_there(&container.info.id)).collect();
    let pairs = FailoverPairs::among(&there, &world.names);
    let containers = there.iter().copied().filter(inside).map(|container| ContainerLevel {
        container: container.info.name.clone(),
        service: container.service_or_name().to_owned(),
        role: pairs.role_of(container),
        up: container_states.is_up(&container.info.id),
    });
    // One that was replaced may still have its successor's name: what is up is told last, and stays.
    let mut containers: Vec<ContainerLevel> = containers.collect();
    containers.sort_by_key(|level| level.up);
    Levels {
        containers,
        pairs: states(world, &there, pairs, |container| inside(&container), container_states),
        names: names.gauges(world, |container| inside(&container), container_states),
    }
}

fn states(
    world: &World,
    there: &[&Container],
    pairs: FailoverPairs<'_>,
    inside: impl Fn(&Container) -> bool,
    container_states: &ContainerStates,
) -> BTreeMap<PairNames, PairState> {
    let mut by_name: BTreeMap<&str, Vec<&Container>> = BTreeMap::new();
    for container in there {
        for name in failover_pairs::names_of(container) {
            by_name.entry(name).or_default().push(container);
        }
    }
    let holders = |name: &str| by_name.get(name).cloned().unwrap_or_default();
    // The name in the metrics is the service's, also where an alias or a container's name was declared.
    let shown = |name: &str, of: &[&Container]| of.first().map_or(name, |found| found.service_or_name()).to_owned();
    let ok = |of: &[&Container]| of.iter().any(|container| is_ok(world, container_states, container));
    let mut states = BTreeMap::new();
    let mut declared = BTreeSet::new();
    let mut add =
        |client: &str, primary: (String, &[&Container]), candidate: (String, &[&Container]), client_inside| {
            let ((primary, first), (candidate, second)) = (primary, candidate);
            let known = !first.is_empty() || !second.is_empty();
            if !known || !(client_inside || first.iter().chain(second).any(|end| inside(end))) {
                // Neither end is a container of this host, or nothing of it is asked for.
                return;
            }
            let names = PairNames { client: client.to_owned(), primary, candidate };
            states.insert(names, PairState::of(ok(first), ok(second)));
        };
    for (client, primary, candidate) in pairs.declared() {
        let first: Vec<&Container> = pairs.meant(client, primary).collect();
        let second: Vec<&Container> = pairs.meant(client, candidate).collect();
        let names = (shown(primary, &first), shown(candidate, &second));
        declared.insert(names.clone());
        add(client.service_or_name(), (names.0, &first), (names.1, &second), inside(client));
    }
    for (primary, candidate) in failover_pairs::habitual(there) {
        let (first, second) = (holders(primary), holders(candidate));
        let names = (shown(primary, &first), shown(candidate, &second));
        if !declared.contains(&names) {
            add(ANY_CLIENT, (names.0, &first), (names.1, &second), false);
        }
    }
    states
}

/// It can be expected to answer: it runs, has come back from its last end, is on a network, does not stand still, and
/// Docker's health check does not say otherwise.
fn is_ok(world: &World, container_states: &ContainerStates, container: &Container) -> bool {
    let id = &container.info.id;
    let recovered = world
        .terminations
        .of_container(id)
        .all(|termination| termination.down().is_none() || termination.recovered.is_some());
    let cut_off = |ip: &IpAddr| {
        let mut open = world.interfaces.outages.all().filter(|outage| outage.until().is_none());
        // Without a container it is a bridge's, which cuts everybody behind it off.
        open.any(|outage| match &outage.container {
            Some(_) => outage.cuts_off(container, *ip),
            None => outage.addresses.contains(ip),
        })
    };
    let mut addresses = container.info.networks.iter().flat_map(|network| &network.addresses).peekable();
    // On the host's network it has none of its own.
    let reachable = addresses.peek().is_none() || addresses.any(|ip| !cut_off(ip));
    container_states.is_up(id)
        && recovered
        && reachable
        && container.info.health.as_deref() != Some("unhealthy")
        && container.paused_at(world.now).is_none()
}
