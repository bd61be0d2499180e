//! DNS names: the containers that hold or held each name, by network, and the DNS responses for it over time.
//!
//! A name stays with its last holder after the container's termination. Responses are kept as spans: while the
//! responses to one observer have the same result, one span is extended.
//!
//! Bound: a holder is evicted with its container (see `containers`). [`KEYS_CAP`] pairs of name and observer with
//! [`SPANS_CAP`] spans each; when reached, the oldest is evicted, and older responses are missing from timelines.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use crate::model::event::{ContainerInfo, DnsResponse};
use crate::model::ids::ContainerId;
use crate::model::time::{Nanos, Stamp};

use crate::engine::world::World;
use crate::engine::world::network::outages::Outage;

const KEYS_CAP: usize = 4_096;
const SPANS_CAP: usize = 16;
/// Docker emits `disconnect` 1 to 21 ms after it removed the name, later on a loaded machine.
const DETACH_DELAY: Nanos = Nanos::from_millis(100);

/// A container that has or had a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameHolder {
    pub container: ContainerId,
    /// `None`: the name of a container without networks.
    pub network: Option<String>,
    pub since: Stamp,
}

/// The client of a DNS query: a container, or the monitor (`monitor`) in the container's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Observer {
    pub container: ContainerId,
    pub monitor: bool,
}

/// Consecutive responses with the same result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseSpan {
    /// `None`: no address in the response.
    pub address: Option<IpAddr>,
    pub first: Stamp,
    pub last: Stamp,
    /// Text of its first response.
    pub said: &'static str,
}

#[derive(Debug, Default)]
pub struct Names {
    holders: BTreeMap<String, Vec<NameHolder>>,
    /// Current and past networks of a container.
    networks: BTreeMap<ContainerId, BTreeSet<String>>,
    responses: BTreeMap<(String, Observer), VecDeque<ResponseSpan>>,
    arrived: VecDeque<(String, Observer)>,
}

impl Names {
    /// Records the names of a container: its own, its short id and its aliases, each alone and with the network's name
    /// appended, as Docker's DNS server resolves them.
    pub(in crate::engine::world) fn inspected(&mut self, info: &ContainerInfo, at: Stamp) {
        let since = info.started_at.unwrap_or(at);
        if info.networks.is_empty() {
            self.record_holder(&info.name, None, since, &info.id);
        }
        for network in &info.networks {
            self.networks.entry(info.id.clone()).or_default().insert(network.network.clone());
            let own = [info.name.as_str(), info.id.short()];
            for name in own.into_iter().chain(network.aliases.iter().map(String::as_str)) {
                self.record_holder(name, Some(&network.network), since, &info.id);
                self.record_holder(&format!("{name}.{}", network.network), Some(&network.network), since, &info.id);
            }
        }
    }

    /// Records the new name of a renamed container; it stays a past holder of the old one.
    pub(in crate::engine::world) fn renamed(&mut self, id: &ContainerId, name: &str, at: Stamp) {
        for network in self.networks.get(id).cloned().unwrap_or_default() {
            self.record_holder(name, Some(&network), at, id);
        }
    }

    fn record_holder(&mut self, name: &str, network: Option<&str>, since: Stamp, id: &ContainerId) {
        let holders = self.holders.entry(name.to_ascii_lowercase()).or_default();
        let same = |holder: &&mut NameHolder| holder.container == *id && holder.network.as_deref() == network;
        match holders.iter_mut().find(same) {
            Some(known) => known.since = known.since.min(since),
            None => {
                holders.push(NameHolder { container: id.clone(), network: network.map(str::to_owned), since });
                holders.sort_by(|a, b| (a.since, &a.container).cmp(&(b.since, &b.container)));
            }
        }
    }

    /// Current and past holders of a name.
    #[must_use]
    pub fn holders(&self, name: &str) -> &[NameHolder] {
        self.holders.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether the container is or was on this network.
    #[must_use]
    pub fn was_on(&self, id: &ContainerId, network: &str) -> bool {
        self.networks.get(id).is_some_and(|networks| networks.contains(network))
    }

    /// Whether two containers have or had a network in common.
    #[must_use]
    pub fn shared_network(&self, one: &ContainerId, other: &ContainerId) -> bool {
        let networks = |id| self.networks.get(id);
        networks(one).zip(networks(other)).is_some_and(|(one, other)| !one.is_disjoint(other))
    }

    /// Whether this observer can reach that container by the name. Docker resolves names per network; an observer with
    /// unknown networks can reach every container.
    #[must_use]
    pub fn can_mean(&self, observer: &ContainerId, name: &str, container: &ContainerId) -> bool {
        let Some(networks) = self.networks.get(observer) else { return true };
        self.holders(name)
            .iter()
            .filter(|holder| holder.container == *container)
            .any(|holder| holder.network.as_ref().is_none_or(|network| networks.contains(network)))
    }

    /// Records a response; returns whether it began a span.
    pub(in crate::engine::world) fn record_response(
        &mut self,
        name: &str,
        observer: Observer,
        at: Stamp,
        answer: &DnsResponse,
    ) -> bool {
        let address = match answer {
            DnsResponse::Addresses(addresses) => addresses.first().copied(),
            DnsResponse::NoData | DnsResponse::NoName | DnsResponse::Failed { .. } | DnsResponse::Silent => None,
        };
        let key = (name.to_owned(), observer);
        if !self.responses.contains_key(&key) {
            self.arrived.push_back(key.clone());
            if self.arrived.len() > KEYS_CAP
                && let Some(oldest) = self.arrived.pop_front()
            {
                self.responses.remove(&oldest);
            }
        }
        let spans = self.responses.entry(key).or_default();
        if let Some(latest) = spans.back_mut().filter(|latest| latest.address == address) {
            latest.last = latest.last.max(at);
            return false;
        }
        spans.push_back(ResponseSpan { address, first: at, last: at, said: response_text(answer) });
        if spans.len() > SPANS_CAP {
            spans.pop_front();
        }
        true
    }

    /// The responses for a name, by observer.
    pub fn said(&self, name: &str) -> impl Iterator<Item = (&Observer, &VecDeque<ResponseSpan>)> {
        let first = Observer { container: ContainerId(String::new()), monitor: false };
        let from = self.responses.range((name.to_owned(), first)..);
        let of_name = from.take_while(move |((other, _), _)| other == name);
        of_name.map(|((_, observer), spans)| (observer, spans))
    }

    /// When an observer first got an address for the name again after a refusal, at or after an instant.
    #[must_use]
    pub fn back(&self, name: &str, from: Stamp) -> Option<Stamp> {
        let returns = self.said(name).flat_map(|(_, spans)| {
            let pairs = spans.iter().zip(spans.iter().skip(1));
            let back = pairs.filter(|(before, after)| before.address.is_none() && after.address.is_some());
            back.map(|(_, after)| after.first)
        });
        returns.filter(|first| *first >= from).min()
    }

    /// When any observer last got an address for the name, before an instant.
    #[must_use]
    pub fn last_given(&self, name: &str, before: Stamp) -> Option<Stamp> {
        let given = self.said(name).flat_map(|(_, spans)| spans).filter(|span| span.address.is_some());
        given.filter(|span| span.first <= before).map(|span| span.last.min(before)).max()
    }

    /// Every current and past name of a container.
    pub fn of<'a>(&'a self, id: &'a ContainerId) -> impl Iterator<Item = &'a str> {
        let is_held = |holders: &[NameHolder]| holders.iter().any(|holder| holder.container == *id);
        self.holders.iter().filter(move |(_, holders)| is_held(holders)).map(|(name, _)| name.as_str())
    }

    /// Removes an evicted container.
    pub(in crate::engine::world) fn evict(&mut self, id: &ContainerId) {
        for holders in self.holders.values_mut() {
            holders.retain(|holder| holder.container != *id);
        }
        self.holders.retain(|_, holders| !holders.is_empty());
        self.networks.remove(id);
    }
}

impl World {
    /// Whether the name matters on this host: a container holds or held it, or an environment declares it as an
    /// endpoint.
    #[must_use]
    pub fn is_name_of_interest(&self, name: &str) -> bool {
        let endpoints = || self.containers.all().flat_map(|container| &container.info.endpoints);
        !self.names.holders(name).is_empty() || endpoints().any(|endpoint| endpoint.host.eq_ignore_ascii_case(name))
    }

    /// The last holder of a name at an instant. Networks of the client take precedence: on another network the same
    /// name may belong to another container.
    #[must_use]
    pub fn last_holder(&self, name: &str, client: &ContainerId, at: Stamp) -> Option<ContainerId> {
        let shared = |holder: &NameHolder| {
            let network = holder.network.as_ref();
            network.is_some_and(|network| self.names.was_on(client, network))
        };
        let holders = self.names.holders(name).iter().filter(|holder| holder.since <= at);
        let last =
            holders.max_by_key(|holder| (shared(holder), self.held_until(holder, at), holder.since, &holder.container));
        last.map(|holder| holder.container.clone())
    }

    /// Until when a holder had its name, as known at an instant; the maximum while it still has it.
    fn held_until(&self, holder: &NameHolder, at: Stamp) -> Stamp {
        if let Some(termination) = self.terminations.current(&holder.container, at) {
            return termination.down().unwrap_or(termination.since());
        }
        let Some(container) = self.containers.get(&holder.container) else { return Stamp(0) };
        // Replaced by a successor, which ended its termination.
        if let Some(down) = container.down.filter(|down| *down <= at) {
            return down;
        }
        let network = holder.network.as_deref();
        if let Some(outage) =
            network.and_then(|network| self.interfaces.outages.of_network(&container.info.id, network, at, at))
        {
            return outage.since();
        }
        let ran = container.info.running || self.terminations.of_container(&holder.container).next().is_some();
        if ran { Stamp(i64::MAX) } else { Stamp(0) }
    }

    /// The outage that detached the container or the client from the network on which the client resolves the name.
    #[must_use]
    pub fn cut_off(&self, name: &str, container: &ContainerId, client: &ContainerId, at: Stamp) -> Option<&Outage> {
        let networks = self.names.holders(name).iter().filter(|holder| holder.container == *container);
        let networks: Vec<&String> = networks
            .filter_map(|holder| holder.network.as_ref())
            .filter(|network| self.names.was_on(client, network))
            .collect();
        [container, client].into_iter().find_map(|id| {
            let until = at.plus(DETACH_DELAY);
            networks.iter().find_map(|network| self.interfaces.outages.of_network(id, network, at, until))
        })
    }
}

fn response_text(answer: &DnsResponse) -> &'static str {
    match answer {
        DnsResponse::Addresses(_) => "an address",
        DnsResponse::NoData => "no address",
        DnsResponse::NoName => "NXDOMAIN",
        DnsResponse::Failed { .. } => "an error of the DNS server",
        DnsResponse::Silent => "no response",
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{KEYS_CAP, Names, Observer};
    use crate::model::event::DnsResponse;
    use crate::model::ids::ContainerId;
    use crate::model::time::Stamp;

    fn observer(name: &str) -> Observer {
        Observer { container: ContainerId(name.to_owned()), monitor: false }
    }

    fn given() -> DnsResponse {
        DnsResponse::Addresses(vec![IpAddr::V4(Ipv4Addr::new(172, 28, 0, 2))])
    }

    #[test]
    fn reports_return_only_for_an_observer_that_was_refused() {
        let mut names = Names::default();
        for (client, at, answer) in
            [("a", 1, given()), ("b", 2, given()), ("a", 5, DnsResponse::NoName), ("b", 6, given()), ("a", 9, given())]
        {
            names.record_response("core", observer(client), Stamp(at), &answer);
        }
        assert_eq!(names.back("core", Stamp(5)), Some(Stamp(9)), "b was never refused");
        assert_eq!(names.back("core", Stamp(10)), None);
        assert_eq!(names.last_given("core", Stamp(5)), Some(Stamp(5)), "b got it before and after");
        assert_eq!(names.said("cor").count(), 0);
    }

    #[test]
    fn evicts_the_oldest_name_when_an_observer_queries_many() {
        let mut names = Names::default();
        for index in 0..=KEYS_CAP {
            names.record_response(&format!("n{index}"), observer("a"), Stamp(1), &given());
        }
        assert_eq!(names.said("n0").count(), 0);
        assert_eq!(names.said("n1").count(), 1);
    }
}
