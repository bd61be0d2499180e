//! Which incident explains the error that somebody saw? Ranks what a journal or a recording holds.
//!
//! It reads incidents and judges none: what the engine did not find is not found here.

pub mod when;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::ids::IncidentId;
use crate::model::incident::{Affected, Confidence, HttpxClass, Incident, Party, State, name_of};
use crate::model::settings::Waits;
use crate::model::time::{Nanos, Stamp};
use crate::sinks::terminal::text::{party, span};
use crate::story::{self, Story};
use when::Window;

/// How far before the time asked for a fact may lie: a log line comes after the error that it tells of, and helpers
/// that retry log the last attempt's.
const BEFORE: Nanos = Nanos::from_secs(60);
/// How far after it: clocks of log lines are read early or cut off.
const AFTER: Nanos = Nanos::from_secs(2);
/// What the latest is the closest to.
const EVER: Stamp = Stamp(i64::MAX);
/// How long a condition without an end is taken to last.
const LASTING: Nanos = Nanos::from_secs(3_600);

/// What is asked. `None` fits everything.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub at: Option<Window>,
    pub client: Option<String>,
    pub server: Option<String>,
    pub error: Option<HttpxClass>,
}

/// The last revision of every incident, as they come in.
#[derive(Debug, Default)]
pub struct Shelf(BTreeMap<IncidentId, Incident>);

impl Shelf {
    pub fn put(&mut self, incident: Incident) {
        self.0.insert(incident.id.clone(), incident);
    }

    /// Those that stand.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.0.values().filter(|incident| incident.state != State::Withdrawn)
    }

    /// The first and the last moment.
    #[must_use]
    pub fn span(&self) -> Option<(Stamp, Stamp)> {
        let moments = || self.incidents().map(|incident| incident.moment.at.0);
        moments().min().zip(moments().max())
    }
}

/// An incident that fits, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit<'a> {
    pub incident: &'a Incident,
    pub reasons: Vec<String>,
    place: Place,
}

/// What it was found by, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ground {
    Connection,
    Moment,
    Condition,
}

type Place = (Ground, Nanos, Reverse<Confidence>, Reverse<Stamp>);

/// Everything that fits, the best first.
#[must_use]
pub fn rank<'a>(shelf: &'a Shelf, query: &Query) -> Vec<Fit<'a>> {
    let mut fits: Vec<_> = shelf.incidents().filter_map(|incident| fit(incident, query)).collect();
    fits.sort_by(|one, other| one.place.cmp(&other.place).then_with(|| one.incident.id.cmp(&other.incident.id)));
    fits
}

/// The stories of the requests that these incidents broke, as far as they are the client's that is asked for.
#[must_use]
pub fn stories(shelf: &Shelf, fits: &[Fit<'_>], query: &Query, waits: &Waits) -> Vec<Story> {
    let fitting: BTreeSet<&IncidentId> = fits.iter().map(|fit| &fit.incident.id).collect();
    let asked_for = |story: &Story| query.client.as_ref().is_none_or(|client| story.is_of(client));
    // An attempt may be of an incident that does not fit by itself: the whole shelf is put together first.
    let all = story::of(shelf.incidents(), waits).into_iter();
    all.filter(|story| asked_for(story) && story.incidents().any(|id| fitting.contains(id))).collect()
}

fn fit<'a>(incident: &'a Incident, query: &Query) -> Option<Fit<'a>> {
    let subject = &incident.subject;
    let is_subject = query.server.as_ref().is_some_and(|name| {
        [&subject.container, &subject.service].into_iter().flatten().any(|own| own.eq_ignore_ascii_case(name))
    });
    let entries: Vec<&Affected> =
        incident.affected.iter().filter(|entry| asked_for(entry, query, is_subject)).collect();
    let by_connection = query.client.is_some() || query.error.is_some();
    // Of more than the list holds, only the classes are known.
    let unlisted = incident.affected_total > incident.affected.len() as u64
        && query.client.is_none()
        && query.error.is_none_or(|class| incident.affected_by_class.contains_key(&class))
        && (query.server.is_none() || is_subject);
    let fits = if by_connection {
        !entries.is_empty() || unlisted
    } else {
        query.server.is_none() || is_subject || !entries.is_empty()
    };
    if !fits {
        return None;
    }
    let (ground, distance, mut reasons) = match query.at {
        // The latest is what is asked for, however sure its verdict is.
        None => (Ground::Connection, EVER.since(latest(incident, &entries)), described(&entries)),
        Some(window) => in_time(incident, &entries, window, !by_connection || unlisted)?,
    };
    if is_subject {
        reasons.push("it is the one that failed".to_owned());
    }
    reasons.push(format!("the verdict is {}", name_of(&incident.cause.confidence)));
    let place = (ground, distance, Reverse(incident.cause.confidence), Reverse(incident.moment.at.0));
    Some(Fit { incident, reasons, place })
}

fn latest(incident: &Incident, entries: &[&Affected]) -> Stamp {
    entries.iter().map(|entry| entry.at.0).fold(incident.moment.at.0, Stamp::max)
}

fn asked_for(entry: &Affected, query: &Query, is_subject: bool) -> bool {
    let error = &entry.client_error;
    query.client.as_ref().is_none_or(|name| is_named(&entry.client, name))
        && (is_subject || query.server.as_ref().is_none_or(|name| is_named(&entry.server, name)))
        && query.error.is_none_or(|class| error.httpx == class || error.or == Some(class))
}

/// By container, by service, or (without a container) by command or as metrics call it.
fn is_named(party: &Party, name: &str) -> bool {
    let command = party.comm.as_deref().filter(|_| party.container.is_none());
    party.names().chain(command).any(|own| own.eq_ignore_ascii_case(name))
}

/// How far an instant lies from the window; `None` beyond what is looked at.
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
) -> Option<(Ground, Nanos, Vec<String>)> {
    let closest = entries
        .iter()
        .filter_map(|entry| distance(entry.at.0, window).map(|distance| (distance, *entry)))
        .min_by_key(|(distance, _)| *distance);
    if let Some((distance, entry)) = closest {
        let reason = format!("{} {}", described(&[entry]).join(", "), relation(entry.at.0, window));
        return Some((Ground::Connection, distance, vec![reason]));
    }
    if !without_connection {
        return None;
    }
    if let Some(distance) = distance(incident.moment.at.0, window) {
        let reason = format!("its moment lies {}", relation(incident.moment.at.0, window));
        return Some((Ground::Moment, distance, vec![reason]));
    }
    let condition = incident.condition?;
    let until = condition.until.map_or(condition.since.0.plus(LASTING), |until| until.0);
    if condition.since.0 < window.until && window.from < until {
        let reason = format!("{} lasted over that time", name_of(&condition.kind));
        return Some((Ground::Condition, window.from.since(condition.since.0), vec![reason]));
    }
    None
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

/// What the first of these connections was.
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
mod tests {
    use super::when::{When, Window};
    use super::{Query, Shelf, rank};
    use crate::model::ids::IncidentId;
    use crate::model::incident::{Condition, ConditionKind, Confidence, HttpxClass, Incident, State};
    use crate::model::time::{Nanos, Stamp, Utc};
    use crate::sinks::sample;

    fn at(after: Nanos) -> Option<Window> {
        Some(Window { from: sample::MOMENT.plus(after), until: sample::MOMENT.plus(after).plus(Nanos(1)) })
    }

    fn later(id: &str, by: Nanos) -> Incident {
        let mut incident = sample::killed();
        incident.id = IncidentId(id.to_owned());
        incident.moment.at = Utc(incident.moment.at.0.plus(by));
        incident.affected.iter_mut().for_each(|entry| entry.at = Utc(entry.at.0.plus(by)));
        if let Some(condition) = &mut incident.condition {
            condition.since = incident.moment.at;
            condition.until = Some(Utc(incident.moment.at.0.plus(Nanos::from_secs(5))));
        }
        incident
    }

    fn shelf(incidents: impl IntoIterator<Item = Incident>) -> Shelf {
        let mut shelf = Shelf::default();
        incidents.into_iter().for_each(|incident| shelf.put(incident));
        shelf
    }

    fn ids(shelf: &Shelf, query: &Query) -> Vec<String> {
        rank(shelf, query).iter().map(|fit| fit.incident.id.0.clone()).collect()
    }

    #[test]
    fn the_closest_broken_connection_comes_first() {
        let shelf = shelf([later("a", Nanos(0)), later("b", Nanos::from_secs(10)), later("c", Nanos::from_secs(300))]);
        assert_eq!(ids(&shelf, &Query { at: at(Nanos::from_secs(11)), ..Query::default() }), ["b", "a"]);
        assert_eq!(ids(&shelf, &Query { at: at(Nanos::from_millis(5)), ..Query::default() }), ["a"]);
        let fits = rank(&shelf, &Query { at: at(Nanos::from_millis(5)), ..Query::default() });
        assert!(
            fits[0].reasons[0].contains("gaia-web got ReadError from gaia-core-candidate"),
            "{:?}",
            fits[0].reasons
        );
        assert!(fits[0].reasons[0].contains("0.687 ms before that time"), "{:?}", fits[0].reasons);
    }

    #[test]
    fn without_a_time_the_newest_comes_first() {
        let shelf = shelf([later("a", Nanos(0)), later("b", Nanos::from_secs(10))]);
        assert_eq!(ids(&shelf, &Query::default()), ["b", "a"]);
    }

    #[test]
    fn without_a_time_an_old_certainty_does_not_hide_what_happened_last() {
        let mut doubtful = later("b", Nanos::from_secs(10));
        doubtful.cause.confidence = Confidence::Possible;
        let mut lasting = later("c", Nanos::from_secs(5));
        lasting.affected[0].at = Utc(lasting.affected[0].at.0.plus(Nanos::from_secs(60)));
        let shelf = shelf([later("a", Nanos(0)), doubtful, lasting]);
        assert_eq!(
            ids(&shelf, &Query { server: Some("gaia-core-candidate".into()), ..Query::default() }),
            ["c", "b", "a"]
        );
    }

    #[test]
    fn an_end_without_a_container_is_found_as_metrics_call_it() {
        let mut outside = later("a", Nanos(0));
        for entry in &mut outside.affected {
            (entry.client.container, entry.client.service, entry.client.pid) = (None, None, None);
        }
        let shelf = shelf([outside]);
        let client = |name: &str| Query { client: Some(name.to_owned()), ..Query::default() };
        assert_eq!(ids(&shelf, &client("external")), ["a"]);
        assert!(ids(&shelf, &client("gaia-web")).is_empty());
    }

    #[test]
    fn names_and_classes_must_belong_to_one_connection() {
        let shelf = shelf([later("a", Nanos(0))]);
        let query = |client: &str, server: &str, error| Query {
            at: None,
            client: Some(client.to_owned()),
            server: Some(server.to_owned()),
            error: Some(error),
        };
        assert_eq!(ids(&shelf, &query("gaia-web", "Gaia-Core-Candidate", HttpxClass::ReadError)), ["a"]);
        assert!(ids(&shelf, &query("gaia-mcp", "gaia-core-candidate", HttpxClass::ReadError)).is_empty());
        assert!(ids(&shelf, &query("gaia-web", "gaia-core", HttpxClass::ReadError)).is_empty());
        assert!(ids(&shelf, &query("gaia-web", "gaia-core-candidate", HttpxClass::ConnectError)).is_empty());
    }

    #[test]
    fn a_death_that_hurt_nobody_is_found_by_its_moment_and_by_what_lasted() {
        let mut quiet = later("a", Nanos(0));
        quiet.affected.clear();
        quiet.affected_total = 0;
        quiet.affected_by_class.clear();
        quiet.condition = Some(Condition {
            kind: ConditionKind::ContainerDown,
            since: quiet.moment.at,
            until: Some(Utc(quiet.moment.at.0.plus(Nanos::from_secs(600)))),
        });
        let shelf = shelf([quiet]);
        let near = Query { at: at(Nanos::from_secs(2)), ..Query::default() };
        assert!(rank(&shelf, &near)[0].reasons[0].contains("its moment lies 2.000 s before"));
        let within = Query { at: at(Nanos::from_secs(500)), ..Query::default() };
        assert!(rank(&shelf, &within)[0].reasons[0].contains("container_down lasted"));
        assert!(rank(&shelf, &Query { at: at(Nanos::from_secs(601)), ..Query::default() }).is_empty());
        assert!(rank(&shelf, &Query { client: Some("gaia-web".into()), ..near }).is_empty());
    }

    #[test]
    fn an_error_beyond_the_listed_ones_is_found_by_its_class() {
        let mut crowd = later("a", Nanos(0));
        crowd.affected_total = 300;
        crowd.affected_by_class.insert(HttpxClass::ConnectError, 298);
        let shelf = shelf([crowd]);
        let query = Query { at: at(Nanos::from_secs(1)), error: Some(HttpxClass::ConnectError), ..Query::default() };
        assert_eq!(ids(&shelf, &query), ["a"]);
    }

    #[test]
    fn only_the_last_revision_counts_and_a_withdrawn_one_not_at_all() {
        let mut withdrawn = later("a", Nanos(0));
        withdrawn.state = State::Withdrawn;
        let shelf = shelf([later("a", Nanos(0)), withdrawn]);
        assert!(ids(&shelf, &Query::default()).is_empty());
        assert_eq!(shelf.span(), None);
    }

    #[test]
    fn the_second_that_was_typed_covers_its_nanoseconds() {
        let when: When = "14:02:11".parse().unwrap();
        let window = when.window(Stamp(sample::MOMENT.0 + 1_000_000_000));
        let shelf = shelf([later("a", Nanos(0))]);
        let fits = rank(&shelf, &Query { at: Some(window), ..Query::default() });
        assert!(fits[0].reasons[0].ends_with("at that time"), "{:?}", fits[0].reasons);
    }
}
