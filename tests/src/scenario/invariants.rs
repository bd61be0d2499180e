//! What the contract demands of every incident, whatever the story.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use gaia_monitor::engine::effect::{Counter, Effect};
use gaia_monitor::model::incident::{Affected, CauseKind, Confidence, HttpxClass, Incident, SCHEMA, State};
use gaia_monitor::model::time::{Nanos, Stamp};

use super::play::Played;

/// Of one incident, at least this lies between revisions, by the number of the later one.
fn least_gap(revision: u32) -> Nanos {
    match revision {
        0..=2 => Nanos(0),
        3..=10 => Nanos::from_millis(500),
        11..=100 => Nanos::from_secs(10),
        101.. => Nanos::from_secs(60),
    }
}

/// Checks every revision of every incident.
pub fn check(played: &Played) -> Result<()> {
    for id in played.ids() {
        let mut before: Option<(Stamp, &Incident)> = None;
        for (seen, incident) in played.of(&id) {
            line(incident)
                .and_then(|()| follows(before, seen, incident))
                .with_context(|| format!("revision {} of\n{}", incident.revision, shown(incident)))?;
            before = Some((seen, incident));
        }
    }
    super::stories::keeps_the_contract(played)?;
    let (counted, listed) = broken(played);
    let (counted, listed): (u64, u64) = (counted.values().sum(), listed.values().sum());
    ensure!(counted == listed, "{counted} counted as broken, {listed} in the incidents");
    Ok(())
}

/// The counters of failures equal the entries of the incidents, by cause and class. Not with a fact that arrives after a
/// failure was counted and changes either: a counter takes nothing back.
pub fn counts(played: &Played) -> Result<()> {
    let (counted, listed) = broken(played);
    ensure!(counted == listed, "counted as broken: {counted:?}, in the incidents: {listed:?}");
    Ok(())
}

type Broken = BTreeMap<(CauseKind, HttpxClass), u64>;

/// The counted failures, and those in the incidents.
fn broken(played: &Played) -> (Broken, Broken) {
    let mut listed: BTreeMap<(CauseKind, HttpxClass), u64> = BTreeMap::new();
    for incident in played.last().into_iter().filter(|incident| incident.state != State::Withdrawn) {
        for (class, count) in &incident.affected_by_class {
            *listed.entry((incident.cause.kind, *class)).or_default() += count;
        }
    }
    let mut counted: BTreeMap<(CauseKind, HttpxClass), u64> = BTreeMap::new();
    for emitted in &played.0 {
        if let Effect::Count(Counter::Broken { httpx, cause, .. }) = &emitted.effect {
            *counted.entry((*cause, *httpx)).or_default() += 1;
        }
    }
    (counted, listed)
}

/// An incident as a failing test prints it.
#[must_use]
pub fn shown(incident: &Incident) -> String {
    serde_json::to_string_pretty(incident).unwrap_or_else(|error| error.to_string())
}

fn follows(before: Option<(Stamp, &Incident)>, seen: Stamp, incident: &Incident) -> Result<()> {
    let Some((then, before)) = before else {
        ensure!(incident.revision == 1, "the first revision is 1");
        return Ok(());
    };
    ensure!(incident.revision == before.revision + 1, "revisions have no holes");
    ensure!(!matches!(before.state, State::Closed | State::Withdrawn), "nothing comes after {:?}", before.state);
    let gap = seen.since(then);
    let changed = before.state != incident.state;
    ensure!(changed || gap >= least_gap(incident.revision), "only {} ns after the revision before", gap.0);
    Ok(())
}

fn line(incident: &Incident) -> Result<()> {
    ensure!(incident.schema == SCHEMA, "the schema");
    let cause = &incident.cause;
    let is_counted =
        |entry: &&Affected| entry.client_error.httpx != HttpxClass::None && entry.confidence != Confidence::Possible;
    let counted = incident.affected.iter().filter(is_counted).count();
    let by_class: u64 = incident.affected_by_class.values().sum();
    ensure!(by_class == incident.affected_total, "affected_by_class does not sum up to affected_total");
    ensure!(!incident.affected_by_class.contains_key(&HttpxClass::None), "class none is never counted");
    ensure!(incident.affected_total >= counted as u64, "affected_total is below what is listed");
    ensure!(incident.affected.len() <= 100, "more than 100 entries");
    ensure!(incident.affected.is_sorted_by_key(|entry| entry.at), "affected is not in order");
    ensure!(incident.timeline.len() <= 200, "more than 200 lines");
    ensure!(incident.timeline.is_sorted_by_key(|entry| entry.at), "the timeline is not in order");
    for entry in &incident.timeline {
        ensure!(entry.offset_ns == entry.at.0.since(incident.moment.at.0), "offset_ns of {:?}", entry.text);
    }
    for entry in &incident.affected {
        let error = &entry.client_error;
        let none = error.httpx == HttpxClass::None;
        ensure!(none == error.detail.is_none(), "detail is null exactly with class none");
        ensure!(!none || !error.retried, "nothing was retried");
        ensure!(entry.client.container.is_some() || entry.server.container.is_some(), "no end in a container");
    }
    let status = usize::from(cause.signal.is_some()) + usize::from(cause.exit_code.is_some());
    ensure!(incident.deaths == 0 || status == 1, "a death has exactly one of signal and exit_code");
    ensure!(cause.how.is_some() == (cause.kind == CauseKind::WorkerDied), "how belongs to worker_died");
    ensure!(incident.state == State::Withdrawn || incident.merged_into.is_none(), "merged_into without withdrawn");
    if let Some(condition) = incident.condition
        && condition.until.is_some_and(|until| until < condition.since)
    {
        bail!("the condition ended before it began");
    }
    Ok(())
}
