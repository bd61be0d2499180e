//! The verdict over all lines of a run: every expected incident and no other, each published and settled in time.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::client::ABANDONED;
use crate::diff::{Aspect, Diff, Diffs};
use crate::expect::Expected;
use crate::incident_line::{Incident, wall};
use crate::stage::Stage;
use crate::witness::{WallNanos, Witness};

/// How long the first revision may take after the fact that broke something.
const FIRST_REVISION: WallNanos = 250_000_000;
/// How long the settled revision may take after the last fact, plus the way of the line to this process.
const SETTLING: WallNanos = 2_250_000_000;

/// What the lines are compared with.
pub struct Reference {
    pub witness: &'static Witness,
    pub began: WallNanos,
    pub project: String,
    pub image: String,
}

/// A line of standard output and when it came.
pub struct Arrived {
    pub at: WallNanos,
    pub line: String,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub wrong: Vec<Diff>,
    pub measured: Vec<Measured>,
    /// Incidents that nothing calls for.
    pub false_incidents: usize,
}

/// What one incident is measured by; `None` where there is nothing to measure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    pub kind: String,
    /// Between the moment and the witness's record of the same fact.
    pub moment_error_ns: Option<WallNanos>,
    /// From the first break to the first line.
    pub told_after_break_ns: Option<WallNanos>,
    /// From the client's first exception to the first line; negative where the line was earlier.
    pub told_after_exception_ns: Option<WallNanos>,
    /// From the last fact to the settled or closed line.
    pub settled_after_ns: Option<WallNanos>,
}

/// When a line came, its place among all lines, and the incident in it.
type Revision = (WallNanos, usize, Incident);

impl Reference {
    #[must_use]
    pub fn of(stage: &Stage) -> Self {
        Self {
            witness: stage.witness,
            began: stage.began,
            project: stage.stack.project().to_owned(),
            image: stage.stack.image().tag().to_owned(),
        }
    }
}

/// Compares all lines of a run with the expected incidents. `before_stop` lines arrived before the monitor was stopped.
///
/// # Errors
/// When a line is no incident line at all.
pub fn check(expected: &[Expected], lines: &[Arrived], before_stop: usize, reference: &Reference) -> Result<Verdict> {
    let mut revisions: BTreeMap<String, Vec<Revision>> = BTreeMap::new();
    for (place, arrived) in lines.iter().enumerate() {
        let incident = Incident::read(&arrived.line)?;
        revisions.entry(incident.id.clone()).or_default().push((arrived.at, place, incident));
    }
    let mut wrong = Diffs::default();
    for (id, life) in &revisions {
        wrong.note(Aspect::Form, &format!("incident {id}"), check_life(life));
    }
    let mut left: Vec<Vec<Revision>> = revisions
        .into_values()
        .filter(|life| life.last().is_some_and(|(_, _, last)| last.state != "withdrawn"))
        .collect();
    let lasts = left.iter().filter_map(|life| life.last());
    let kinds: BTreeMap<String, String> =
        lasts.map(|(_, _, last)| (last.id.clone(), last.cause.kind.clone())).collect();
    let mut measured = Vec::new();
    for wanted in expected {
        let fits = |life: &Vec<Revision>| life.last().is_some_and(|(_, _, last)| wanted.is_told_by(last));
        let shares = |life: &Vec<Revision>| {
            fits(life) && life.last().is_some_and(|(_, _, last)| wanted.shares_a_socket_with(last))
        };
        let Some(place) = left.iter().position(shares).or_else(|| left.iter().position(fits)) else {
            let missing = format!(
                "no incident `{}` of {}; published were: {:?}",
                wanted.kind,
                wanted.name().unwrap_or("no container"),
                briefs(&left)
            );
            wrong.add(Aspect::Cause, &missing);
            if !wanted.broken.is_empty() {
                wrong.add(Aspect::Coverage, "what it broke stands in no incident of that kind");
            }
            continue;
        };
        let life = left.remove(place);
        let (_, _, last) = life.last().context("a revision")?;
        wrong.within(format!("incident `{}`", wanted.kind), |wrong| {
            wanted.check(last, reference, wrong);
            if let Some(kind) = wanted.caused_by {
                let named = last.cause.caused_by.as_ref().and_then(|id| kinds.get(id)).map(String::as_str);
                wrong.unless(Aspect::Cause, "cause.caused_by", &named, &Some(kind));
            }
        });
        let before = life.iter().filter(|(_, place, _)| *place < before_stop).map(|(at, _, incident)| (*at, incident));
        // It rests since the first revision after which no fact came.
        let rested = before.rev().take_while(|(_, incident)| incident.state == wanted.rests_as()).last();
        let rested = rested.map(|(at, _)| at);
        measured.push(pace(wanted, &life, rested, reference, &mut wrong)?);
    }
    if !left.is_empty() {
        wrong.add(Aspect::FalseIncident, &format!("false incidents: {:?}", briefs(&left)));
    }
    Ok(Verdict { wrong: wrong.into_found(), measured, false_incidents: left.len() })
}

fn briefs(lives: &[Vec<Revision>]) -> Vec<String> {
    let brief = |incident: &Incident| {
        format!("{} of {:?}: {}", incident.cause.kind, incident.subject.container, incident.cause.summary)
    };
    lives.iter().filter_map(|life| life.last()).map(|(_, _, last)| brief(last)).collect()
}

fn check_life(life: &[Revision]) -> Result<()> {
    for (number, (_, _, incident)) in (1..).zip(life) {
        ensure!(incident.schema == "gaia-monitor.incident/1", "schema {}", incident.schema);
        ensure!(incident.revision == number, "revision {}, expected {number}", incident.revision);
    }
    let ends = |state: &str| matches!(state, "closed" | "withdrawn");
    let over = life.iter().position(|(_, _, incident)| ends(&incident.state));
    ensure!(over == life.len().checked_sub(1), "it must end once, and last: {over:?} of {}", life.len());
    Ok(())
}

/// How fast it was published and settled.
fn pace(
    wanted: &Expected,
    life: &[Revision],
    rested: Option<WallNanos>,
    reference: &Reference,
    wrong: &mut Diffs,
) -> Result<Measured> {
    let (published, _, _) = life.first().context("a revision")?;
    let (_, _, last) = life.last().context("a revision")?;
    let broke = last.affected.iter().filter(|entry| entry.client_error.httpx != "none");
    let broke = broke.map(|entry| wall(&entry.at)).collect::<Result<Vec<_>>>()?.into_iter().min();
    let mut facts = last.affected.iter().map(|entry| wall(&entry.at)).collect::<Result<Vec<_>>>()?;
    facts.extend(last.timeline.iter().map(|entry| wall(&entry.at)).collect::<Result<Vec<_>>>()?);
    let until = last.condition.as_ref().and_then(|condition| condition.until.as_deref());
    facts.extend(until.map(wall).transpose()?);
    let last_fact = facts.iter().max().copied().context("a fact")?;
    let settled = rested.map(|rested| rested - last_fact);
    match settled {
        None => wrong.add(Aspect::Pace, &format!("before the monitor was stopped it was not {}", wanted.rests_as())),
        Some(after) if after > SETTLING => {
            wrong.add(Aspect::Pace, &format!("it came to rest {} ms after its last fact", after / 1_000_000));
        }
        Some(_) => {}
    }
    let first = broke.map(|broke| published - broke);
    if let Some(first) = first.filter(|first| *first > FIRST_REVISION) {
        wrong.add(Aspect::Pace, &format!("the first revision came {} ms after the break", first / 1_000_000));
    }
    let seen = wanted.broken.iter().filter(|broken| broken.how.class != "none" && broken.outcome.class != ABANDONED);
    let exception = seen.map(|broken| broken.outcome.at).min();
    Ok(Measured {
        kind: wanted.kind.to_owned(),
        moment_error_ns: wanted.moment_error(last, reference).ok(),
        told_after_break_ns: first,
        told_after_exception_ns: exception.map(|at| published - at),
        settled_after_ns: settled,
    })
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, told_after_break_ns: Some(after), .. } = self else {
            return write!(f, "{}: broke nothing", self.kind);
        };
        write!(f, "{kind}: first line {:.1} ms after the break", millis(*after))?;
        match self.told_after_exception_ns {
            Some(after) => write!(f, ", {:.1} ms after the client's exception", millis(after)),
            None => Ok(()),
        }
    }
}

/// For people only.
#[must_use]
pub fn millis(nanos: WallNanos) -> f64 {
    std::time::Duration::from_nanos(nanos.unsigned_abs()).as_secs_f64() * 1000.0 * if nanos < 0 { -1.0 } else { 1.0 }
}
