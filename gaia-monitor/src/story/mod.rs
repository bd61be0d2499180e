//! Stories for people: one sentence for what happened to a request, and equal ones grouped.
//!
//! The engine follows the requests (`engine/stories`); this only words what the line says. The sentence contains no
//! instants, so that requests with the same story have the same sentence.

use std::collections::BTreeMap;

use crate::model::incident::{Confidence, Party, name_of};
use crate::model::story::{Attempt, AttemptOutcome, CallerSaw, FallbackState, NotAsked, Story};
use crate::text;

/// The story in one or two sentences.
#[must_use]
pub fn sentence(story: &Story) -> String {
    let client = label(&story.client);
    let mut text = format!("{client} asked {}", attempts(&story.attempts));
    if let Some(reason) = story.fallback.reason.filter(|_| story.fallback.state == FallbackState::NotAsked) {
        text.push_str(not_asked(reason));
    }
    text.push_str(". ");
    text.push_str(&caller(story));
    match story.confidence {
        Confidence::Certain => {}
        Confidence::Likely => text.push_str(" (likely)"),
        Confidence::Possible => text.push_str(" (possible: its attempts can be linked in another way)"),
    }
    text.push('.');
    text
}

/// `core 3 times (ConnectError, ConnectError, 503), then core-candidate: 200`.
fn attempts(all: &[Attempt]) -> String {
    let mut runs: Vec<(String, Vec<String>)> = Vec::new();
    for attempt in all {
        let server = label(&attempt.server);
        match runs.last_mut().filter(|(last, _)| *last == server) {
            Some((_, outcomes)) => outcomes.push(outcome(attempt)),
            None => runs.push((server, vec![outcome(attempt)])),
        }
    }
    let run = |(server, outcomes): &(String, Vec<String>)| match outcomes.as_slice() {
        [one] => format!("{server}: {one}"),
        several => format!("{server} {} times ({})", several.len(), several.join(", ")),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(", then ")
}

fn outcome(attempt: &Attempt) -> String {
    match (attempt.outcome, attempt.status, &attempt.client_error) {
        (AttemptOutcome::Response, Some(status), _) => status.to_string(),
        (AttemptOutcome::Response, None, _) => "a response".to_owned(),
        (AttemptOutcome::Failed, _, Some(error)) => match name_of(&error.httpx).as_str() {
            "none" => "cancelled".to_owned(),
            class => class.to_owned(),
        },
        (AttemptOutcome::Failed, _, None) => "failed".to_owned(),
    }
}

fn not_asked(reason: NotAsked) -> &'static str {
    match reason {
        NotAsked::ClassNotRetried => "; its policy does not retry that error, so the fallback was not asked",
        NotAsked::StatusNotRetried => "; its policy does not ask the fallback after that status",
        NotAsked::Maintenance => "; maintenance mode was active, so the fallback was not asked",
        NotAsked::SucceededBefore => "",
        NotAsked::Unknown => "; the fallback was not asked",
    }
}

fn caller(story: &Story) -> String {
    let CallerSaw { status, httpx, attempt, swallowed } = &story.caller_saw;
    let server = |index: &usize| story.attempts.get(*index).map(|attempt| label(&attempt.server)).unwrap_or_default();
    let seen = match (status, httpx) {
        (Some(status), _) => format!("Its caller saw {status} of {}", server(attempt)),
        (None, Some(class)) => format!("Its caller saw {} of {}", name_of(class), server(attempt)),
        (None, None) => return "The client ended the request itself".to_owned(),
    };
    // What the fallback's attempt got is the news; errors that a retry made good are not.
    let hidden = swallowed.iter().filter(|index| *index > attempt).filter_map(|index| story.attempts.get(*index));
    let hidden: Vec<String> =
        hidden.map(|attempt| format!("{}'s {} was swallowed", label(&attempt.server), outcome(attempt))).collect();
    if hidden.is_empty() { seen } else { format!("{seen}; {}", hidden.join(", ")) }
}

/// The service label, without a container the process or address.
fn label(party: &Party) -> String {
    party.service_label().map_or_else(|| text::party(party), str::to_owned)
}

/// Whether it is a request of this container or service.
#[must_use]
pub fn is_of(story: &Story, client: &str) -> bool {
    let command = story.client.comm.as_deref().filter(|_| story.client.container.is_none());
    story.client.names().chain(command).any(|own| own.eq_ignore_ascii_case(client))
}

/// The sentences of many stories with their counts.
#[derive(Clone, Debug, Default)]
pub struct Sentences {
    /// Count, number of the first story, and whether its caller got an error.
    groups: BTreeMap<String, (u64, u64, bool)>,
    stories: u64,
    left_out: u64,
}

/// Different sentences kept; further ones are only counted.
const SENTENCES: usize = 1_000;

/// Equal stories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    pub count: u64,
    pub sentence: &'a str,
    pub caller_got_error: bool,
}

impl Sentences {
    pub fn add(&mut self, story: &Story) {
        self.stories += 1;
        let sentence = sentence(story);
        if let Some((count, ..)) = self.groups.get_mut(&sentence) {
            *count += 1;
        } else if self.groups.len() < SENTENCES {
            self.groups.insert(sentence, (1, self.stories, caller_got_error(story)));
        } else {
            self.left_out += 1;
        }
    }

    /// The most frequent first, then the earliest.
    #[must_use]
    pub fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(_, (count, first, _))| (std::cmp::Reverse(*count), *first));
        groups
            .into_iter()
            .map(|(sentence, (count, _, error))| Group { count: *count, sentence, caller_got_error: *error })
            .collect()
    }

    /// Stories that are in no group.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

/// The caller got an error, or a status of one.
#[must_use]
pub fn caller_got_error(story: &Story) -> bool {
    story.caller_saw.httpx.is_some() || story.caller_saw.status.is_some_and(|status| status >= 400)
}

#[cfg(test)]
mod tests;
