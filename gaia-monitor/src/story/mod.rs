//! The whole story of a request: its attempts, the fallback, and what its caller saw in the end.
//!
//! Incidents tell what broke and why; one request breaks several times while its client asks again. Here those breaks
//! are put together by client process, by the pair of primary and candidate, and by the times at which the client's
//! policy asks again. PURE: a fold over incidents, used by `explain` and by the summary. It judges no incident anew, and
//! an attempt that went well, or got an HTTP status, is in none: what it cannot know, it says.

mod chains;
pub mod ledger;
mod pairs;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::engine::report::timeline::BEGAN;
use crate::model::ids::IncidentId;
use crate::model::incident::{Affected, Detail, HttpxClass, Incident, Party, TimelineSource};
use crate::model::settings::Waits;
use crate::model::time::Utc;
use pairs::Pairs;

/// The value of every story's `schema` field.
pub const SCHEMA: &str = "gaia-monitor.story/1";

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Story {
    /// Always `gaia-monitor.story/1`.
    pub schema: &'static str,
    /// The client's service, else its container, else its process.
    pub client: String,
    /// Whom it asked.
    pub server: String,
    /// Who stands by for that server, if that is known.
    pub fallback: Option<String>,
    /// `possible`: requests of one process at the same time, or an attempt that was not seen, could be told together in
    /// another way.
    pub confidence: Sureness,
    /// The attempts that failed, in order.
    pub attempts: Vec<Attempt>,
    /// The attempt at the fallback, if it failed.
    pub fallback_attempt: Option<Attempt>,
    pub ending: Ending,
    /// The error that reached the caller; null where an answer may have.
    pub caller_saw: Option<HttpxClass>,
    /// The fallback's error, which nobody was told.
    pub swallowed: Option<HttpxClass>,
    /// All of it in a sentence or two.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sureness {
    Possible,
    Likely,
}

/// How a request ended for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// A class that the client's policy does not retry.
    NotRetried,
    /// Every attempt failed, and the fallback's as well.
    FallbackFailed,
    /// Every attempt failed, and there is no fallback.
    GivenUp,
    /// Every attempt failed; of the one at the fallback no failure was seen.
    FallenBack,
    /// The client asks again, and no further failure was seen.
    AskedAgain,
}

/// One attempt that failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attempt {
    pub at: Utc,
    pub server: String,
    pub class: HttpxClass,
    /// The incident that explains it.
    pub incident: IncidentId,
    /// The primary's incident whose failover this was part of.
    pub failover_of: Option<IncidentId>,
    #[serde(skip)]
    broken: Broken,
}

/// What else is known of it.
#[derive(Clone, Debug, PartialEq)]
struct Broken {
    client: Client,
    port: Option<u16>,
    /// The request's first byte, where it was seen.
    begun: Option<Utc>,
    detail: Option<Detail>,
    retried: bool,
}

/// A process that asks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Client {
    name: String,
    container: Option<String>,
    pid: Option<u32>,
}

/// The stories of all these incidents, in order of their first attempt.
#[must_use]
pub fn of<'a>(incidents: impl IntoIterator<Item = &'a Incident>, waits: &Waits) -> Vec<Story> {
    let mut pairs = Pairs::default();
    let mut attempts = Vec::new();
    let mut subjects = BTreeMap::new();
    for incident in incidents {
        pairs.learn(incident, &mut subjects);
        attempts.extend(attempts_of(incident));
    }
    tell(attempts, &pairs, waits)
}

fn tell(mut attempts: Vec<Attempt>, pairs: &Pairs, waits: &Waits) -> Vec<Story> {
    for attempt in &mut attempts {
        attempt.server = pairs.service_of(std::mem::take(&mut attempt.server));
    }
    // A connection may stand in the incidents of both, the server between and the one behind it.
    let mut known = BTreeSet::new();
    attempts.retain(|attempt| known.insert((attempt.at, attempt.broken.client.clone(), attempt.broken.port)));
    let mut stories: Vec<Story> =
        chains::link(attempts, pairs, waits).into_iter().map(|chain| chain.tell(pairs, waits)).collect();
    stories.sort_by(|one, other| one.began().cmp(&other.began()).then_with(|| one.client.cmp(&other.client)));
    stories
}

/// The entries of an incident that cost their client something.
fn attempts_of(incident: &Incident) -> impl Iterator<Item = Attempt> {
    incident.affected.iter().filter(|entry| entry.client_error.httpx != HttpxClass::None).map(|entry| Attempt {
        at: entry.at,
        server: asked(entry),
        class: entry.client_error.httpx,
        incident: incident.id.clone(),
        failover_of: incident.failover_of.clone(),
        broken: Broken {
            client: Client {
                name: name_of(&entry.client),
                container: entry.client.container.clone(),
                pid: entry.client.pid.map(|pid| pid.0),
            },
            port: entry.client.port,
            begun: begun(incident, entry),
            detail: entry.client_error.detail,
            retried: entry.client_error.retried,
        },
    })
}

/// Whom the client asked: the server between, where the one that failed stands behind it.
fn asked(entry: &Affected) -> String {
    let between = entry.via.as_ref().and_then(|hop| hop.container.clone());
    between.unwrap_or_else(|| name_of(&entry.server))
}

/// What policies call an end of a connection.
fn name_of(party: &Party) -> String {
    let named = party.service.clone().or_else(|| party.container.clone());
    named.unwrap_or_else(|| crate::sinks::terminal::text::party(party))
}

/// The timeline says when a request began, of the first connections of an incident.
fn begun(incident: &Incident, entry: &Affected) -> Option<Utc> {
    let who = format!(":{}{BEGAN}", entry.client.port?);
    let of_client = |text: &str| entry.client.container.as_ref().is_none_or(|container| text.starts_with(container));
    let lines = incident.timeline.iter().filter(|line| line.source == TimelineSource::Http);
    lines.filter(|line| line.text.contains(&who) && of_client(&line.text)).map(|line| line.at).next_back()
}

impl Story {
    fn began(&self) -> Option<Utc> {
        self.attempts.first().map(|attempt| attempt.at)
    }

    /// Is it a request of this container or service?
    #[must_use]
    pub fn is_of(&self, client: &str) -> bool {
        let container = self.attempts.first().and_then(|attempt| attempt.broken.client.container.as_deref());
        self.client.eq_ignore_ascii_case(client) || container.is_some_and(|name| name.eq_ignore_ascii_case(client))
    }

    /// The incidents that it is told from.
    pub fn incidents(&self) -> impl Iterator<Item = &IncidentId> {
        self.attempts.iter().chain(&self.fallback_attempt).map(|attempt| &attempt.incident)
    }
}

/// Stories that read the same, with how often each was told: the most frequent first, then the earliest.
#[must_use]
pub fn alike(stories: &[Story]) -> Vec<(u64, &Story)> {
    let mut groups: Vec<(u64, &Story)> = Vec::new();
    let mut place: BTreeMap<&str, usize> = BTreeMap::new();
    for story in stories {
        match place.get(story.text.as_str()).and_then(|place| groups.get_mut(*place)) {
            Some((count, _)) => *count += 1,
            None => {
                place.insert(&story.text, groups.len());
                groups.push((1, story));
            }
        }
    }
    groups.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    groups
}

#[cfg(test)]
mod tests;
