//! Names as the monitor itself is answered, and which of the answers say something.
//!
//! On a network one container asks for all names, and which one changes with who runs: an answer stands for as long as
//! its observer runs and nobody beside it was answered later. A name that is gone is told where somebody counts on it: an
//! endpoint of the observer has it, or its container ran while it was watched and is no job that is done.
//!
//! Bounds: [`NAMES`] answers and [`DEPARTED`] removed containers; the lowest go first.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::event::{DockerAction, NameAnswer, NameChecked};
use crate::model::ids::ContainerId;
use crate::model::time::{Nanos, Stamp};

use crate::engine::stats::container_state::ContainerStates;
use crate::engine::stats::gauges::NameLevel;
use crate::engine::world::World;
use crate::engine::world::containers::Container;
use crate::engine::world::failover_pairs::{FailoverPairs, names_of};

const NAMES: usize = 1_024;
const DEPARTED: usize = 1_024;
/// For so long the name of a removed container counts as gone; then it was meant to go.
const MISSED: Nanos = Nanos::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Names {
    answers: BTreeMap<(String, ContainerId), Answer>,
    /// Removed after they had run, since when.
    departed: BTreeMap<ContainerId, Stamp>,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    up: bool,
    at: Stamp,
}

impl Names {
    /// Returns whether it is news.
    pub(super) fn checked(&mut self, at: Stamp, checked: &NameChecked) -> bool {
        let up = match &checked.answer {
            NameAnswer::Addresses(_) | NameAnswer::NoData => true,
            NameAnswer::NoName | NameAnswer::Failed { .. } | NameAnswer::Silent => false,
        };
        let before = self.answers.insert((checked.name.clone(), checked.observer.clone()), Answer { up, at });
        while self.answers.len() > NAMES {
            self.answers.pop_first();
        }
        before.is_none_or(|before| before.up != up)
    }

    pub(super) fn removed(&mut self, at: Stamp, id: &ContainerId, has_run: bool) {
        self.answers.retain(|(_, observer), _| observer != id);
        if has_run {
            self.departed.insert(id.clone(), at);
        }
        while self.departed.len() > DEPARTED {
            self.departed.pop_first();
        }
    }

    /// A full listing: what is not in it was removed.
    pub(super) fn listed(&mut self, there: &[ContainerId]) {
        let there: BTreeSet<&ContainerId> = there.iter().collect();
        self.answers.retain(|(_, observer), _| there.contains(observer));
    }

    /// Returns whether anything was forgotten.
    pub(super) fn forget(&mut self, now: Stamp) -> bool {
        let before = self.departed.len();
        self.departed.retain(|_, since| now.since(*since) < MISSED);
        self.departed.len() != before
    }

    pub(super) fn gauges(
        &self,
        world: &World,
        inside: impl Fn(&Container) -> bool,
        container_states: &ContainerStates,
    ) -> Vec<NameLevel> {
        let all: Vec<&Container> = world.containers.all().collect();
        let pairs = FailoverPairs::among(&all, &world.names);
        // Containers of one service ask for the same name: it is up if it is for all of them.
        let mut gauges: BTreeMap<(&str, &str), bool> = BTreeMap::new();
        for ((name, id), answer) in &self.answers {
            let Some(observer) =
                world.containers.get(id).filter(|observer| container_states.is_up(id) && inside(observer))
            else {
                continue;
            };
            let is_declared = observer.info.endpoints.iter().any(|endpoint| is_same(&endpoint.host, name));
            let counts =
                || answer.up || all.iter().any(|other| self.is_missed(pairs, observer, name, other, container_states));
            if is_declared || (!self.is_outdated(world, name, observer, *answer) && counts()) {
                let level = gauges.entry((name, observer.service_or_name())).or_insert(true);
                *level &= answer.up;
            }
        }
        let level = |((name, observer), up): ((&str, &str), bool)| NameLevel {
            name: name.to_owned(),
            observer: observer.to_owned(),
            up,
        };
        gauges.into_iter().map(level).collect()
    }

    /// Somebody on a network of the observer's was answered later.
    fn is_outdated(&self, world: &World, name: &str, observer: &Container, answer: Answer) -> bool {
        let first = (name.to_owned(), ContainerId(String::new()));
        let same = self.answers.range(first..).take_while(|((other, _), _)| other == name);
        let mut later = same.filter(|(_, other)| other.at > answer.at);
        later.any(|((_, id), _)| world.containers.get(id).is_some_and(|other| share_a_network(observer, other)))
    }

    fn is_missed<'a>(
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
            && !is_done(container)
            && own.any(|own| pairs.meant(observer, own).any(|meant| meant.info.id == *id))
    }
}

/// It never listened, and ended by itself with exit code 0.
fn is_done(container: &Container) -> bool {
    let since_start = || {
        let newest = container.said.iter().rev().map(|said| &said.action);
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
