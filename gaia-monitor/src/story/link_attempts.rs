//! Links attempts to requests: by client process, by failover pair, and by the retry times of the client's policy.

use std::collections::BTreeMap;

use crate::model::incident::Detail;
use crate::model::settings::Waits;
use crate::model::time::{Nanos, Stamp};

use super::pairs::Pairs;
use super::{Attempt, Client};

/// A retry may come this much before its time: the kernel's fact comes after the exception's cause.
const EARLY: Nanos = Nanos::from_millis(200);
/// And this much after it: the exception takes 17 ms at most, 270 ms on a loaded machine; the name is looked up again.
const LATE: Nanos = Nanos::from_secs(2);
/// The client's own timeout; GAIA's is 300 s.
const CLIENT_TIMEOUT: Nanos = Nanos::from_secs(300);

/// The attempts of one request so far.
#[derive(Clone, Debug)]
pub struct Chain {
    pub client: Client,
    pub server: String,
    pub attempts: Vec<Attempt>,
    pub fallback: Option<Attempt>,
    /// The attempts can be linked in another way, too.
    pub ambiguous: bool,
}

/// Links attempts, the earliest first.
pub fn link(mut attempts: Vec<Attempt>, pairs: &Pairs, waits: &Waits) -> Vec<Chain> {
    attempts.sort_by(|one, other| (one.at, &one.broken.client).cmp(&(other.at, &other.broken.client)));
    let mut chains: Vec<Chain> = Vec::new();
    // Chains that may continue, by client; ended and outdated ones are removed.
    let mut open: BTreeMap<Client, Vec<usize>> = BTreeMap::new();
    for attempt in attempts {
        let waits = waits.of(&attempt.broken.client.name);
        let primary = pairs.primary_of(&attempt.server);
        let own = open.entry(attempt.broken.client.clone()).or_default();
        own.retain(|index| chains.get(*index).is_some_and(|chain| chain.may_continue(attempt.at.0, waits)));
        let candidate = |index: &usize| Some((chains.get(*index)?.link(&attempt, primary.as_deref(), waits)?, *index));
        let mut links: Vec<(Link, usize)> = own.iter().filter_map(candidate).collect();
        links.sort();
        if links.len() > 1 {
            for (_, index) in &links {
                if let Some(chain) = chains.get_mut(*index) {
                    chain.ambiguous = true;
                }
            }
        }
        match links.first().and_then(|(link, index)| Some((*link, chains.get_mut(*index)?))) {
            Some((link, chain)) => {
                chain.ambiguous |= link.early_fallback;
                if link.fallback { chain.fallback = Some(attempt) } else { chain.attempts.push(attempt) }
            }
            None => {
                own.push(chains.len());
                chains.push(Chain {
                    client: attempt.broken.client.clone(),
                    server: attempt.server.clone(),
                    attempts: vec![attempt],
                    fallback: None,
                    ambiguous: false,
                });
            }
        }
    }
    chains
}

/// How well an attempt continues a chain, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    /// The fallback was requested before every attempt at the primary was seen to fail.
    early_fallback: bool,
    /// Distance from the time at which the client was due to begin it.
    distance: Nanos,
    fallback: bool,
}

impl Chain {
    /// May a further attempt belong to it?
    fn may_continue(&self, now: Stamp, waits: &[Nanos]) -> bool {
        let Some(last) = self.attempts.last() else { return false };
        let pause = waits.iter().copied().max().unwrap_or_default();
        let until = last.at.0.plus(pause).plus(CLIENT_TIMEOUT).plus(LATE);
        self.fallback.is_none() && last.broken.retried && now <= until
    }

    fn link(&self, next: &Attempt, primary: Option<&str>, waits: &[Nanos]) -> Option<Link> {
        let last = self.attempts.last()?;
        if self.fallback.is_some() || self.client != next.broken.client || !last.broken.retried {
            return None;
        }
        if self.server == next.server {
            let wait = *waits.get(self.attempts.len() - 1)?;
            let distance = distance(last.at.0.plus(wait), next)?;
            return Some(Link { early_fallback: false, distance, fallback: false });
        }
        if primary != Some(self.server.as_str()) {
            return None;
        }
        let distance = distance(last.at.0, next)?;
        let early_fallback = self.attempts.len() <= waits.len();
        // An earlier attempt may have got an HTTP status, which is no failure: this one has to be near in time.
        if early_fallback && next.broken.begun.is_none() && !is_quick(next) {
            return None;
        }
        Some(Link { early_fallback, distance, fallback: true })
    }
}

/// The distance of an attempt's start from its due time; `None`: it does not belong to that time.
fn distance(due: Stamp, next: &Attempt) -> Option<Nanos> {
    if let Some(begun) = next.broken.begun {
        let after = begun.0.since(due);
        return (after >= Nanos(-EARLY.0) && after <= LATE).then_some(Nanos(after.0.abs()));
    }
    // The start was not seen: it lies at most the duration of such a failure before the error.
    let after = next.at.0.since(due);
    let limit = Nanos(longest(next).0.saturating_add(LATE.0));
    (after >= Nanos(-EARLY.0) && after <= limit).then_some(Nanos(after.0.abs()))
}

fn is_quick(next: &Attempt) -> bool {
    longest(next) <= Nanos::from_secs(4)
}

/// The longest duration of such a failure, from the connect on.
fn longest(attempt: &Attempt) -> Nanos {
    match attempt.broken.detail {
        // One round trip.
        Some(Detail::Refused) => Nanos::from_millis(500),
        // Three ARP requests, a second each (net.ipv4.neigh.default.mcast_solicit).
        Some(Detail::Unreachable) => Nanos::from_secs(4),
        // Two tries of five seconds at each DNS server, for two address families.
        Some(Detail::Dns) => Nanos::from_secs(25),
        // Six retransmissions (net.ipv4.tcp_syn_retries).
        Some(Detail::SynTimeout) => Nanos::from_secs(130),
        Some(
            Detail::NoResponse
            | Detail::IncompleteBody
            | Detail::Malformed
            | Detail::Reset
            | Detail::ResetAfterFin
            | Detail::NoData
            | Detail::TimedOut,
        )
        | None => CLIENT_TIMEOUT,
    }
}
