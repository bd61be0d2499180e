//! Results of the monitor's own lookups, and which of them are reported as gauges.
//!
//! One container per network resolves all names, and which one changes with the running containers. So a result is
//! valid while its observer runs and no other container on a network of the observer has a later result. A name that
//! does not resolve is reported only if it is relied on: an endpoint of the observer contains it, or its container ran
//! while it was observed and is not a completed job.
//!
//! Bounds: [`NAMES`] results and [`DEPARTED`] removed containers; beyond them the lowest are evicted.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::event::{DnsProbe, DnsResponse, DockerAction};
use crate::model::ids::ContainerId;
use crate::model::time::{Nanos, Stamp};

use crate::engine::stats::container_state::ContainerStates;
use crate::engine::stats::gauges::NameGauge;
use crate::engine::world::World;
use crate::engine::world::containers::Container;
use crate::engine::world::failover_pairs::{FailoverPairs, names_of};

const NAMES: usize = 1_024;
const DEPARTED: usize = 1_024;
/// The names of a removed container are relied on for this long; after it the removal counts as intended.
const RELIED_ON: Nanos = Nanos::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct DnsProbes {
    /// By name and observer.
    results: BTreeMap<(String, ContainerId), ProbeResult>,
    /// Containers that had run, and the instant of their removal.
    departed: BTreeMap<ContainerId, Stamp>,
}

#[derive(Clone, Copy, Debug)]
struct ProbeResult {
    up: bool,
    at: Stamp,
}

impl DnsProbes {
    /// Records a result. Returns whether it differs from the previous one.
    pub(super) fn record(&mut self, at: Stamp, checked: &DnsProbe) -> bool {
        let up = match &checked.response {
            DnsResponse::Addresses(_) | DnsResponse::NoData => true,
            DnsResponse::NoName | DnsResponse::Failed { .. } | DnsResponse::Silent => false,
        };
        let before = self.results.insert((checked.name.clone(), checked.observer.clone()), ProbeResult { up, at });
        while self.results.len() > NAMES {
            self.results.pop_first();
        }
        before.is_none_or(|before| before.up != up)
    }

    pub(super) fn removed(&mut self, at: Stamp, id: &ContainerId, has_run: bool) {
        self.results.retain(|(_, observer), _| observer != id);
        if has_run {
            self.departed.insert(id.clone(), at);
        }
        while self.departed.len() > DEPARTED {
            self.departed.pop_first();
        }
    }

    /// Removes the results of observers that are missing in a full listing.
    pub(super) fn listed(&mut self, listed: &[ContainerId]) {
        let listed: BTreeSet<&ContainerId> = listed.iter().collect();
        self.results.retain(|(_, observer), _| listed.contains(observer));
    }

    /// Evicts containers that were removed long ago. Returns whether there were any.
    pub(super) fn expire(&mut self, now: Stamp) -> bool {
        let before = self.departed.len();
        self.departed.retain(|_, since| now.since(*since) < RELIED_ON);
        self.departed.len() != before
    }

    pub(super) fn gauges(
        &self,
        world: &World,
        inside: impl Fn(&Container) -> bool,
        container_states: &ContainerStates,
    ) -> Vec<NameGauge> {
        let all: Vec<&Container> = world.containers.all().collect();
        let pairs = FailoverPairs::among(&all, &world.names);
        // Containers of one service resolve the same name, which is up only if it is up for all of them.
        let mut gauges: BTreeMap<(&str, &str), bool> = BTreeMap::new();
        for ((name, id), result) in &self.results {
            let Some(observer) =
                world.containers.get(id).filter(|observer| container_states.is_up(id) && inside(observer))
            else {
                continue;
            };
            let is_declared = observer.info.endpoints.iter().any(|endpoint| is_same(&endpoint.host, name));
            let counts = || {
                result.up || all.iter().any(|other| self.is_relied_on(pairs, observer, name, other, container_states))
            };
            if is_declared || (!self.is_outdated(world, name, observer, *result) && counts()) {
                let level = gauges.entry((name, observer.info.service_label())).or_insert(true);
                *level &= result.up;
            }
        }
        let level = |((name, observer), up): ((&str, &str), bool)| NameGauge {
            name: name.to_owned(),
            observer: observer.to_owned(),
            up,
        };
        gauges.into_iter().map(level).collect()
    }

    /// Whether another container on a network of the observer has a later result for the name.
    fn is_outdated(&self, world: &World, name: &str, observer: &Container, result: ProbeResult) -> bool {
        let first = (name.to_owned(), ContainerId(String::new()));
        let same = self.results.range(first..).take_while(|((other, _), _)| other == name);
        let mut later = same.filter(|(_, other)| other.at > result.at);
        later.any(|((_, id), _)| world.containers.get(id).is_some_and(|other| share_a_network(observer, other)))
    }

    /// Whether the observer may expect that the name resolves to this container.
    fn is_relied_on<'a>(
        &self,
        pairs: FailoverPairs<'a>,
        observer: &'a Container,
        name: &str,
        container: &'a Container,
        container_states: &ContainerStates,
    ) -> bool {
        let id = &container.info.id;
        let mut own = names_of(container).filter(|own| is_same(own, name));
        (container_states.has_run(id) || self.departed.contains_key(id))
            && !is_completed_job(container)
            && own.any(|own| pairs.matching(observer, own).any(|matching| matching.info.id == *id))
    }
}

/// Whether the container never listened and exited with code 0 without a request to Docker.
fn is_completed_job(container: &Container) -> bool {
    let since_start = || {
        let newest = container.docker_events.iter().rev().map(|event| &event.action);
        newest.take_while(|action| !matches!(action, DockerAction::Start))
    };
    container.ports.is_empty()
        && since_start().any(|action| matches!(action, DockerAction::Die { exit_code: Some(0) }))
        && !since_start().any(|action| matches!(action, DockerAction::Kill { .. } | DockerAction::Stop))
}

fn is_same(one: &str, other: &str) -> bool {
    one.trim_end_matches('.').eq_ignore_ascii_case(other)
}

fn share_a_network(one: &Container, other: &Container) -> bool {
    one.info.networks.iter().any(|own| other.info.networks.iter().any(|theirs| theirs.network == own.network))
}
