//! Search for the incident that explains an error: ranks the incidents of a journal or a recording.
//!
//! It changes no verdict: an incident that the engine did not find is not found here.

pub mod search;
pub mod when;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use crate::model::ids::IncidentId;
use crate::model::incident::{Affected, Condition, Confidence, HttpxClass, Incident, Party, State, name_of};
use crate::model::story::Story;
use crate::model::time::{Nanos, Stamp};
use crate::story;
use crate::text::{party, span};
use crate::wire::log_line;
use when::Window;

/// How far before the requested time a fact may lie: a log line comes after its error, and a helper that retries logs
/// the last attempt's.
const BEFORE: Nanos = Nanos::from_secs(60);
/// How far after it: a log line's clock may be read early or truncated.
const AFTER: Nanos = Nanos::from_secs(2);
/// Without a requested time, the latest incident is the closest to this instant.
const END_OF_TIME: Stamp = Stamp(i64::MAX);
/// Assumed duration of a condition without an end.
const LASTING: Nanos = Nanos::from_secs(3_600);

/// The search. `None` matches everything.
#[derive(Clone, Debug, Default)]
pub struct SearchQuery {
    pub at: Option<Window>,
    pub client: Option<String>,
    pub server: Option<String>,
    /// One of these classes.
    pub error: Option<ErrorName>,
}

/// An error as a client names it, and the httpx classes that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorName {
    pub name: String,
    pub classes: Vec<HttpxClass>,
}

impl From<HttpxClass> for ErrorName {
    fn from(class: HttpxClass) -> Self {
        Self { name: name_of(&class), classes: vec![class] }
    }
}

impl FromStr for ErrorName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match log_line::classes_of(text) {
            Some(classes) => Ok(Self { name: text.to_owned(), classes: classes.to_vec() }),
            None => Err(format!(
                "{text:?} is no error of a known client: write a class of httpx (ReadError …), or a name of requests, \
                 urllib3, aiohttp, http.client, Node, Go or curl; docs/stories.md lists them"
            )),
        }
    }
}

/// The last revision of every incident, and every story.
#[derive(Debug, Default)]
pub struct IncidentIndex {
    incidents: BTreeMap<IncidentId, Incident>,
    stories: Vec<Story>,
}

impl IncidentIndex {
    pub fn put(&mut self, incident: Incident) {
        self.incidents.insert(incident.id.clone(), incident);
    }

    pub fn put_story(&mut self, story: Story) {
        self.stories.push(story);
    }

    /// Incidents that were not withdrawn.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.values().filter(|incident| incident.state != State::Withdrawn)
    }

    /// The first and the last moment.
    #[must_use]
    pub fn span(&self) -> Option<(Stamp, Stamp)> {
        let moments = || self.incidents().map(|incident| incident.moment.at.0);
        moments().min().zip(moments().max())
    }
}

/// An incident that matches, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Match<'a> {
    pub incident: &'a Incident,
    pub reasons: Vec<String>,
    rank: Rank,
}

/// What a match is based on, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum MatchedBy {
    Connection,
    Moment,
    Condition,
}

type Rank = (MatchedBy, Nanos, Reverse<Confidence>, Reverse<Stamp>);

/// The match of one incident, if it is one.
#[must_use]
pub fn match_one<'a>(incident: &'a Incident, query: &SearchQuery) -> Option<Match<'a>> {
    match_incident(incident, query)
}

/// All matches, the best first.
#[must_use]
pub fn rank<'a>(index: &'a IncidentIndex, query: &SearchQuery) -> Vec<Match<'a>> {
    let mut matches: Vec<_> = index.incidents().filter_map(|incident| match_incident(incident, query)).collect();
    matches.sort_by(|one, other| one.rank.cmp(&other.rank).then_with(|| one.incident.id.cmp(&other.incident.id)));
    matches
}

/// The stories of the requests that these incidents broke, limited to the requested client, by their beginning.
#[must_use]
pub fn stories<'a>(index: &'a IncidentIndex, matches: &[Match<'_>], query: &SearchQuery) -> Vec<&'a Story> {
    let matching: BTreeSet<&IncidentId> = matches.iter().map(|found| &found.incident.id).collect();
    let of_client = |story: &Story| query.client.as_ref().is_none_or(|client| story::is_of(story, client));
    let is_wanted = |story: &&Story| of_client(story) && story.incidents().any(|id| matching.contains(id));
    let mut wanted: Vec<&Story> = index.stories.iter().filter(is_wanted).collect();
    wanted.sort_by(|one, other| (one.begun_at, &one.id).cmp(&(other.begun_at, &other.id)));
    wanted
}

fn match_incident<'a>(incident: &'a Incident, query: &SearchQuery) -> Option<Match<'a>> {
    let subject = &incident.subject;
    let is_subject = query.server.as_ref().is_some_and(|name| {
        [&subject.container, &subject.service].into_iter().flatten().any(|own| own.eq_ignore_ascii_case(name))
    });
    let entries: Vec<&Affected> =
        incident.affected.iter().filter(|entry| matches_query(entry, query, is_subject)).collect();
    let by_connection = query.client.is_some() || query.error.is_some();
    // Of unlisted connections, only the classes are known.
    let unlisted = incident.affected_total > incident.affected.len() as u64
        && query.client.is_none()
        && query
            .error
            .as_ref()
            .is_none_or(|error| error.classes.iter().any(|class| incident.affected_by_class.contains_key(class)))
        && (query.server.is_none() || is_subject);
    let matches = if by_connection {
        !entries.is_empty() || unlisted
    } else {
        query.server.is_none() || is_subject || !entries.is_empty()
    };
    if !matches {
        return None;
    }
    let (matched_by, distance, mut reasons) = match query.at {
        // The latest incident comes first, whatever its confidence.
        None => (MatchedBy::Connection, END_OF_TIME.since(latest(incident, &entries)), described(&entries)),
        Some(window) => in_time(incident, &entries, window, !by_connection || unlisted)?,
    };
    if is_subject {
        reasons.push("it is the subject".to_owned());
    }
    reasons.push(format!("the verdict is {}", name_of(&incident.cause.confidence)));
    let rank = (matched_by, distance, Reverse(incident.cause.confidence), Reverse(incident.moment.at.0));
    Some(Match { incident, reasons, rank })
}

fn latest(incident: &Incident, entries: &[&Affected]) -> Stamp {
    entries.iter().map(|entry| entry.at.0).fold(incident.moment.at.0, Stamp::max)
}

fn matches_query(entry: &Affected, query: &SearchQuery, is_subject: bool) -> bool {
    let error = &entry.client_error;
    query.client.as_ref().is_none_or(|name| is_named(&entry.client, name))
        && (is_subject || query.server.as_ref().is_none_or(|name| is_named(&entry.server, name)))
        && query.error.as_ref().is_none_or(|wanted| {
            wanted.classes.iter().any(|class| error.httpx == *class || error.also_possible == Some(*class))
        })
}

/// By container, by service, or (without a container) by command or by the label in metrics.
fn is_named(party: &Party, name: &str) -> bool {
    let command = party.comm.as_deref().filter(|_| party.container.is_none());
    party.names().chain(command).any(|own| own.eq_ignore_ascii_case(name))
}

/// The distance of an instant from the window; `None`: outside the search range.
fn distance(at: Stamp, window: Window) -> Option<Nanos> {
    if at < window.from {
        Some(window.from.since(at)).filter(|distance| *distance <= BEFORE)
    } else if at >= window.until {
        Some(at.since(window.until)).filter(|distance| *distance <= AFTER)
    } else {
        Some(Nanos(0))
    }
}

fn in_time(
    incident: &Incident,
    entries: &[&Affected],
    window: Window,
    without_connection: bool,
) -> Option<(MatchedBy, Nanos, Vec<String>)> {
    let closest = entries
        .iter()
        .filter_map(|entry| distance(entry.at.0, window).map(|distance| (distance, *entry)))
        .min_by_key(|(distance, _)| *distance);
    if let Some((distance, entry)) = closest {
        let reason = format!("{} {}", described(&[entry]).join(", "), relation(entry.at.0, window));
        return Some((MatchedBy::Connection, distance, vec![reason]));
    }
    if !without_connection {
        return None;
    }
    if let Some(distance) = distance(incident.moment.at.0, window) {
        let reason = format!("its moment is {}", relation(incident.moment.at.0, window));
        return Some((MatchedBy::Moment, distance, vec![reason]));
    }
    let condition = incident.condition?;
    if condition_at(condition, window) {
        let reason = format!("{} lasted at that time", name_of(&condition.kind));
        return Some((MatchedBy::Condition, window.from.since(condition.since.0), vec![reason]));
    }
    None
}

/// Did the condition last at some instant of the window?
fn condition_at(condition: Condition, window: Window) -> bool {
    let until = condition.until.map_or(condition.since.0.plus(LASTING), |until| until.0);
    condition.since.0 < window.until && window.from < until
}

fn relation(at: Stamp, window: Window) -> String {
    if at < window.from {
        format!("{} before that time", span(window.from.since(at)))
    } else if at >= window.until {
        format!("{} after that time", span(at.since(window.until)))
    } else {
        "at that time".to_owned()
    }
}

/// Describes the first of these connections.
fn described(entries: &[&Affected]) -> Vec<String> {
    let Some(first) = entries.first() else { return Vec::new() };
    let class = name_of(&first.client_error.httpx);
    let mut text = format!("{} got {class} from {}", party(&first.client), party(&first.server));
    if entries.len() > 1 {
        text.push_str(&format!(" (and {} more)", entries.len() - 1));
    }
    vec![text]
}

#[cfg(test)]
mod tests;
