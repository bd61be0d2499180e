//! From a followed request to its story: what the caller saw, whether the fallback was asked, and how sure that is.

use std::collections::BTreeMap;

use crate::engine::context::Context;
use crate::engine::types::ids::{CaseId, StoryId};
use crate::engine::world::dns::lookups::LookupId;
use crate::model::ids::IncidentId;
use crate::model::incident::{Confidence, HttpxClass, Role};
use crate::model::story::{
    Attempt as AttemptEntry, AttemptOutcome, CallerSaw, Fallback, FallbackState, NotAsked, SCHEMA, Story, StoryOutcome,
};
use crate::model::time::Utc;

use super::followed::{AttemptKey, FollowedRequest, NextAttempt, TrackedAttempt};

/// The story of a request that is over; `None` if nothing went wrong after all. `incidents`: the published incident of
/// each case.
#[must_use]
pub fn story(
    ctx: Context,
    number: StoryId,
    mut request: FollowedRequest,
    incidents: &BTreeMap<CaseId, IncidentId>,
) -> Option<Story> {
    let expected = request.plan();
    // A failure that is no longer known was taken back: its lookup succeeded, or another address accepted.
    request.attempts.retain(|attempt| attempt.failure.is_none_or(|id| ctx.failures.get(id).is_some()));
    request.attempts.retain(|attempt| attempt.ended.is_some());
    let repeated = request.repeat.take().filter(|repeat| repeat.ended.is_some() && expected != NextAttempt::UnderWay);
    let repeated =
        repeated.filter(|_| !request.attempts.last().is_some_and(|last| last.fallback || last.is_response()));
    let is_repeated = repeated.is_some();
    request.attempts.extend(repeated);
    if !request.has_trouble() {
        return None;
    }
    let last = request.attempts.last()?;
    let inferred = request.attempts.iter().any(|attempt| attempt.inferred);
    // The policy has a next attempt, and none came.
    let missing = !is_repeated && matches!(expected, NextAttempt::Retry { .. } | NextAttempt::Fallback { .. });
    let confidence = if request.ambiguous || is_repeated {
        Confidence::Possible
    } else if request.rivals || request.early_fallback || inferred || missing {
        Confidence::Likely
    } else {
        Confidence::Certain
    };
    let attempts: Vec<AttemptEntry> = request.attempts.iter().map(|attempt| entry(ctx, attempt, incidents)).collect();
    let caller_saw = caller_saw(&request);
    Some(Story {
        schema: SCHEMA.to_owned(),
        id: id(number, &request),
        client: request.client.clone(),
        begun_at: attempts.first()?.begun_at,
        ended_at: attempts.iter().map(|attempt| attempt.ended_at).max()?,
        fallback: fallback(&request),
        outcome: match (last.is_response(), last.fallback) {
            (true, false) => StoryOutcome::PrimaryAnswered,
            (true, true) => StoryOutcome::FallbackAnswered,
            (false, _) => StoryOutcome::Failed,
        },
        attempts,
        caller_saw,
        confidence,
    })
}

fn entry(ctx: Context, attempt: &TrackedAttempt, incidents: &BTreeMap<CaseId, IncidentId>) -> AttemptEntry {
    let failure = attempt.failure.and_then(|id| ctx.failures.get(id));
    let container = attempt.to.container.as_ref().and_then(|id| ctx.world.containers.get(id));
    AttemptEntry {
        // Two sources stamp the two facts.
        begun_at: Utc(attempt.ended.map_or(attempt.begun, |ended| attempt.begun.min(ended))),
        ended_at: Utc(attempt.ended.unwrap_or(attempt.begun)),
        server: attempt.to.party.clone(),
        role: container.map_or(Role::None, |container| ctx.world.role_of(container)),
        outcome: if attempt.is_response() { AttemptOutcome::Response } else { AttemptOutcome::Failed },
        status: attempt.status,
        client_error: failure.map(|failure| failure.entry.client_error.clone()).or_else(|| attempt.error.clone()),
        incident: failure.and_then(|failure| failure.case).and_then(|case| incidents.get(&case)).cloned(),
    }
}

fn caller_saw(request: &FollowedRequest) -> CallerSaw {
    let last = request.attempts.len().saturating_sub(1);
    let is_fallback = request.attempts.last().is_some_and(|attempt| attempt.fallback);
    let fails = request.attempts.last().is_some_and(TrackedAttempt::is_trouble);
    let primary = request.attempts.iter().rposition(|attempt| !attempt.fallback);
    let seen = if is_fallback && fails && request.policy.raises_primary { primary.unwrap_or(last) } else { last };
    let attempt = request.attempts.get(seen);
    let class = attempt.and_then(|attempt| attempt.error.as_ref()).map(|error| error.httpx);
    let trouble = |(index, attempt): (usize, &TrackedAttempt)| (index != seen && attempt.is_trouble()).then_some(index);
    CallerSaw {
        status: attempt.filter(|attempt| attempt.is_response()).and_then(|attempt| attempt.status),
        httpx: class.filter(|class| *class != HttpxClass::None),
        attempt: seen,
        swallowed: request.attempts.iter().enumerate().filter_map(trouble).collect(),
    }
}

fn fallback(request: &FollowedRequest) -> Fallback {
    if request.attempts.iter().any(|attempt| attempt.fallback) {
        return Fallback { state: FallbackState::Asked, reason: None };
    }
    if request.candidate.is_none() {
        return Fallback { state: FallbackState::None, reason: None };
    }
    let reason = match request.attempts.last() {
        Some(last) if last.is_response() => match last.status {
            Some(status) if status < 400 => NotAsked::SucceededBefore,
            Some(_) => NotAsked::StatusNotRetried,
            None => NotAsked::Unknown,
        },
        Some(last) if last.error.as_ref().is_some_and(|error| !request.policy.follows_up(error)) => {
            NotAsked::ClassNotRetried
        }
        Some(_) if request.maintenance => NotAsked::Maintenance,
        Some(_) | None => NotAsked::Unknown,
    };
    Fallback { state: FallbackState::NotAsked, reason: Some(reason) }
}

/// Derived from the client's process, the first attempt and the number of the request (FNV-1a, as the ids of incidents):
/// two requests on one connection may begin at one instant.
fn id(number: StoryId, request: &FollowedRequest) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let first = request.attempts.first();
    let begun = first.map_or(0, |first| first.begun.0);
    let port = request.client.port.unwrap_or_default();
    let socket = first.map_or(0, |first| match first.key {
        AttemptKey::Lookup(LookupId(number)) => number,
        AttemptKey::Socket(cookie) => cookie.0,
    });
    let text = format!("{}/{port}/{socket}/{begun}/{}/{}", request.pid, request.primary.key.0, number.0);
    let hash = text.bytes().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    format!("story-{hash:016x}")
}
