//! Stories: the attempts of one request, its fallback, and the error that its caller saw.
//!
//! An incident explains one failure; one request fails several times while its client retries. A story links these
//! failures by client process, by failover pair, and by the retry times of the client's policy. PURE: a fold over
//! incidents, used by `explain` and by the summary. It changes no verdict. No incident contains an attempt that succeeded
//! or got an HTTP status, so a story states what was not seen.

pub mod history;
mod link_attempts;
mod pairs;
mod sentences;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::model::ids::IncidentId;
use crate::model::incident::{Affected, Detail, HttpxClass, Incident, Party};
use crate::model::settings::Waits;
use crate::model::time::Utc;
use crate::text;
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
    /// The server of its attempts.
    pub server: String,
    /// The candidate of that server, if it is known.
    pub fallback: Option<String>,
    /// `possible`: parallel requests of one process, or an attempt that was not seen, allow other links.
    pub confidence: StoryConfidence,
    /// The attempts that failed, in order.
    pub attempts: Vec<Attempt>,
    /// The attempt at the fallback, if it failed.
    pub fallback_attempt: Option<Attempt>,
    pub ending: Ending,
    /// The error that reached the caller; null where a response may have.
    pub caller_saw: Option<HttpxClass>,
    /// The fallback's error, which did not reach the caller.
    pub swallowed: Option<HttpxClass>,
    /// The story in one or two sentences.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoryConfidence {
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
    /// Every attempt failed; no failure was seen at the fallback.
    FallenBack,
    /// The client retries, and no further failure was seen.
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

/// Details that are not published.
#[derive(Clone, Debug, PartialEq)]
struct Broken {
    client: Client,
    port: Option<u16>,
    /// The request's first byte, where it was seen.
    begun: Option<Utc>,
    detail: Option<Detail>,
    retried: bool,
}

/// A client process.
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
    build(attempts, &pairs, waits)
}

fn build(mut attempts: Vec<Attempt>, pairs: &Pairs, waits: &Waits) -> Vec<Story> {
    for attempt in &mut attempts {
        attempt.server = pairs.service_of(std::mem::take(&mut attempt.server));
    }
    // The incidents of a proxy and of the server behind it may both list a connection.
    let mut known = BTreeSet::new();
    attempts.retain(|attempt| known.insert((attempt.at, attempt.broken.client.clone(), attempt.broken.port)));
    let mut stories: Vec<Story> =
        link_attempts::link(attempts, pairs, waits).into_iter().map(|chain| chain.into_story(pairs, waits)).collect();
    stories.sort_by(|one, other| one.began().cmp(&other.began()).then_with(|| one.client.cmp(&other.client)));
    stories
}

/// The affected entries in which the client got an error.
fn attempts_of(incident: &Incident) -> impl Iterator<Item = Attempt> {
    incident.affected.iter().filter(|entry| entry.client_error.httpx != HttpxClass::None).map(|entry| Attempt {
        at: entry.at,
        server: server_of(entry),
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
            begun: entry.begun_at,
            detail: entry.client_error.detail,
            retried: entry.client_error.retried,
        },
    })
}

/// The server that the client connected to: the proxy, where the one that failed is behind it.
fn server_of(entry: &Affected) -> String {
    let proxy = entry.via.as_ref().and_then(|hop| hop.container.clone());
    proxy.unwrap_or_else(|| name_of(&entry.server))
}

/// The service label, without a container the process.
fn name_of(party: &Party) -> String {
    party.service_label().map_or_else(|| text::party(party), str::to_owned)
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

    /// The incidents of its attempts.
    pub fn incidents(&self) -> impl Iterator<Item = &IncidentId> {
        self.attempts.iter().chain(&self.fallback_attempt).map(|attempt| &attempt.incident)
    }
}

/// Groups stories with the same text, with their count: the most frequent first, then the earliest.
#[must_use]
pub fn group(stories: &[Story]) -> Vec<(u64, &Story)> {
    let mut groups: Vec<(u64, &Story)> = Vec::new();
    let mut index: BTreeMap<&str, usize> = BTreeMap::new();
    for story in stories {
        match index.get(story.text.as_str()).and_then(|index| groups.get_mut(*index)) {
            Some((count, _)) => *count += 1,
            None => {
                index.insert(&story.text, groups.len());
                groups.push((1, story));
            }
        }
    }
    groups.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    groups
}

#[cfg(test)]
mod tests;
