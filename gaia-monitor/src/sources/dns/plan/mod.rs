//! Schedule of the monitor's own lookups: which name is queried, from inside which container, and when. Pure: time is a
//! parameter.
//!
//! A container with `*_ENDPOINT`s queries their hosts; on each user-defined network, one container queries the names of
//! all others. An event of a container starts a burst of queries for its names, as long as Docker may take to change them;
//! otherwise queries are rare. Docker forwards queries for removed names upstream, so every rate here is bounded.
//!
//! Bounds: [`QUERIES`] pairs of observer and name (endpoints first; the rest is not queried), [`IN_FLIGHT`] queries at a
//! time and one for each pair, [`PER_SECOND`] queries a second (the rest waits for the next second).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::model::event::{ContainerInfo, DnsResponse, DockerAction, Fact};
use crate::model::ids::{ContainerId, NetnsId, Pid};
use crate::model::scope;
use crate::model::settings::Scope;

pub const QUERIES: usize = 512;
pub const IN_FLIGHT: usize = 32;
pub const PER_SECOND: u32 = 100;
/// Names of one container: the service's, the container's, and one or two aliases.
const NAMES_PER_CONTAINER: usize = 4;
/// Interval of queries outside a burst, long enough for a server that forwards unknown names.
const STEADY: Duration = Duration::from_secs(10);
/// The same for a name without an address: Docker forwards its queries upstream.
const STEADY_GONE: Duration = Duration::from_secs(30);
/// The queries of a burst, in milliseconds after the event. Docker removes a name 53 to 101 ms after its container has
/// died, and restores it some 140 ms after a start; a stop has a grace period first, and its end causes further events.
const BURST: [u64; 20] =
    [0, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 240, 280, 340, 420, 540, 700, 1_000, 1_400, 2_000];
/// Networks without the embedded DNS server.
const NETWORKS_WITHOUT_DNS: [&str; 3] = ["bridge", "host", "none"];
/// Top-level domains that hickory-resolver resolves without a query (RFC 6761, RFC 7686; in `arpa` the loopback addresses).
/// The result would not be a response of the server.
const SPECIAL_USE: [&str; 4] = ["localhost", "invalid", "onion", "arpa"];

/// A name, and the container from inside which it is queried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlannedQuery {
    pub observer: ContainerId,
    pub name: String,
}

/// The network namespace of an observer, and a process to enter it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    pub pid: Pid,
    pub netns: NetnsId,
}

#[derive(Debug)]
struct Schedule {
    due: Instant,
    /// Start of the burst, and its next step.
    burst: Option<(Instant, usize)>,
    in_flight: bool,
    /// The response that was last reported.
    reported: Option<DnsResponse>,
}

#[derive(Debug)]
pub struct Plan {
    scope: Scope,
    /// Bounded by the containers that Docker has.
    known: BTreeMap<ContainerId, ContainerInfo>,
    queries: BTreeMap<PlannedQuery, Schedule>,
    /// Start of the current second, and the queries sent in it.
    window: Option<(Instant, u32)>,
    /// Containers have changed since `queries` was computed.
    stale: bool,
}

impl Plan {
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self { scope, known: BTreeMap::new(), queries: BTreeMap::new(), window: None, stale: false }
    }

    /// Updates the known containers. Call [`Plan::update_queries`] after the last fact of a burst.
    pub fn on_fact(&mut self, fact: &Fact, now: Instant) {
        match fact {
            Fact::ContainerSeen(seen) => {
                self.known.insert(seen.id.clone(), seen.as_ref().clone());
                self.stale = true;
            }
            Fact::Docker(event) => {
                let mut names: BTreeSet<String> =
                    self.known.get(&event.container).map(names_of).into_iter().flatten().collect();
                match &event.action {
                    DockerAction::Die { .. } => {
                        if let Some(known) = self.known.get_mut(&event.container) {
                            known.running = false;
                        }
                        self.stale = true;
                    }
                    DockerAction::Destroy => {
                        self.known.remove(&event.container);
                        self.stale = true;
                    }
                    DockerAction::Rename { old_name } => {
                        names.extend([queryable(old_name), queryable(&event.name)].into_iter().flatten());
                    }
                    DockerAction::Kill { .. }
                    | DockerAction::Stop
                    | DockerAction::Start
                    | DockerAction::NetworkConnect { .. }
                    | DockerAction::NetworkDisconnect { .. } => {}
                    DockerAction::Create
                    | DockerAction::Oom
                    | DockerAction::Pause
                    | DockerAction::Unpause
                    | DockerAction::HealthStatus { .. }
                    | DockerAction::Restart => return,
                }
                self.update_queries(now);
                for (_, schedule) in self.queries.iter_mut().filter(|(query, _)| names.contains(&query.name)) {
                    schedule.burst = Some((now, 1));
                    schedule.due = now;
                }
            }
            _ => {}
        }
    }

    /// When the next query is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let waiting =
            self.queries.values().filter(|schedule| !schedule.in_flight).map(|schedule| schedule.due).min()?;
        if self.queries.values().filter(|schedule| schedule.in_flight).count() >= IN_FLIGHT {
            return None;
        }
        match self.window {
            Some((began, sent)) if sent >= PER_SECOND => Some(waiting.max(began + Duration::from_secs(1))),
            Some(_) | None => Some(waiting),
        }
    }

    /// The queries to send now, each with the namespace to send it from.
    pub fn take_due(&mut self, now: Instant) -> Vec<(PlannedQuery, Location)> {
        let fresh = self.window.filter(|(began, _)| now.duration_since(*began) < Duration::from_secs(1));
        let (began, mut sent) = fresh.unwrap_or((now, 0));
        let mut in_flight = self.queries.values().filter(|schedule| schedule.in_flight).count();
        let mut due: Vec<&PlannedQuery> = self
            .queries
            .iter()
            .filter(|(_, schedule)| !schedule.in_flight && schedule.due <= now)
            .map(|(query, _)| query)
            .collect();
        due.sort_by_key(|query| self.queries.get(*query).map(|schedule| (schedule.burst.is_none(), schedule.due)));
        let mut taken = Vec::new();
        for query in due.into_iter().cloned().collect::<Vec<_>>() {
            if in_flight >= IN_FLIGHT || sent >= PER_SECOND {
                break;
            }
            let location = self.known.get(&query.observer).and_then(location);
            let Some(schedule) = self.queries.get_mut(&query) else { continue };
            match location {
                Some(location) => {
                    schedule.in_flight = true;
                    (in_flight, sent) = (in_flight + 1, sent + 1);
                    taken.push((query, location));
                }
                None => schedule.due = now + STEADY_GONE,
            }
        }
        self.window = Some((began, sent));
        taken
    }

    /// Records the response to a query; `None`: it could not be sent. Returns the response if it differs from the last one.
    pub fn complete(&mut self, query: &PlannedQuery, answer: Option<DnsResponse>, now: Instant) -> Option<DnsResponse> {
        let schedule = self.queries.get_mut(query)?;
        schedule.in_flight = false;
        let changed = answer.filter(|answer| schedule.reported.as_ref() != Some(answer));
        if let Some(changed) = &changed {
            let first = schedule.reported.is_none();
            schedule.reported = Some(changed.clone());
            if !first {
                // The change that the burst waits for.
                schedule.burst = None;
            }
        }
        let step = schedule.burst.and_then(|(began, step)| {
            let later =
                BURST.iter().enumerate().skip(step).map(|(step, after)| (step, began + Duration::from_millis(*after)));
            later.into_iter().find(|(_, at)| *at > now).map(|(step, at)| (began, step, at))
        });
        match step {
            Some((began, step, at)) => {
                schedule.burst = Some((began, step + 1));
                schedule.due = at;
            }
            None => {
                schedule.burst = None;
                let resolves = matches!(schedule.reported, Some(DnsResponse::Addresses(_)));
                schedule.due = now + if resolves { STEADY } else { STEADY_GONE };
            }
        }
        changed
    }

    /// Recomputes the set of queries from the known containers. A query that remains keeps its schedule.
    pub fn update_queries(&mut self, now: Instant) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let wanted = self.wanted();
        self.queries.retain(|query, _| wanted.contains(query));
        for query in wanted {
            self.queries.entry(query).or_insert(Schedule { due: now, burst: None, in_flight: false, reported: None });
        }
    }

    fn wanted(&self) -> BTreeSet<PlannedQuery> {
        let mut wanted: BTreeSet<PlannedQuery> = BTreeSet::new();
        let mut observers: Vec<&ContainerInfo> = self.known.values().filter(|info| location(info).is_some()).collect();
        observers.retain(|info| user_networks(info).next().is_some());
        // A container with endpoints has more queries than the others, so it comes first.
        observers.sort_by_key(|info| (info.endpoints.is_empty(), &info.id));
        let owners: BTreeMap<String, &ContainerInfo> =
            self.known.values().flat_map(|info| names_of(info).map(move |name| (name, info))).collect();
        let mut on: BTreeMap<&str, Vec<&ContainerInfo>> = BTreeMap::new();
        // The server gives the same response to all containers on a network: one of them queries.
        let mut covered: BTreeSet<(&str, String)> = BTreeSet::new();
        for observer in observers {
            for name in observer.endpoints.iter().filter_map(|endpoint| queryable(&endpoint.host)) {
                if self.is_in_scope(observer, owners.get(&name).copied()) && wanted.len() < QUERIES {
                    covered.extend(user_networks(observer).map(|network| (network, name.clone())));
                    wanted.insert(PlannedQuery { observer: observer.id.clone(), name });
                }
            }
            for network in user_networks(observer) {
                on.entry(network).or_default().push(observer);
            }
        }
        for other in self.known.values() {
            for network in user_networks(other) {
                let observes = |info: &&&ContainerInfo| info.id != other.id && self.is_in_scope(info, Some(other));
                let Some(observer) = on.get(network).and_then(|all| all.iter().find(observes)) else { continue };
                for name in names_of(other) {
                    if wanted.len() < QUERIES && covered.insert((network, name.clone())) {
                        wanted.insert(PlannedQuery { observer: observer.id.clone(), name });
                    }
                }
            }
        }
        wanted
    }

    fn is_in_scope(&self, observer: &ContainerInfo, owner: Option<&ContainerInfo>) -> bool {
        !scope::is_limited(&self.scope)
            || [Some(observer), owner].into_iter().flatten().any(|info| scope::contains(&self.scope, info))
    }
}

fn location(info: &ContainerInfo) -> Option<Location> {
    let (pid, netns) = (info.pid?, info.netns?);
    (info.running && !info.host_network).then_some(Location { pid, netns })
}

fn user_networks(info: &ContainerInfo) -> impl Iterator<Item = &str> {
    info.networks
        .iter()
        .map(|network| network.network.as_str())
        .filter(|network| !NETWORKS_WITHOUT_DNS.contains(network))
}

/// The names to look up: the service's first, then the container's own, then further aliases. The short id is left out,
/// because no client connects by it, and so is everything beyond [`NAMES_PER_CONTAINER`].
fn names_of(info: &ContainerInfo) -> impl Iterator<Item = String> + use<> {
    let is_id = |name: &String| info.id.0.starts_with(name);
    let mut names: Vec<String> = info.dns_names().filter_map(queryable).filter(|name| !is_id(name)).collect();
    let (service, own) = (info.service.as_deref().and_then(queryable), queryable(&info.name));
    let rank = |name: &String| (service.as_ref() != Some(name), own.as_ref() != Some(name));
    names.sort_by(|a, b| (rank(a), a).cmp(&(rank(b), b)));
    names.dedup();
    names.truncate(NAMES_PER_CONTAINER);
    names.into_iter()
}

/// The name in the form of a query. `None` for addresses and special-use names.
fn queryable(name: &str) -> Option<String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let address = name.parse::<IpAddr>().is_ok();
    let top_level = name.rsplit('.').next().unwrap_or_default();
    (!top_level.is_empty() && !address && !SPECIAL_USE.contains(&top_level)).then_some(name)
}

#[cfg(test)]
mod tests;
