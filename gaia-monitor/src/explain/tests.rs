//! Ranking of hand-made incidents.

use super::when::{When, Window};
use super::{ErrorName, IncidentIndex, SearchQuery, rank};
use crate::model::ids::IncidentId;
use crate::model::incident::{Condition, ConditionKind, Confidence, HttpxClass, Incident, State};
use crate::model::time::{Nanos, Stamp, Utc};
use crate::output::test_fixtures;

fn at(after: Nanos) -> Option<Window> {
    Some(Window { from: test_fixtures::MOMENT.plus(after), until: test_fixtures::MOMENT.plus(after).plus(Nanos(1)) })
}

fn later(id: &str, by: Nanos) -> Incident {
    let mut incident = test_fixtures::killed();
    incident.id = IncidentId(id.to_owned());
    incident.moment.at = Utc(incident.moment.at.0.plus(by));
    incident.affected.iter_mut().for_each(|entry| entry.at = Utc(entry.at.0.plus(by)));
    if let Some(condition) = &mut incident.condition {
        condition.since = incident.moment.at;
        condition.until = Some(Utc(incident.moment.at.0.plus(Nanos::from_secs(5))));
    }
    incident
}

fn index(incidents: impl IntoIterator<Item = Incident>) -> IncidentIndex {
    let mut index = IncidentIndex::default();
    incidents.into_iter().for_each(|incident| index.put(incident));
    index
}

fn ids(index: &IncidentIndex, query: &SearchQuery) -> Vec<String> {
    rank(index, query).iter().map(|found| found.incident.id.0.clone()).collect()
}

#[test]
fn ranks_the_closest_broken_connection_first() {
    let index = index([later("a", Nanos(0)), later("b", Nanos::from_secs(10)), later("c", Nanos::from_secs(300))]);
    assert_eq!(ids(&index, &SearchQuery { at: at(Nanos::from_secs(11)), ..SearchQuery::default() }), ["b", "a"]);
    assert_eq!(ids(&index, &SearchQuery { at: at(Nanos::from_millis(5)), ..SearchQuery::default() }), ["a"]);
    let matches = rank(&index, &SearchQuery { at: at(Nanos::from_millis(5)), ..SearchQuery::default() });
    assert!(
        matches[0].reasons[0].contains("gaia-web got ReadError from gaia-core-candidate"),
        "{:?}",
        matches[0].reasons
    );
    assert!(matches[0].reasons[0].contains("0.687 ms before that time"), "{:?}", matches[0].reasons);
}

#[test]
fn ranks_the_newest_first_without_a_time() {
    let index = index([later("a", Nanos(0)), later("b", Nanos::from_secs(10))]);
    assert_eq!(ids(&index, &SearchQuery::default()), ["b", "a"]);
}

#[test]
fn ranks_by_time_before_confidence_without_a_time() {
    let mut doubtful = later("b", Nanos::from_secs(10));
    doubtful.cause.confidence = Confidence::Possible;
    let mut lasting = later("c", Nanos::from_secs(5));
    lasting.affected[0].at = Utc(lasting.affected[0].at.0.plus(Nanos::from_secs(60)));
    let index = index([later("a", Nanos(0)), doubtful, lasting]);
    assert_eq!(
        ids(&index, &SearchQuery { server: Some("gaia-core-candidate".into()), ..SearchQuery::default() }),
        ["c", "b", "a"]
    );
}

#[test]
fn finds_a_party_without_a_container_by_its_metrics_label() {
    let mut outside = later("a", Nanos(0));
    for entry in &mut outside.affected {
        (entry.client.container, entry.client.service, entry.client.pid) = (None, None, None);
    }
    let index = index([outside]);
    let client = |name: &str| SearchQuery { client: Some(name.to_owned()), ..SearchQuery::default() };
    assert_eq!(ids(&index, &client("external")), ["a"]);
    assert!(ids(&index, &client("gaia-web")).is_empty());
}

#[test]
fn requires_names_and_class_of_one_connection() {
    let index = index([later("a", Nanos(0))]);
    let query = |client: &str, server: &str, error| SearchQuery {
        at: None,
        client: Some(client.to_owned()),
        server: Some(server.to_owned()),
        error: Some(ErrorName::from(error)),
    };
    assert_eq!(ids(&index, &query("gaia-web", "Gaia-Core-Candidate", HttpxClass::ReadError)), ["a"]);
    assert!(ids(&index, &query("gaia-mcp", "gaia-core-candidate", HttpxClass::ReadError)).is_empty());
    assert!(ids(&index, &query("gaia-web", "gaia-core", HttpxClass::ReadError)).is_empty());
    assert!(ids(&index, &query("gaia-web", "gaia-core-candidate", HttpxClass::ConnectError)).is_empty());
}

#[test]
fn finds_an_incident_without_clients_by_moment_and_condition() {
    let mut quiet = later("a", Nanos(0));
    quiet.affected.clear();
    quiet.affected_total = 0;
    quiet.affected_by_class.clear();
    quiet.condition = Some(Condition {
        kind: ConditionKind::ContainerDown,
        since: quiet.moment.at,
        until: Some(Utc(quiet.moment.at.0.plus(Nanos::from_secs(600)))),
    });
    let index = index([quiet]);
    let near = SearchQuery { at: at(Nanos::from_secs(2)), ..SearchQuery::default() };
    assert!(rank(&index, &near)[0].reasons[0].contains("its moment is 2.000 s before"));
    let within = SearchQuery { at: at(Nanos::from_secs(500)), ..SearchQuery::default() };
    assert!(rank(&index, &within)[0].reasons[0].contains("container_down lasted"));
    assert!(rank(&index, &SearchQuery { at: at(Nanos::from_secs(601)), ..SearchQuery::default() }).is_empty());
    assert!(rank(&index, &SearchQuery { client: Some("gaia-web".into()), ..near }).is_empty());
}

#[test]
fn finds_an_unlisted_error_by_its_class() {
    let mut crowd = later("a", Nanos(0));
    crowd.affected_total = 300;
    crowd.affected_by_class.insert(HttpxClass::ConnectError, 298);
    let index = index([crowd]);
    let query = SearchQuery {
        at: at(Nanos::from_secs(1)),
        error: Some(HttpxClass::ConnectError.into()),
        ..SearchQuery::default()
    };
    assert_eq!(ids(&index, &query), ["a"]);
}

#[test]
fn uses_last_revisions_and_ignores_withdrawn_incidents() {
    let mut withdrawn = later("a", Nanos(0));
    withdrawn.state = State::Withdrawn;
    let index = index([later("a", Nanos(0)), withdrawn]);
    assert!(ids(&index, &SearchQuery::default()).is_empty());
    assert_eq!(index.span(), None);
}

#[test]
fn a_typed_second_covers_its_nanoseconds() {
    let when: When = "14:02:11".parse().unwrap();
    let window = when.window(Stamp(test_fixtures::MOMENT.0 + 1_000_000_000));
    let index = index([later("a", Nanos(0))]);
    let matches = rank(&index, &SearchQuery { at: Some(window), ..SearchQuery::default() });
    assert!(matches[0].reasons[0].ends_with("at that time"), "{:?}", matches[0].reasons);
}
