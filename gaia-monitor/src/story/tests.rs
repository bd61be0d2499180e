//! Stories of hand-made incidents.

use super::history::History;
use super::{Ending, Story, StoryConfidence, group, of};
use crate::model::ids::{IncidentId, Pid};
use crate::model::incident::{Affected, Detail, Hop, HttpxClass, Incident, Phase, State};
use crate::model::settings::Waits;
use crate::model::time::{Nanos, Utc};
use crate::output::test_fixtures;

const MILLIS: i64 = 1_000_000;

/// An incident of `server` that breaks requests of gaia-web at these milliseconds.
fn broke(id: &str, server: &str, class: HttpxClass, detail: Detail, at: &[i64]) -> Incident {
    let entries = (40_000..).zip(at).map(|(port, at)| {
        let mut entry = test_fixtures::affected(Nanos(at * MILLIS), port, class, detail, Phase::AwaitingResponse);
        entry.server.container = Some(server.to_owned());
        entry.server.service = Some(server.to_owned());
        entry
    });
    let affected: Vec<Affected> = entries.collect();
    let mut incident = Incident { id: IncidentId(id.to_owned()), affected, ..test_fixtures::killed() };
    incident.timeline.clear();
    incident.subject.container = Some(server.to_owned());
    incident.subject.service = Some(server.to_owned());
    incident
}

fn refused(at: &[i64]) -> Incident {
    broke("inc-primary", "gaia-core", HttpxClass::ConnectError, Detail::Refused, at)
}

fn candidate(class: HttpxClass, detail: Detail, at: &[i64]) -> Incident {
    let mut incident = broke("inc-candidate", "gaia-core-candidate", class, detail, at);
    incident.failover_of = Some(IncidentId("inc-primary".to_owned()));
    incident
}

/// Sets the start of the only entry's request.
fn begun(mut incident: Incident, at: i64) -> Incident {
    incident.affected[0].begun_at = Some(Utc(test_fixtures::MOMENT.plus(Nanos(at * MILLIS))));
    incident
}

fn stories_of(incidents: &[Incident]) -> Vec<Story> {
    of(incidents, &Waits::default())
}

fn only(incidents: &[Incident]) -> Story {
    let [story] = stories_of(incidents).try_into().unwrap_or_else(|all| panic!("one story, not {all:#?}"));
    story
}

#[test]
fn joins_a_failed_failover_to_one_request_with_a_swallowed_error() {
    let crashed = begun(candidate(HttpxClass::ReadError, Detail::Reset, &[11_000]), 6_005);
    // The order of the incidents does not matter.
    for incidents in [[refused(&[0, 2_003, 6_002]), crashed.clone()], [crashed, refused(&[0, 2_003, 6_002])]] {
        let story = only(&incidents);
        assert_eq!(
            story.text,
            "gaia-web asked gaia-core 3 times (ConnectError, ConnectError, ConnectError), then gaia-core-candidate: \
             ReadError. Its caller saw ConnectError of gaia-core; gaia-core-candidate's ReadError was swallowed."
        );
        assert_eq!((story.ending, story.confidence), (Ending::FallbackFailed, StoryConfidence::Likely));
        assert_eq!((story.caller_saw, story.swallowed), (Some(HttpxClass::ConnectError), Some(HttpxClass::ReadError)));
        let fallback = story.fallback_attempt.unwrap();
        assert_eq!(fallback.failover_of, Some(IncidentId("inc-primary".to_owned())));
    }
}

#[test]
fn names_the_proxy_that_the_client_asked() {
    let mut behind = broke("inc-mcp", "gaia-mcp", HttpxClass::RemoteProtocolError, Detail::NoResponse, &[0]);
    let hop = Hop { pid: None, comm: None, container: Some("gaia_gaia-core_1".to_owned()), listen: None };
    behind.affected[0].via = Some(hop);
    let mut known = refused(&[500_000]);
    known.subject.container = Some("gaia_gaia-core_1".to_owned());
    let stories = stories_of(&[behind, known]);
    assert!(stories[0].text.starts_with("gaia-web asked gaia-core: RemoteProtocolError"), "{}", stories[0].text);
}

#[test]
fn ends_the_request_when_the_class_is_not_retried() {
    let story = only(&[broke("inc-a", "gaia-core", HttpxClass::ReadError, Detail::Reset, &[0])]);
    let text = "gaia-web asked gaia-core: ReadError. ReadError is not in gaia-web's retry list: no retry; its caller saw \
                ReadError.";
    assert_eq!(story.text, text);
    assert_eq!((story.ending, story.caller_saw), (Ending::NotRetried, Some(HttpxClass::ReadError)));
    // With a known candidate, the missing failover is reported, too.
    let other = candidate(HttpxClass::RemoteProtocolError, Detail::NoResponse, &[900_000]);
    let stories = stories_of(&[broke("inc-a", "gaia-core", HttpxClass::ReadError, Detail::Reset, &[0]), other]);
    assert!(stories[0].text.contains("no retry, no failover"), "{}", stories[0].text);
    assert_eq!(stories.len(), 2);
}

#[test]
fn assumes_a_successful_failover_when_no_failure_was_seen() {
    let known = candidate(HttpxClass::RemoteProtocolError, Detail::NoResponse, &[900_000]);
    let stories = stories_of(&[refused(&[0, 2_003, 6_002]), known]);
    assert_eq!((stories[0].ending, stories[0].caller_saw), (Ending::FallenBack, None));
    assert!(stories[0].text.contains("then gaia-core-candidate, where no failure was seen"));
    // Without one, the last error is the caller's.
    let story = only(&[refused(&[0, 2_003, 6_002])]);
    assert_eq!((story.ending, story.caller_saw), (Ending::GivenUp, Some(HttpxClass::ConnectError)));
}

#[test]
fn separates_attempts_outside_the_retry_times() {
    let stories = stories_of(&[refused(&[0, 9_000])]);
    assert_eq!(stories.iter().map(|story| story.ending).collect::<Vec<_>>(), [Ending::AskedAgain; 2]);
    // Begun when no retry was due, however it ended.
    let late =
        begun(broke("inc-b", "gaia-core", HttpxClass::RemoteProtocolError, Detail::NoResponse, &[60_000]), 50_000);
    assert_eq!(stories_of(&[refused(&[0]), late]).len(), 2);
    let in_time =
        begun(broke("inc-b", "gaia-core", HttpxClass::RemoteProtocolError, Detail::NoResponse, &[60_000]), 2_010);
    assert_eq!(stories_of(&[refused(&[0]), in_time]).len(), 1);
}

#[test]
fn marks_parallel_requests_of_one_process_as_possible() {
    let stories = stories_of(&[refused(&[0, 1, 2_003, 2_004, 6_005, 6_006])]);
    assert_eq!(stories.len(), 2);
    assert!(stories.iter().all(|story| story.confidence == StoryConfidence::Possible && story.attempts.len() == 3));
    let groups = group(&stories);
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].0, 2);
    assert!(groups[0].1.text.ends_with("(possible: its attempts can be linked in another way)."));
}

#[test]
fn separates_client_processes() {
    let mut other = refused(&[2_003]);
    other.id = IncidentId("inc-other".to_owned());
    other.affected[0].client.pid = Some(Pid(7));
    assert_eq!(stories_of(&[refused(&[0]), other]).len(), 2);
}

#[test]
fn uses_the_waits_of_the_client() {
    let waits = Waits { services: [("gaia-web".to_owned(), Vec::new())].into(), ..Waits::default() };
    let crashed = begun(candidate(HttpxClass::ReadError, Detail::Reset, &[4_000]), 20);
    let stories = of(&[refused(&[0]), crashed], &waits);
    assert_eq!(stories.len(), 1);
    assert_eq!((stories[0].ending, stories[0].confidence), (Ending::FallbackFailed, StoryConfidence::Likely));
}

#[test]
fn marks_an_early_fallback_as_possible() {
    // The others may have got a 503, which is no failure.
    let crashed = begun(candidate(HttpxClass::ReadError, Detail::Reset, &[4_000]), 20);
    let story = only(&[refused(&[0]), crashed]);
    assert_eq!((story.ending, story.confidence), (Ending::FallbackFailed, StoryConfidence::Possible));
}

#[test]
fn learns_a_declared_pair_from_failover_of() {
    let mut standby = candidate(HttpxClass::ReadError, Detail::Reset, &[6_500]);
    standby.subject.container = Some("spare".to_owned());
    standby.subject.service = Some("spare".to_owned());
    standby.affected[0].server.container = Some("spare".to_owned());
    standby.affected[0].server.service = Some("spare".to_owned());
    let story = only(&[begun(standby, 6_005), refused(&[0, 2_003, 6_002])]);
    assert_eq!(story.fallback.as_deref(), Some("spare"));
}

#[test]
fn history_uses_last_revisions_and_drops_withdrawn_incidents() {
    let mut history = History::default();
    let mut early = refused(&[0, 2_003]);
    history.put(&early);
    early.revision = 2;
    early.affected = refused(&[0, 2_003, 6_002]).affected;
    history.put(&early);
    let crashed = begun(candidate(HttpxClass::ReadError, Detail::Reset, &[11_000]), 6_005);
    history.put(&crashed);
    assert_eq!(history.stories(&Waits::default()), stories_of(&[early, crashed.clone()]));
    history.put(&Incident { state: State::Withdrawn, ..crashed });
    assert_eq!(history.stories(&Waits::default()).len(), 1);
    assert_eq!(history.left_out(), 0);
}

#[test]
fn history_is_bounded_and_counts_evicted_attempts() {
    let mut history = History::default();
    for number in 0..120 {
        let mut incident = refused(&[0; 100]);
        incident.id = IncidentId(format!("inc-{number:03}"));
        history.put(&incident);
    }
    assert_eq!(history.left_out(), 2_000);
}
