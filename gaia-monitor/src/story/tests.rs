//! Sentences of hand-made stories.

use super::{Sentences, caller_got_error, is_of, sentence};
use crate::model::incident::{ClientError, Confidence, Detail, HttpxClass, Phase, Role};
use crate::model::story::{
    Attempt, AttemptOutcome, CallerSaw, Fallback, FallbackState, NotAsked, SCHEMA, Story, StoryOutcome,
};
use crate::model::time::{Nanos, Utc};
use crate::output::test_fixtures;

/// An attempt at this second; no class: a response with this status.
fn attempt(server: &str, second: i64, class: Option<HttpxClass>, status: Option<u16>) -> Attempt {
    let at = |millis: i64| Utc(test_fixtures::MOMENT.plus(Nanos::from_millis(second * 1_000 + millis)));
    Attempt {
        begun_at: at(0),
        ended_at: at(5),
        server: test_fixtures::party(server, "172.28.0.7", 6415, 4_242, "uvicorn"),
        role: Role::None,
        outcome: if class.is_some() { AttemptOutcome::Failed } else { AttemptOutcome::Response },
        status,
        client_error: class.map(|httpx| ClientError {
            httpx,
            also_possible: None,
            detail: Some(Detail::Refused),
            errno: None,
            phase: Phase::Connecting,
            retried: true,
        }),
        incident: None,
    }
}

fn story(attempts: Vec<Attempt>, fallback: Fallback, caller_saw: CallerSaw) -> Story {
    Story {
        schema: SCHEMA.to_owned(),
        id: "story-1".to_owned(),
        client: test_fixtures::party("gaia-web", "172.28.0.5", 40_000, 3_333, "python3"),
        begun_at: attempts[0].begun_at,
        ended_at: attempts[attempts.len() - 1].ended_at,
        attempts,
        fallback,
        outcome: StoryOutcome::Failed,
        caller_saw,
        confidence: Confidence::Certain,
    }
}

const ASKED: Fallback = Fallback { state: FallbackState::Asked, reason: None };

fn refused() -> Vec<Attempt> {
    [0, 2, 6].map(|second| attempt("gaia-core", second, Some(HttpxClass::ConnectError), None)).into()
}

fn failed_failover() -> Story {
    let mut attempts = refused();
    attempts.push(attempt("gaia-core-candidate", 7, Some(HttpxClass::ReadError), None));
    let saw = CallerSaw { status: None, httpx: Some(HttpxClass::ConnectError), attempt: 2, swallowed: vec![0, 1, 3] };
    story(attempts, ASKED, saw)
}

#[test]
fn says_what_the_caller_saw_and_what_was_swallowed() {
    assert_eq!(
        sentence(&failed_failover()),
        "gaia-web asked gaia-core 3 times (ConnectError, ConnectError, ConnectError), then gaia-core-candidate: \
         ReadError. Its caller saw ConnectError of gaia-core; gaia-core-candidate's ReadError was swallowed."
    );
}

#[test]
fn claims_a_response_only_where_one_was_observed() {
    let mut attempts = refused();
    attempts.push(attempt("gaia-core-candidate", 7, None, Some(200)));
    let saw = CallerSaw { status: Some(200), httpx: None, attempt: 3, swallowed: vec![0, 1, 2] };
    let answered = story(attempts, ASKED, saw);
    assert!(sentence(&answered).ends_with("then gaia-core-candidate: 200. Its caller saw 200 of gaia-core-candidate."));
    assert!(!caller_got_error(&answered));
}

#[test]
fn says_why_the_fallback_was_not_asked() {
    let one = || vec![attempt("gaia-core", 0, Some(HttpxClass::ReadError), None)];
    let saw = || CallerSaw { status: None, httpx: Some(HttpxClass::ReadError), attempt: 0, swallowed: Vec::new() };
    let not_asked = |reason| Fallback { state: FallbackState::NotAsked, reason: Some(reason) };
    let mut one_attempt = story(one(), not_asked(NotAsked::ClassNotRetried), saw());
    assert_eq!(
        sentence(&one_attempt),
        "gaia-web asked gaia-core: ReadError; its policy does not retry that error, so the fallback was not asked. Its \
         caller saw ReadError of gaia-core."
    );
    one_attempt.fallback = not_asked(NotAsked::Maintenance);
    one_attempt.confidence = Confidence::Possible;
    let text = sentence(&one_attempt);
    assert!(text.contains("; maintenance mode was active, so the fallback was not asked."), "{text}");
    assert!(text.ends_with(" (possible: its attempts can be linked in another way)."), "{text}");
}

#[test]
fn counts_equal_stories_together() {
    let mut sentences = Sentences::default();
    for _ in 0..3 {
        sentences.add(&failed_failover());
    }
    let groups = sentences.groups();
    assert_eq!((groups.len(), groups[0].count, groups[0].caller_got_error), (1, 3, true));
    assert_eq!(sentences.left_out(), 0);
}

#[test]
fn belongs_to_its_client_by_container_and_service() {
    assert!(is_of(&failed_failover(), "Gaia-Web") && !is_of(&failed_failover(), "gaia-core"));
}
