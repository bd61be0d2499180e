//! Which attempts belong to one request: by the client's process, by the pair, and by the times at which the client's
//! policy asks again.

use std::collections::BTreeMap;

use crate::model::incident::Detail;
use crate::model::settings::Waits;
use crate::model::time::{Nanos, Stamp};

use super::pairs::Pairs;
use super::{Attempt, Client};

/// A client asks a little before its time: the kernel's fact comes after the exception's cause by some of it.
const EARLY: Nanos = Nanos::from_millis(200);
/// And later: the exception takes 17 ms at most, 270 ms on a loaded machine; the name has to be looked up again.
const LATE: Nanos = Nanos::from_secs(2);
/// The client's own timeout; GAIA's is 300 s.
const PATIENCE: Nanos = Nanos::from_secs(300);

/// The attempts of one request so far.
#[derive(Clone, Debug)]
pub struct Chain {
    pub client: Client,
    pub server: String,
    pub attempts: Vec<Attempt>,
    pub fallback: Option<Attempt>,
    /// Another way to put attempts together fits as well.
    pub unsure: bool,
}

/// Puts attempts together, the earliest first.
pub fn link(mut attempts: Vec<Attempt>, pairs: &Pairs, waits: &Waits) -> Vec<Chain> {
    attempts.sort_by(|one, other| (one.at, &one.broken.client).cmp(&(other.at, &other.broken.client)));
    let mut chains: Vec<Chain> = Vec::new();
    // Chains that may go on, by client: what has ended, or waited too long, is not looked at again.
    let mut open: BTreeMap<Client, Vec<usize>> = BTreeMap::new();
    for attempt in attempts {
        let waits = waits.of(&attempt.broken.client.name);
        let primary = pairs.primary_of(&attempt.server);
        let own = open.entry(attempt.broken.client.clone()).or_default();
        own.retain(|place| chains.get(*place).is_some_and(|chain| chain.goes_on(attempt.at.0, waits)));
        let fits = |place: &usize| Some((chains.get(*place)?.fit(&attempt, primary.as_deref(), waits)?, *place));
        let mut fitting: Vec<(Fit, usize)> = own.iter().filter_map(fits).collect();
        fitting.sort();
        let several = fitting.len() > 1;
        if several {
            for (_, place) in &fitting {
                if let Some(chain) = chains.get_mut(*place) {
                    chain.unsure = true;
                }
            }
        }
        match fitting.first().and_then(|(fit, place)| Some((*fit, chains.get_mut(*place)?))) {
            Some((fit, chain)) => {
                chain.unsure |= fit.early_fallback;
                if fit.fallback { chain.fallback = Some(attempt) } else { chain.attempts.push(attempt) }
            }
            None => {
                own.push(chains.len());
                chains.push(Chain {
                    client: attempt.broken.client.clone(),
                    server: attempt.server.clone(),
                    attempts: vec![attempt],
                    fallback: None,
                    unsure: false,
                });
            }
        }
    }
    chains
}

/// How well an attempt follows a chain, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    /// The fallback was asked before every attempt at the primary had been seen to fail.
    early_fallback: bool,
    /// How far from the time at which the client would have begun it.
    distance: Nanos,
    fallback: bool,
}

impl Chain {
    /// May a further attempt belong to it?
    fn goes_on(&self, now: Stamp, waits: &[Nanos]) -> bool {
        let Some(last) = self.attempts.last() else { return false };
        let pause = waits.iter().copied().max().unwrap_or_default();
        let until = last.at.0.plus(pause).plus(PATIENCE).plus(LATE);
        self.fallback.is_none() && last.broken.retried && now <= until
    }

    fn fit(&self, next: &Attempt, primary: Option<&str>, waits: &[Nanos]) -> Option<Fit> {
        let last = self.attempts.last()?;
        if self.fallback.is_some() || self.client != next.broken.client || !last.broken.retried {
            return None;
        }
        if self.server == next.server {
            let wait = *waits.get(self.attempts.len() - 1)?;
            let distance = distance(last.at.0.plus(wait), next)?;
            return Some(Fit { early_fallback: false, distance, fallback: false });
        }
        if primary != Some(self.server.as_str()) {
            return None;
        }
        let distance = distance(last.at.0, next)?;
        let early_fallback = self.attempts.len() <= waits.len();
        // An earlier attempt may have got an HTTP status, which breaks nothing: it still has to be near.
        if early_fallback && next.broken.begun.is_none() && !is_quick(next) {
            return None;
        }
        Some(Fit { early_fallback, distance, fallback: true })
    }
}

/// How far an attempt began from its time; `None` if it is none of that time.
fn distance(due: Stamp, next: &Attempt) -> Option<Nanos> {
    if let Some(begun) = next.broken.begun {
        let after = begun.0.since(due);
        return (after >= Nanos(-EARLY.0) && after <= LATE).then_some(Nanos(after.0.abs()));
    }
    // When it began was not seen: it can have taken no longer than such a failure takes.
    let after = next.at.0.since(due);
    let longest = Nanos(takes(next).0.saturating_add(LATE.0));
    (after >= Nanos(-EARLY.0) && after <= longest).then_some(Nanos(after.0.abs()))
}

fn is_quick(next: &Attempt) -> bool {
    takes(next) <= Nanos::from_secs(4)
}

/// The longest that such a failure takes from the connect on.
fn takes(attempt: &Attempt) -> Nanos {
    match attempt.broken.detail {
        // One way and back.
        Some(Detail::Refused) => Nanos::from_millis(500),
        // Three ARP requests, a second each (net.ipv4.neigh.default.mcast_solicit).
        Some(Detail::Unreachable) => Nanos::from_secs(4),
        // Two tries of five seconds at each name server, for two address families.
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
        | None => PATIENCE,
    }
}
