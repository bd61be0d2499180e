//! Which names are asked for, from inside which container, and when. Pure: time is handed in.
//!
//! A container that has `*_ENDPOINT`s asks for their hosts; on each network of the user's own one container asks for the
//! names of all others. What happens to a container makes its names be asked for at once and often, for as long as
//! Docker takes to change them; everything else is asked for slowly. A name that is gone is forwarded upstream by
//! Docker, so nothing here may ever ask without a bound.
//!
//! Bounds: [`PAIRS`] names with their askers (endpoints first; what is beyond is not asked for), [`UNDER_WAY`] questions
//! at a time and one for each pair, [`A_SECOND`] questions a second (what is beyond waits for the next second).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::model::event::{ContainerInfo, DockerAction, Fact, NameAnswer};
use crate::model::ids::{ContainerId, NetnsId, Pid};
use crate::model::scope;
use crate::model::settings::Scope;

pub const PAIRS: usize = 512;
pub const UNDER_WAY: usize = 32;
pub const A_SECOND: u32 = 100;
/// Names of one container: a service has its own, the container's, and perhaps an alias or two.
const NAMES: usize = 4;
/// Slow enough for a name server that forwards what it does not know.
const STEADY: Duration = Duration::from_secs(10);
const STEADY_GONE: Duration = Duration::from_secs(30);
/// A burst, in milliseconds after what happened. A name goes 53 to 101 ms after the death of its container, and comes
/// back some 140 ms after it; a stop takes its grace first, and tells its end by events of its own.
const BURST: [u64; 20] =
    [0, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 240, 280, 340, 420, 540, 700, 1_000, 1_400, 2_000];
/// Networks without an embedded name server.
const WITHOUT: [&str; 3] = ["bridge", "host", "none"];
/// Names that end so hickory-resolver answers by itself, whatever a name server would say (RFC 6761, RFC 7686; of `arpa`
/// the loopback addresses): to ask for them would be to tell what nobody said.
const ANSWERED_UNASKED: [&str; 4] = ["localhost", "invalid", "onion", "arpa"];

/// Who asks for what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    pub observer: ContainerId,
    pub name: String,
}

/// Where an observer lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub pid: Pid,
    pub netns: NetnsId,
}

#[derive(Debug)]
struct Check {
    due: Instant,
    /// When the burst began, and its next step.
    burst: Option<(Instant, usize)>,
    under_way: bool,
    told: Option<NameAnswer>,
}

#[derive(Debug)]
pub struct Plan {
    scope: Scope,
    /// Bounded by the containers that Docker has.
    known: BTreeMap<ContainerId, ContainerInfo>,
    pairs: BTreeMap<Pair, Check>,
    /// The second that is counted, and the questions asked in it.
    second: Option<(Instant, u32)>,
    /// Containers have changed since the pairs were made.
    stale: bool,
}

impl Plan {
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self { scope, known: BTreeMap::new(), pairs: BTreeMap::new(), second: None, stale: false }
    }

    /// Takes what a fact says of containers; [`Plan::pair_up`] follows.
    pub fn heed(&mut self, fact: &Fact, now: Instant) {
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
                        names.extend([plain(old_name), plain(&event.name)].into_iter().flatten());
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
                self.pair_up(now);
                for (_, check) in self.pairs.iter_mut().filter(|(pair, _)| names.contains(&pair.name)) {
                    check.burst = Some((now, 1));
                    check.due = now;
                }
            }
            _ => {}
        }
    }

    /// When the next question is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let waiting = self.pairs.values().filter(|check| !check.under_way).map(|check| check.due).min()?;
        if self.pairs.values().filter(|check| check.under_way).count() >= UNDER_WAY {
            return None;
        }
        match self.second {
            Some((began, asked)) if asked >= A_SECOND => Some(waiting.max(began + Duration::from_secs(1))),
            Some(_) | None => Some(waiting),
        }
    }

    /// The questions to ask now, each with the place to ask it from.
    pub fn take(&mut self, now: Instant) -> Vec<(Pair, Place)> {
        let fresh = self.second.filter(|(began, _)| now.duration_since(*began) < Duration::from_secs(1));
        let (began, mut asked) = fresh.unwrap_or((now, 0));
        let mut under_way = self.pairs.values().filter(|check| check.under_way).count();
        let mut due: Vec<&Pair> =
            self.pairs.iter().filter(|(_, check)| !check.under_way && check.due <= now).map(|(pair, _)| pair).collect();
        due.sort_by_key(|pair| self.pairs.get(*pair).map(|check| (check.burst.is_none(), check.due)));
        let mut taken = Vec::new();
        for pair in due.into_iter().cloned().collect::<Vec<_>>() {
            if under_way >= UNDER_WAY || asked >= A_SECOND {
                break;
            }
            let place = self.known.get(&pair.observer).and_then(place);
            let Some(check) = self.pairs.get_mut(&pair) else { continue };
            match place {
                Some(place) => {
                    check.under_way = true;
                    (under_way, asked) = (under_way + 1, asked + 1);
                    taken.push((pair, place));
                }
                None => check.due = now + STEADY_GONE,
            }
        }
        self.second = Some((began, asked));
        taken
    }

    /// A question was answered, or, with `None`, could not be asked. Returns the answer where it is news.
    pub fn done(&mut self, pair: &Pair, answer: Option<NameAnswer>, now: Instant) -> Option<NameAnswer> {
        let check = self.pairs.get_mut(pair)?;
        check.under_way = false;
        let news = answer.filter(|answer| check.told.as_ref() != Some(answer));
        if let Some(news) = &news {
            let first = check.told.is_none();
            check.told = Some(news.clone());
            if !first {
                // What was waited for has come.
                check.burst = None;
            }
        }
        let step = check.burst.and_then(|(began, step)| {
            let later =
                BURST.iter().enumerate().skip(step).map(|(step, after)| (step, began + Duration::from_millis(*after)));
            later.into_iter().find(|(_, at)| *at > now).map(|(step, at)| (began, step, at))
        });
        match step {
            Some((began, step, at)) => {
                check.burst = Some((began, step + 1));
                check.due = at;
            }
            None => {
                check.burst = None;
                let answers = matches!(check.told, Some(NameAnswer::Addresses(_)));
                check.due = now + if answers { STEADY } else { STEADY_GONE };
            }
        }
        news
    }

    /// Who asks for what, from what is known now. What stays keeps its schedule.
    pub fn pair_up(&mut self, now: Instant) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let wanted = self.wanted();
        self.pairs.retain(|pair, _| wanted.contains(pair));
        for pair in wanted {
            self.pairs.entry(pair).or_insert(Check { due: now, burst: None, under_way: false, told: None });
        }
    }

    fn wanted(&self) -> BTreeSet<Pair> {
        let mut wanted: BTreeSet<Pair> = BTreeSet::new();
        let mut observers: Vec<&ContainerInfo> = self.known.values().filter(|info| place(info).is_some()).collect();
        observers.retain(|info| user_networks(info).next().is_some());
        // Whoever depends on something asks for more than the others.
        observers.sort_by_key(|info| (info.endpoints.is_empty(), &info.id));
        let owners: BTreeMap<String, &ContainerInfo> =
            self.known.values().flat_map(|info| names_of(info).map(move |name| (name, info))).collect();
        let mut on: BTreeMap<&str, Vec<&ContainerInfo>> = BTreeMap::new();
        // All on a network are told the same: one of them asks.
        let mut asked: BTreeSet<(&str, String)> = BTreeSet::new();
        for observer in observers {
            for name in observer.endpoints.iter().filter_map(|endpoint| plain(&endpoint.host)) {
                if self.is_in_scope(observer, owners.get(&name).copied()) && wanted.len() < PAIRS {
                    asked.extend(user_networks(observer).map(|network| (network, name.clone())));
                    wanted.insert(Pair { observer: observer.id.clone(), name });
                }
            }
            for network in user_networks(observer) {
                on.entry(network).or_default().push(observer);
            }
        }
        for other in self.known.values() {
            for network in user_networks(other) {
                let asks = |info: &&&ContainerInfo| info.id != other.id && self.is_in_scope(info, Some(other));
                let Some(observer) = on.get(network).and_then(|all| all.iter().find(asks)) else { continue };
                for name in names_of(other) {
                    if wanted.len() < PAIRS && asked.insert((network, name.clone())) {
                        wanted.insert(Pair { observer: observer.id.clone(), name });
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

fn place(info: &ContainerInfo) -> Option<Place> {
    let (pid, netns) = (info.pid?, info.netns?);
    (info.running && !info.host_network).then_some(Place { pid, netns })
}

fn user_networks(info: &ContainerInfo) -> impl Iterator<Item = &str> {
    info.networks.iter().map(|network| network.network.as_str()).filter(|network| !WITHOUT.contains(network))
}

/// The names to look up: the service's first, then the container's own, then further aliases. The short id is left out,
/// because no client connects by it, and so is everything beyond [`NAMES`].
fn names_of(info: &ContainerInfo) -> impl Iterator<Item = String> + use<> {
    let is_id = |name: &String| info.id.0.starts_with(name);
    let mut names: Vec<String> = info.dns_names().filter_map(plain).filter(|name| !is_id(name)).collect();
    let (service, own) = (info.service.as_deref().and_then(plain), plain(&info.name));
    let rank = |name: &String| (service.as_ref() != Some(name), own.as_ref() != Some(name));
    names.sort_by(|a, b| (rank(a), a).cmp(&(rank(b), b)));
    names.dedup();
    names.truncate(NAMES);
    names.into_iter()
}

/// A name as it is asked for; an address needs no question.
fn plain(name: &str) -> Option<String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let address = name.parse::<IpAddr>().is_ok();
    let last = name.rsplit('.').next().unwrap_or_default();
    (!last.is_empty() && !address && !ANSWERED_UNASKED.contains(&last)).then_some(name)
}

#[cfg(test)]
mod tests;
