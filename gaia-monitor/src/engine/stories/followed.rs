//! A followed request: its attempts so far, and what its client's policy does next.

use crate::engine::types::ids::FailureId;
use crate::engine::world::dns::lookups::LookupId;
use crate::model::ids::{ContainerId, Cookie, Pid};
use crate::model::incident::{ClientError, Detail, HttpxClass, Party, Phase};
use crate::model::policy::RetryPolicy;
use crate::model::time::{Nanos, Stamp};

/// The next attempt begins at most this long after it is due: the exception takes 17 ms, 270 ms on a loaded machine; the
/// name is looked up again.
const LATE: Nanos = Nanos::from_secs(1);
/// And this much before: the kernel's fact may come after the exception's cause.
const EARLY: Nanos = Nanos::from_millis(200);
/// A story with an error is published at the earliest so long after it: a reset after the FIN still changes the class,
/// and a second address of the name may make a refusal good.
const GRACE: Nanos = Nanos::from_secs(1);
/// Facts are released so long after their own instant on a loaded host.
const LAG: Nanos = Nanos::from_millis(200);
/// A library that repeats a request by itself does so at once: measured below 5 ms (aiohttp, urllib3, curl, Go, nginx).
const AT_ONCE: Nanos = Nanos::from_millis(50);
/// Another address or search domain of a name is tried at once.
const NEXT_ADDRESS: Nanos = Nanos::from_millis(100);
/// From the response of a resolver to the connect.
const CONNECT_WITHIN: Nanos = Nanos::from_secs(1);
/// An attempt without an end after this time is forgotten; GAIA's clients have a timeout of 300 s.
const ABANDONED: Nanos = Nanos::from_secs(900);

/// The fact by which an attempt is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttemptKey {
    Lookup(LookupId),
    Socket(Cookie),
}

/// A server as its clients know it, over all containers that it had: project and service, without a container its address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerKey(pub String);

/// The destination of an attempt.
#[derive(Clone, Debug)]
pub struct Destination {
    pub key: ServerKey,
    pub container: Option<ContainerId>,
    pub party: Party,
}

#[derive(Clone, Debug)]
pub struct TrackedAttempt {
    pub key: AttemptKey,
    pub begun: Stamp,
    pub to: Destination,
    pub fallback: bool,
    /// The request was sent, at least in part.
    pub requested: bool,
    /// When its lookup gave an address; the connect follows.
    pub resolved: Option<Stamp>,
    pub status: Option<u16>,
    pub failure: Option<FailureId>,
    pub error: Option<ClientError>,
    /// Facts are missing, or the class is derived from TCP alone.
    pub inferred: bool,
    pub ended: Option<Stamp>,
}

/// How an attempt continues a request, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Continuation {
    /// As the policy has it.
    Expected,
    /// The fallback was asked before every attempt at the primary that the policy allows.
    EarlyFallback,
}

/// What follows the last attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextAttempt {
    UnderWay,
    Retry { due: Stamp },
    Fallback { due: Stamp },
    Over,
}

#[derive(Clone, Debug)]
pub struct FollowedRequest {
    pub pid: Pid,
    pub client: Party,
    pub client_container: Option<ContainerId>,
    pub policy: RetryPolicy,
    pub primary: Destination,
    /// The primary's candidate.
    pub candidate: Option<ServerKey>,
    pub attempts: Vec<TrackedAttempt>,
    /// A request that began at once after the last failure: a silent repeat, unless the policy's next attempt comes.
    pub repeat: Option<TrackedAttempt>,
    /// Another request of the process to the same pair was under way meanwhile.
    pub rivals: bool,
    /// Its attempts can be linked in another way.
    pub ambiguous: bool,
    pub early_fallback: bool,
    /// When attempts were due so far.
    pub dues: Vec<Stamp>,
    /// The maintenance file in the client's container was seen active.
    pub maintenance: bool,
}

impl TrackedAttempt {
    #[must_use]
    pub fn is_response(&self) -> bool {
        self.ended.is_some() && self.error.is_none()
    }

    /// It failed, or its status is one that a client takes for an error.
    #[must_use]
    pub fn is_trouble(&self) -> bool {
        self.error.is_some() || self.status.is_some_and(|status| status >= 400)
    }
}

impl FollowedRequest {
    /// Whether an attempt at this server can belong to it.
    #[must_use]
    pub fn concerns(&self, server: &ServerKey) -> bool {
        self.primary.key == *server || self.candidate.as_ref() == Some(server)
    }

    #[must_use]
    pub fn plan(&self) -> NextAttempt {
        let Some(last) = self.attempts.last() else { return NextAttempt::Over };
        let Some(ended) = last.ended else { return NextAttempt::UnderWay };
        if last.fallback {
            return NextAttempt::Over;
        }
        let (again, asks_fallback) = match (&last.error, last.status) {
            (Some(error), _) => (self.policy.follows_up(error), self.policy.fallback),
            (None, Some(status)) => {
                (self.policy.retries_status(status), self.policy.fallback && self.policy.fallback_on_status)
            }
            (None, None) => (false, false),
        };
        if !again {
            return NextAttempt::Over;
        }
        match self.policy.waits.get(self.attempts.len() - 1) {
            Some(wait) => NextAttempt::Retry { due: ended.plus(*wait) },
            None if asks_fallback && self.candidate.is_some() && !self.maintenance => {
                NextAttempt::Fallback { due: ended }
            }
            None => NextAttempt::Over,
        }
    }

    /// How an attempt at this server that begins at an instant continues it, and when that was due.
    #[must_use]
    pub fn link(&self, server: &ServerKey, begins: Stamp) -> Option<(Continuation, Stamp)> {
        let last = self.attempts.last()?;
        let ended = last.ended?;
        let at_candidate = self.candidate.as_ref() == Some(server);
        let (kind, due) = match self.plan() {
            NextAttempt::Retry { due } if self.primary.key == *server => (Continuation::Expected, due),
            NextAttempt::Fallback { due } if at_candidate => (Continuation::Expected, due),
            NextAttempt::Retry { .. } if at_candidate => (Continuation::EarlyFallback, ended),
            // Maintenance that ended meanwhile.
            NextAttempt::Over if at_candidate && self.maintenance && !last.fallback && last.is_trouble() => {
                (Continuation::EarlyFallback, ended)
            }
            NextAttempt::UnderWay | NextAttempt::Retry { .. } | NextAttempt::Fallback { .. } | NextAttempt::Over => {
                return None;
            }
        };
        is_due(due, begins).then_some((kind, due))
    }

    /// Whether an attempt that begins at an instant may have been one of this request.
    #[must_use]
    pub fn may_have_been(&self, begins: Stamp) -> bool {
        self.dues.iter().any(|due| is_due(*due, begins))
    }

    /// Whether a lookup or connect that begins at an instant is a further one of the last attempt: another type, search
    /// domain or address.
    #[must_use]
    pub fn is_same_attempt(&self, server: &ServerKey, begins: Stamp) -> bool {
        let Some(last) = self.attempts.last().filter(|last| last.to.key == *server && !last.requested) else {
            return false;
        };
        last.ended.is_none_or(|ended| begins.since(ended) <= NEXT_ADDRESS)
    }

    /// Whether a request that begins at an instant may be a silent repeat of the last attempt: a library repeats what got
    /// no byte of a response.
    #[must_use]
    pub fn may_be_repeated(&self, to: &Destination, begins: Stamp) -> bool {
        let Some((last, ended)) = self.attempts.last().and_then(|last| Some((last, last.ended?))) else { return false };
        let Some(error) = &last.error else { return false };
        let unanswered = matches!(error.phase, Phase::Sending | Phase::AwaitingResponse)
            && matches!(error.detail, Some(Detail::NoResponse | Detail::Reset | Detail::ResetAfterFin));
        // A proxy goes on to the next server of its list.
        let refused = matches!(error.detail, Some(Detail::Refused | Detail::Unreachable));
        let same = last.to.key == to.key;
        let sibling = !same && last.to.party.port == to.party.port && self.candidate.as_ref() != Some(&to.key);
        let after = begins.since(ended);
        after >= Nanos(0) && after <= AT_ONCE && (unanswered && (same || sibling) || refused && sibling)
    }

    /// When the story is over unless something comes before.
    #[must_use]
    pub fn deadline(&self) -> Stamp {
        let last_error =
            self.attempts.iter().filter(|attempt| attempt.error.is_some()).filter_map(|attempt| attempt.ended);
        let settled = last_error.max().map_or(Stamp(0), |at| at.plus(GRACE));
        let own = match self.plan() {
            NextAttempt::UnderWay => self.attempts.last().map_or(Stamp(0), |last| match last.resolved {
                Some(at) => at.plus(CONNECT_WITHIN).plus(LAG),
                None => last.begun.plus(ABANDONED),
            }),
            NextAttempt::Retry { due } | NextAttempt::Fallback { due } => due.plus(LATE).plus(LAG),
            NextAttempt::Over => settled,
        };
        match &self.repeat {
            Some(repeat) if repeat.ended.is_none() => own.max(repeat.begun.plus(ABANDONED)),
            Some(_) | None => own.max(settled),
        }
    }

    #[must_use]
    pub fn is_forgotten(&self, now: Stamp) -> bool {
        let long = |attempt: &TrackedAttempt| attempt.ended.is_none() && now.since(attempt.begun) >= ABANDONED;
        self.attempts.last().is_some_and(long)
    }

    /// Something went wrong: without that there is no story.
    #[must_use]
    pub fn has_trouble(&self) -> bool {
        self.attempts.iter().any(|attempt| match (&attempt.error, attempt.status) {
            (Some(error), _) => error.httpx != HttpxClass::None,
            (None, Some(status)) => attempt.ended.is_some() && self.policy.retries_status(status),
            (None, None) => false,
        })
    }

    #[must_use]
    pub fn attempt_mut(&mut self, key: AttemptKey) -> Option<&mut TrackedAttempt> {
        self.attempts.iter_mut().rev().chain(&mut self.repeat).find(|attempt| attempt.key == key)
    }
}

fn is_due(due: Stamp, begins: Stamp) -> bool {
    let after = begins.since(due);
    after >= Nanos(-EARLY.0) && after <= LATE
}
