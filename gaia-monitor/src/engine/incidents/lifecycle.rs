//! The life of a case: when it is first told, revised, settled and closed. Pure arithmetic over deadlines.

use crate::model::incident::State;
use crate::model::time::{Nanos, Stamp};

use crate::engine::incidents::case::Case;

/// Where the deciding fact is not an exit, another may follow within a tenth of a millisecond: a reset behind a FIN, what
/// a filter dropped behind a reset. The first word waits for it.
const FIRST_WORD: Nanos = Nanos(200_000);
/// A look-up that failed may still be answered by its other query, and may turn out to be a server's own.
const FIRST_WORD_ON_LOOK_UPS: Nanos = Nanos::from_millis(10);
/// One death breaks many connections within a few milliseconds: the second word waits for the others.
const SECOND_WORD: Nanos = Nanos::from_millis(10);
/// A death that broke nothing is told when Docker's `die` has come, or after this time.
const LONE_DEATH: Nanos = Nanos::from_secs(1);
/// The verdict stands when no fact came for this long.
const SETTLES: Nanos = Nanos::from_secs(1);
/// Docker's `die` is waited for at most this long after the last fact.
const DIE_OVERDUE: Nanos = Nanos::from_secs(5);
/// How often somebody who still waits is asked after.
const ASK_AGAIN: Nanos = Nanos::from_millis(200);
/// A condition without news for this long is closed anyway.
const STALE: Nanos = Nanos::from_secs(3_600);

/// What the world says of a case now.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// It is an incident, and in scope.
    pub worth: bool,
    /// What else may follow at once.
    pub follows: Follows,
    /// A container died and Docker has not said so yet.
    pub die_missing: bool,
    /// Somebody still waits for an answer from the subject.
    pub waiting: bool,
    /// Nothing lasts, or what lasted is over.
    pub over: bool,
    /// Until when a further death of the same kind belongs to it.
    pub joins_until: Stamp,
}

/// What may follow the first break within milliseconds, and make another verdict of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// A process's end was seen, and it broke connections: nothing.
    Nothing,
    Packets,
    Answers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Wait(Stamp),
    Tell(State),
    /// It is no incident, and nothing was told of it.
    Drop,
    /// It was told, and is no incident.
    Withdraw,
}

/// The least time between two revisions, by the number of the last one.
fn gap(revision: u32) -> Nanos {
    match revision {
        0 | 1 => SECOND_WORD,
        2..=9 => Nanos::from_millis(500),
        10..=99 => Nanos::from_secs(10),
        100.. => Nanos::from_secs(60),
    }
}

#[must_use]
pub fn next(case: &Case, facts: Facts, now: Stamp) -> Step {
    let settles = case.last_fact.plus(SETTLES);
    let held_back = facts.waiting || (facts.die_missing && now < case.last_fact.plus(DIE_OVERDUE));
    let stands = now >= settles && !held_back;
    let look_again = if now < settles { settles } else { now.plus(ASK_AGAIN) };
    let Some(told) = &case.told else {
        return first_word(case, facts, now, stands, look_again);
    };
    if !facts.worth {
        return Step::Withdraw;
    }
    let over = facts.over && now >= facts.joins_until;
    let stale = case.last_fact.plus(STALE);
    let state = match stands {
        // However long somebody still waits.
        _ if now >= stale => State::Closed,
        true if over => State::Closed,
        true => State::Settled,
        false => State::Open,
    };
    if state != told.state {
        return Step::Tell(state);
    }
    let revise = case.told_at.plus(gap(told.revision));
    if case.dirty && now >= revise {
        return Step::Tell(state);
    }
    let mut at = match state {
        State::Open => look_again,
        State::Settled if facts.over => facts.joins_until,
        State::Settled | State::Closed | State::Withdrawn => stale,
    };
    if case.dirty {
        at = at.min(revise);
    }
    Step::Wait(at)
}

fn first_word(case: &Case, facts: Facts, now: Stamp, stands: bool, look_again: Stamp) -> Step {
    if !facts.worth {
        return if stands { Step::Drop } else { Step::Wait(look_again) };
    }
    let due = match case.first_break {
        Some(broken) => match facts.follows {
            Follows::Nothing => now,
            Follows::Packets => broken.plus(FIRST_WORD),
            Follows::Answers => broken.plus(FIRST_WORD_ON_LOOK_UPS),
        },
        None if facts.die_missing => case.opened_seen.plus(LONE_DEATH),
        None if case.terminations.is_empty() => case.opened_seen.plus(LONE_DEATH),
        None => now,
    };
    if now >= due { Step::Tell(State::Open) } else { Step::Wait(due) }
}
