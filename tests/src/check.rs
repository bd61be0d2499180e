//! The verdict over all lines of a run: every incident that must be there, none beside it, each told and settled in time.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use crate::case::Case;
use crate::client::ABANDONED;
use crate::expect::Expected;
use crate::instrument::{Instrument, WallNanos};
use crate::line::{Incident, wall};

/// How long the first revision may take after the fact that broke something.
const FIRST_REVISION: WallNanos = 250_000_000;
/// How long the settled revision may take after the last fact, plus the way of the line to this process.
const SETTLING: WallNanos = 2_250_000_000;

/// What the lines are compared with.
pub struct Witness {
    pub instrument: &'static Instrument,
    pub began: WallNanos,
    pub project: String,
    pub image: String,
}

/// A line of standard output and when it came.
pub struct Arrived {
    pub at: WallNanos,
    pub line: String,
}

impl Witness {
    #[must_use]
    pub fn of(case: &Case) -> Self {
        Self {
            instrument: case.instrument,
            began: case.began,
            project: case.stack.project().to_owned(),
            image: case.stack.image().tag().to_owned(),
        }
    }
}

/// All lines of a run against all that must come of the story. `before_stop` lines came before the monitor was asked to
/// end. Returns one note for each incident.
pub fn check(expected: &[Expected], lines: &[Arrived], before_stop: usize, case: &Witness) -> Result<Vec<String>> {
    let mut revisions: BTreeMap<String, Vec<(i64, usize, Incident)>> = BTreeMap::new();
    for (place, arrived) in lines.iter().enumerate() {
        let incident = Incident::read(&arrived.line)?;
        revisions.entry(incident.id.clone()).or_default().push((arrived.at, place, incident));
    }
    for (id, life) in &revisions {
        check_life(life).with_context(|| format!("incident {id}"))?;
    }
    let mut left: Vec<Vec<(i64, usize, Incident)>> = revisions
        .into_values()
        .filter(|life| life.last().is_some_and(|(_, _, last)| last.state != "withdrawn"))
        .collect();
    let kinds: BTreeMap<String, String> = left
        .iter()
        .filter_map(|life| life.last())
        .map(|(_, _, last)| (last.id.clone(), last.cause.kind.clone()))
        .collect();
    let mut notes = Vec::new();
    for wanted in expected {
        let fits = |life: &Vec<(i64, usize, Incident)>| {
            life.last().is_some_and(|(_, _, last)| {
                last.cause.kind == wanted.kind && last.subject.container.as_deref() == Some(wanted.subject.name())
            })
        };
        let Some(place) = left.iter().position(fits) else {
            let told: Vec<_> = left.iter().filter_map(|life| life.last()).map(|(_, _, last)| brief(last)).collect();
            bail!("no incident `{}` of {}; told were: {told:?}", wanted.kind, wanted.subject.name());
        };
        let life = left.remove(place);
        let (_, _, last) = life.last().context("a revision")?;
        wanted.check(last, case).with_context(|| format!("incident `{}`", wanted.kind))?;
        if let Some(because) = wanted.because {
            let named = last.cause.because.as_ref().and_then(|id| kinds.get(id));
            ensure!(named.is_some_and(|kind| kind == because), "because of {named:?}, expected {because}");
        }
        let told = life.iter().filter(|(_, place, _)| *place < before_stop).map(|(at, _, incident)| (*at, incident));
        // It rests since the first revision after which no fact came.
        let rested = told.rev().take_while(|(_, incident)| incident.state == wanted.rests_as()).last();
        let rested = rested.map(|(at, _)| at);
        notes.push(check_pace(wanted, &life, rested)?);
    }
    let told: Vec<_> = left.iter().filter_map(|life| life.last()).map(|(_, _, last)| brief(last)).collect();
    ensure!(told.is_empty(), "false incidents: {told:?}");
    Ok(notes)
}

fn brief(incident: &Incident) -> String {
    format!("{} of {:?}: {}", incident.cause.kind, incident.subject.container, incident.cause.summary)
}

fn check_life(life: &[(i64, usize, Incident)]) -> Result<()> {
    for (number, (_, _, incident)) in (1..).zip(life) {
        ensure!(incident.schema == "gaia-monitor.incident/1", "schema {}", incident.schema);
        ensure!(incident.revision == number, "revision {}, expected {number}", incident.revision);
    }
    let ends = |state: &str| matches!(state, "closed" | "withdrawn");
    let over = life.iter().position(|(_, _, incident)| ends(&incident.state));
    ensure!(over == life.len().checked_sub(1), "it must end once, and last: {over:?} of {}", life.len());
    Ok(())
}

/// How fast it was told and settled.
fn check_pace(wanted: &Expected, life: &[(i64, usize, Incident)], rested: Option<i64>) -> Result<String> {
    let (told, _, _) = life.first().context("a revision")?;
    let (_, _, last) = life.last().context("a revision")?;
    let settled = rested.with_context(|| format!("before the monitor was stopped it was not {}", wanted.rests_as()))?;
    let broke = last.affected.iter().filter(|entry| entry.client_error.httpx != "none");
    let broke = broke.map(|entry| wall(&entry.at)).collect::<Result<Vec<_>>>()?.into_iter().min();
    let mut facts = last.affected.iter().map(|entry| wall(&entry.at)).collect::<Result<Vec<_>>>()?;
    facts.extend(last.timeline.iter().map(|entry| wall(&entry.at)).collect::<Result<Vec<_>>>()?);
    let until = last.condition.as_ref().and_then(|condition| condition.until.as_deref());
    facts.extend(until.map(wall).transpose()?);
    let last_fact = facts.iter().max().copied().context("a fact")?;
    ensure!(
        settled - last_fact <= SETTLING,
        "it came to rest {} ms after its last fact",
        (settled - last_fact) / 1_000_000
    );
    let Some(broke) = broke else { return Ok(format!("{}: broke nothing", wanted.kind)) };
    let first = told - broke;
    ensure!(first <= FIRST_REVISION, "the first revision came {} ms after the break", first / 1_000_000);
    let seen = wanted.broken.iter().filter(|broken| broken.outcome.class != ABANDONED);
    let exception = seen.map(|broken| broken.outcome.at).min().map(|at| at - broke);
    Ok(format!(
        "{}: first line {:.1} ms after the break, the client's exception {:.1} ms after it",
        wanted.kind,
        millis(first),
        millis(exception.unwrap_or_default())
    ))
}

/// For a note only.
fn millis(nanos: i64) -> f64 {
    std::time::Duration::from_nanos(nanos.unsigned_abs()).as_secs_f64() * 1000.0 * if nanos < 0 { -1.0 } else { 1.0 }
}
