//! Names: which containers have or had one, on which network, and what name servers said of it over time.
//!
//! A name stays with the container that last had it, also after its death. What is said is kept as spans: as long as
//! the answers to one observer stay the same, one span grows.
//!
//! Bound: names live as long as their containers are known ([`super::containers`]); [`KEYS`] pairs of name and observer,
//! the longest known go first, with [`SPANS`] spans each: preexisting answers are then missing from timelines.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use crate::model::event::{ContainerInfo, NameAnswer};
use crate::model::ids::ContainerId;
use crate::model::time::{Nanos, Stamp};

use crate::engine::world::World;
use crate::engine::world::network::outages::Outage;

const KEYS: usize = 4_096;
const SPANS: usize = 16;
/// Docker tells a detachment after it has taken the name away: 1 to 21 ms, more on a loaded machine.
const DETACHMENT_TOLD: Nanos = Nanos::from_millis(100);

/// A container that has or had a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameHolder {
    pub container: ContainerId,
    /// `None`: a name that no network knows.
    pub network: Option<String>,
    pub since: Stamp,
}

/// Who asked: a container by itself, or the monitor in its namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Observer {
    pub container: ContainerId,
    pub monitor: bool,
}

/// Answers that say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseSpan {
    /// `None`: no address was given.
    pub address: Option<IpAddr>,
    pub first: Stamp,
    pub last: Stamp,
    /// Its first answer, in a word.
    pub said: &'static str,
}

#[derive(Debug, Default)]
pub struct Names {
    holders: BTreeMap<String, Vec<NameHolder>>,
    /// Networks that a container is or was on.
    networks: BTreeMap<ContainerId, BTreeSet<String>>,
    said: BTreeMap<(String, Observer), VecDeque<ResponseSpan>>,
    arrived: VecDeque<(String, Observer)>,
}

impl Names {
    /// Notes the names that a container has: its own, its short id and its aliases, each alone and with the network's name
    /// behind it, as Docker's name server knows them.
    pub(in crate::engine::world) fn inspected(&mut self, info: &ContainerInfo, at: Stamp) {
        let since = info.started_at.unwrap_or(at);
        if info.networks.is_empty() {
            self.note(&info.name, None, since, &info.id);
        }
        for network in &info.networks {
            self.networks.entry(info.id.clone()).or_default().insert(network.network.clone());
            let own = [info.name.as_str(), info.id.short()];
            for name in own.into_iter().chain(network.aliases.iter().map(String::as_str)) {
                self.note(name, Some(&network.network), since, &info.id);
                self.note(&format!("{name}.{}", network.network), Some(&network.network), since, &info.id);
            }
        }
    }

    /// Docker gave a container another name; the old one stays with it as one that it had.
    pub(in crate::engine::world) fn renamed(&mut self, id: &ContainerId, name: &str, at: Stamp) {
        for network in self.networks.get(id).cloned().unwrap_or_default() {
            self.note(name, Some(&network), at, id);
        }
    }

    fn note(&mut self, name: &str, network: Option<&str>, since: Stamp, id: &ContainerId) {
        let name_holders = self.holders.entry(name.to_ascii_lowercase()).or_default();
        let same =
            |name_holder: &&mut NameHolder| name_holder.container == *id && name_holder.network.as_deref() == network;
        match name_holders.iter_mut().find(same) {
            Some(known) => known.since = known.since.min(since),
            None => {
                name_holders.push(NameHolder { container: id.clone(), network: network.map(str::to_owned), since });
                name_holders.sort_by(|a, b| (a.since, &a.container).cmp(&(b.since, &b.container)));
            }
        }
    }

    /// Who has or had a name.
    #[must_use]
    pub fn holders(&self, name: &str) -> &[NameHolder] {
        self.holders.get(name).map_or(&[], Vec::as_slice)
    }

    /// Was the container ever on this network?
    #[must_use]
    pub fn was_on(&self, id: &ContainerId, network: &str) -> bool {
        self.networks.get(id).is_some_and(|networks| networks.contains(network))
    }

    /// Are or were two containers on one network?
    #[must_use]
    pub fn were_together(&self, one: &ContainerId, other: &ContainerId) -> bool {
        let networks = |id| self.networks.get(id);
        networks(one).zip(networks(other)).is_some_and(|(one, other)| !one.is_disjoint(other))
    }

    /// Can this observer mean that holder by the name? Docker knows names by network; of an observer whose networks are not known
    /// nothing can be excluded.
    #[must_use]
    pub fn can_mean(&self, observer: &ContainerId, name: &str, holder: &ContainerId) -> bool {
        let Some(networks) = self.networks.get(observer) else { return true };
        self.holders(name)
            .iter()
            .filter(|name_holder| name_holder.container == *holder)
            .any(|name_holder| name_holder.network.as_ref().is_none_or(|network| networks.contains(network)))
    }

    /// Notes an answer; returns whether a span began with it.
    pub(in crate::engine::world) fn answered(
        &mut self,
        name: &str,
        observer: Observer,
        at: Stamp,
        answer: &NameAnswer,
    ) -> bool {
        let address = match answer {
            NameAnswer::Addresses(addresses) => addresses.first().copied(),
            NameAnswer::NoData | NameAnswer::NoName | NameAnswer::Failed { .. } | NameAnswer::Silent => None,
        };
        let key = (name.to_owned(), observer);
        if !self.said.contains_key(&key) {
            self.arrived.push_back(key.clone());
            if self.arrived.len() > KEYS
                && let Some(oldest) = self.arrived.pop_front()
            {
                self.said.remove(&oldest);
            }
        }
        let spans = self.said.entry(key).or_default();
        if let Some(latest) = spans.back_mut().filter(|latest| latest.address == address) {
            latest.last = latest.last.max(at);
            return false;
        }
        spans.push_back(ResponseSpan { address, first: at, last: at, said: in_a_word(answer) });
        if spans.len() > SPANS {
            spans.pop_front();
        }
        true
    }

    /// What was said of a name, to each observer in turn.
    pub fn said(&self, name: &str) -> impl Iterator<Item = (&Observer, &VecDeque<ResponseSpan>)> {
        let first = Observer { container: ContainerId(String::new()), monitor: false };
        let from = self.said.range((name.to_owned(), first)..);
        let of_name = from.take_while(move |((other, _), _)| other == name);
        of_name.map(|((_, observer), spans)| (observer, spans))
    }

    /// When somebody who had been refused the name was given it again, at or after an instant.
    #[must_use]
    pub fn back(&self, name: &str, from: Stamp) -> Option<Stamp> {
        let returns = self.said(name).flat_map(|(_, spans)| {
            let pairs = spans.iter().zip(spans.iter().skip(1));
            let back = pairs.filter(|(before, after)| before.address.is_none() && after.address.is_some());
            back.map(|(_, after)| after.first)
        });
        returns.filter(|first| *first >= from).min()
    }

    /// The last time before an instant at which anybody was given the name.
    #[must_use]
    pub fn last_given(&self, name: &str, before: Stamp) -> Option<Stamp> {
        let given = self.said(name).flat_map(|(_, spans)| spans).filter(|span| span.address.is_some());
        given.filter(|span| span.first <= before).map(|span| span.last.min(before)).max()
    }

    /// Every name of a container.
    pub fn of<'a>(&'a self, id: &'a ContainerId) -> impl Iterator<Item = &'a str> {
        let held = |name_holders: &[NameHolder]| name_holders.iter().any(|name_holder| name_holder.container == *id);
        self.holders.iter().filter(move |(_, name_holders)| held(name_holders)).map(|(name, _)| name.as_str())
    }

    /// A container is known no more.
    pub(in crate::engine::world) fn forget(&mut self, id: &ContainerId) {
        for name_holders in self.holders.values_mut() {
            name_holders.retain(|name_holder| name_holder.container != *id);
        }
        self.holders.retain(|_, name_holders| !name_holders.is_empty());
        self.networks.remove(id);
    }
}

impl World {
    /// Does anybody on this host care for the name: is or was it a container's, or does an environment name it?
    #[must_use]
    pub fn is_name_of_interest(&self, name: &str) -> bool {
        let endpoints = || self.containers.all().flat_map(|container| &container.info.endpoints);
        !self.names.holders(name).is_empty() || endpoints().any(|endpoint| endpoint.host.eq_ignore_ascii_case(name))
    }

    /// The container that last had a name at an instant. Networks that the client is or was on come first: elsewhere the
    /// same name may be another's.
    #[must_use]
    pub fn last_holder(&self, name: &str, client: &ContainerId, at: Stamp) -> Option<ContainerId> {
        let shared = |name_holder: &NameHolder| {
            let network = name_holder.network.as_ref();
            network.is_some_and(|network| self.names.was_on(client, network))
        };
        let held = self.names.holders(name).iter().filter(|name_holder| name_holder.since <= at);
        let last = held.max_by_key(|name_holder| {
            (shared(name_holder), self.held_until(name_holder, at), name_holder.since, &name_holder.container)
        });
        last.map(|name_holder| name_holder.container.clone())
    }

    /// Until when a name was a container's, as seen at an instant; the end of time while it still is.
    fn held_until(&self, name_holder: &NameHolder, at: Stamp) -> Stamp {
        if let Some(termination) = self.terminations.current(&name_holder.container, at) {
            return termination.down().unwrap_or(termination.since());
        }
        let Some(container) = self.containers.get(&name_holder.container) else { return Stamp(0) };
        let network = name_holder.network.as_deref();
        if let Some(outage) =
            network.and_then(|network| self.interfaces.outages.of_network(&container.info.id, network, at, at))
        {
            return outage.since();
        }
        let ran = container.info.running || self.terminations.of_container(&name_holder.container).next().is_some();
        if ran { Stamp(i64::MAX) } else { Stamp(0) }
    }

    /// The time in which one of the two was off the network on which the client would find the name.
    #[must_use]
    pub fn cut_off(&self, name: &str, holder: &ContainerId, client: &ContainerId, at: Stamp) -> Option<&Outage> {
        let networks = self.names.holders(name).iter().filter(|name_holder| name_holder.container == *holder);
        let networks: Vec<&String> = networks
            .filter_map(|name_holder| name_holder.network.as_ref())
            .filter(|network| self.names.was_on(client, network))
            .collect();
        [holder, client].into_iter().find_map(|id| {
            let until = at.plus(DETACHMENT_TOLD);
            networks.iter().find_map(|network| self.interfaces.outages.of_network(id, network, at, until))
        })
    }
}

fn in_a_word(answer: &NameAnswer) -> &'static str {
    match answer {
        NameAnswer::Addresses(_) => "an address",
        NameAnswer::NoData => "no address",
        NameAnswer::NoName => "NXDOMAIN",
        NameAnswer::Failed { .. } => "an error of the name server",
        NameAnswer::Silent => "no answer",
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{KEYS, Names, Observer};
    use crate::model::event::NameAnswer;
    use crate::model::ids::ContainerId;
    use crate::model::time::Stamp;

    fn observer(name: &str) -> Observer {
        Observer { container: ContainerId(name.to_owned()), monitor: false }
    }

    fn given() -> NameAnswer {
        NameAnswer::Addresses(vec![IpAddr::V4(Ipv4Addr::new(172, 28, 0, 2))])
    }

    #[test]
    fn a_name_is_back_for_whom_it_had_gone() {
        let mut names = Names::default();
        for (who, at, answer) in
            [("a", 1, given()), ("b", 2, given()), ("a", 5, NameAnswer::NoName), ("b", 6, given()), ("a", 9, given())]
        {
            names.answered("core", observer(who), Stamp(at), &answer);
        }
        assert_eq!(names.back("core", Stamp(5)), Some(Stamp(9)), "b was never refused");
        assert_eq!(names.back("core", Stamp(10)), None);
        assert_eq!(names.last_given("core", Stamp(5)), Some(Stamp(5)), "b was given it before and after");
        assert_eq!(names.said("cor").count(), 0);
    }

    #[test]
    fn who_asks_for_many_names_pushes_the_oldest_out() {
        let mut names = Names::default();
        for index in 0..=KEYS {
            names.answered(&format!("n{index}"), observer("a"), Stamp(1), &given());
        }
        assert_eq!(names.said("n0").count(), 0);
        assert_eq!(names.said("n1").count(), 1);
    }
}
