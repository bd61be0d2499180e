//! When a case is first published, revised, settled and closed. Pure arithmetic over deadlines.

use crate::engine::types::verdict::Judgement;
use crate::model::incident::State;
use crate::model::time::{Nanos, Stamp};

use super::case::Case;

/// If the deciding fact is not an exit, another may follow within a tenth of a millisecond: a reset behind a FIN, a drop
/// behind a reset. The first revision waits for it.
const FIRST_REVISION: Nanos = Nanos(200_000);
/// A failed lookup may still get a response to its other query, and may turn out to be a server's own.
const FIRST_REVISION_ON_LOOKUPS: Nanos = Nanos::from_millis(10);
/// The next address accepts within 200 ms of the failure, or the attempt has failed. A little more, so that the decision is
/// known.
const FIRST_REVISION_ON_OTHER_ADDRESS: Nanos = Nanos::from_millis(205);
/// One death breaks many connections within a few milliseconds: the second revision waits for the others.
const SECOND_REVISION: Nanos = Nanos::from_millis(10);
/// A death that broke nothing is published when Docker's `die` has arrived, or after this time.
const LONE_DEATH: Nanos = Nanos::from_secs(1);
/// The verdict is stable if no fact arrived for this long.
const SETTLES: Nanos = Nanos::from_secs(1);
/// Docker's `die` is awaited for at most this long after the last fact.
const DIE_OVERDUE: Nanos = Nanos::from_secs(5);
/// The interval of checks while a client still waits.
const RECHECK: Nanos = Nanos::from_millis(200);
/// A condition without news for this long is closed regardless.
const STALE: Nanos = Nanos::from_secs(3_600);

/// The state of the world that the next step of a case depends on, besides its judgement.
#[derive(Clone, Copy, Debug)]
pub struct Outlook {
    pub follows: Follows,
    /// A container died and Docker's `die` has not arrived.
    pub die_missing: bool,
    /// Until when a further death or failure of the same kind belongs to it.
    pub joins_until: Stamp,
}

/// What may follow the first failure within milliseconds and change the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// The end of a process was observed, and it broke connections.
    Nothing,
    Packets,
    DnsResponses,
    /// The client may be accepted at the next address of the name.
    OtherAddress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    Wait(Stamp),
    Publish(State),
    /// It is no incident, and was never published.
    Drop,
    /// It was published, and is no incident.
    Withdraw,
}

/// The least time between two revisions, by the number of the last one.
fn interval(revision: u32) -> Nanos {
    match revision {
        0 | 1 => SECOND_REVISION,
        2..=9 => Nanos::from_millis(500),
        10..=99 => Nanos::from_secs(10),
        100.. => Nanos::from_secs(60),
    }
}

#[must_use]
pub fn next(case: &Case, judgement: &Judgement, outlook: Outlook, now: Stamp) -> NextStep {
    let settles = case.last_fact.plus(SETTLES);
    let held_back = judgement.awaited || (outlook.die_missing && now < case.last_fact.plus(DIE_OVERDUE));
    let stable = now >= settles && !held_back;
    let recheck = if now < settles { settles } else { now.plus(RECHECK) };
    let Some(published) = &case.published else {
        return first_revision(case, judgement, outlook, now, stable, recheck);
    };
    if !judgement.reportable {
        return NextStep::Withdraw;
    }
    let over = judgement.is_over() && now >= outlook.joins_until;
    let stale = case.last_fact.plus(STALE);
    let state = match stable {
        // However long a client still waits.
        _ if now >= stale => State::Closed,
        true if over => State::Closed,
        true => State::Settled,
        false => State::Open,
    };
    if state != published.state {
        return NextStep::Publish(state);
    }
    let revise = case.published_at.plus(interval(published.revision));
    if case.dirty && now >= revise {
        return NextStep::Publish(state);
    }
    let mut at = match state {
        State::Open => recheck,
        State::Settled if judgement.is_over() => outlook.joins_until,
        State::Settled | State::Closed | State::Withdrawn => stale,
    };
    if case.dirty {
        at = at.min(revise);
    }
    NextStep::Wait(at)
}

fn first_revision(
    case: &Case,
    judgement: &Judgement,
    outlook: Outlook,
    now: Stamp,
    stable: bool,
    recheck: Stamp,
) -> NextStep {
    if !judgement.reportable {
        return if stable { NextStep::Drop } else { NextStep::Wait(recheck) };
    }
    let due = match case.first_error {
        Some(error) => match outlook.follows {
            Follows::Nothing => now,
            Follows::Packets => error.plus(FIRST_REVISION),
            Follows::OtherAddress => error.plus(FIRST_REVISION_ON_OTHER_ADDRESS),
            Follows::DnsResponses => error.plus(FIRST_REVISION_ON_LOOKUPS),
        },
        None if outlook.die_missing => case.opened_seen.plus(LONE_DEATH),
        None if case.terminations.is_empty() => case.opened_seen.plus(LONE_DEATH),
        None => now,
    };
    if now >= due { NextStep::Publish(State::Open) } else { NextStep::Wait(due) }
}
