//! The end of a run in a few lines: incidents by cause and service, connections broken, events lost; and whether
//! `--fail-on` saw what it looks for. Withdrawn incidents count nowhere.
//!
//! Only incidents that can still change are kept one by one; what is closed lives on as counts.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::lane::Shortfall;
use super::terminal::text::{counted, harmless};
use crate::engine::effect::{Counted, Effect};
use crate::model::ids::IncidentId;
use crate::model::incident::{CauseKind, HttpxClass, Incident, State, name_of};
use crate::model::settings::Waits;
use crate::model::time::{Nanos, Stamp};
use crate::story::{self, ledger::Ledger};

/// Services (or containers without one) that are told apart; a host that made up more loses their names here.
const SERVICES: usize = 1_000;
/// Kinds of requests' stories that are printed.
const STORIES: usize = 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Broken {
    incidents: u64,
    connections: u64,
    /// Those among the listed ones that the client's policy does not retry.
    unprotected: u64,
    /// Some were not listed, so `unprotected` is a lower bound.
    unlisted: bool,
}

impl Broken {
    fn of(incident: &Incident) -> Self {
        let listed = || incident.affected.iter().filter(|entry| entry.client_error.httpx != HttpxClass::None);
        let unprotected = listed().filter(|entry| !entry.client_error.retried).count() as u64;
        Self {
            incidents: 1,
            connections: incident.affected_total,
            unprotected,
            unlisted: incident.affected_total > listed().count() as u64,
        }
    }

    fn add(&mut self, other: Self) {
        self.incidents += other.incidents;
        self.connections += other.connections;
        self.unprotected += other.unprotected;
        self.unlisted |= other.unlisted;
    }
}

type Key = (CauseKind, String);

#[derive(Clone, Debug, Default)]
pub struct Summary {
    open: BTreeMap<IncidentId, (Key, Broken)>,
    closed: BTreeMap<Key, Broken>,
    lost: BTreeMap<String, u64>,
    idle_closes: u64,
    cancelled: u64,
    /// Containers whose logs Docker cannot give back, and why.
    unread: BTreeMap<String, String>,
    /// What each client's request came to.
    ledger: Ledger,
    waits: Waits,
    span: Option<(Stamp, Stamp)>,
}

impl Summary {
    /// How long this run's clients wait before they ask again.
    #[must_use]
    pub fn with_waits(self, waits: Waits) -> Self {
        Self { waits, ..self }
    }

    /// The run reached this instant.
    pub fn pass(&mut self, seen: Stamp) {
        let (first, last) = self.span.get_or_insert((seen, seen));
        *first = (*first).min(seen);
        *last = (*last).max(seen);
    }

    /// Has an event been seen at all?
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.span.is_some()
    }

    pub fn fold(&mut self, effect: &Effect) {
        match effect {
            Effect::Incident(incident) => self.fold_incident(incident),
            Effect::Explained { .. } | Effect::Wanted(_) => {}
            Effect::Counted(Counted::ClientCancelled { .. }) => self.cancelled += 1,
            Effect::Counted(Counted::IdleClose { .. }) => self.idle_closes += 1,
            Effect::Counted(Counted::LogsUnread { container, why }) => {
                if self.unread.len() < SERVICES {
                    self.unread.insert(container.clone(), why.clone());
                }
            }
            Effect::Counted(Counted::Lost { stage, count }) => {
                *self.lost.entry(stage.clone()).or_default() += count;
            }
            // The summary tells broken connections with their incidents.
            Effect::Counted(
                Counted::Broken { .. }
                | Counted::Restarted { .. }
                | Counted::OomKill { .. }
                | Counted::ServedAgain { .. },
            ) => {}
        }
    }

    fn fold_incident(&mut self, incident: &Incident) {
        self.ledger.put(incident);
        match incident.state {
            State::Withdrawn => drop(self.open.remove(&incident.id)),
            State::Closed => {
                self.open.remove(&incident.id);
                let mut key = key(incident);
                if self.closed.len() >= SERVICES && !self.closed.contains_key(&key) {
                    key.1 = "others".to_owned();
                }
                self.closed.entry(key).or_default().add(Broken::of(incident));
            }
            State::Open | State::Settled => {
                self.open.insert(incident.id.clone(), (key(incident), Broken::of(incident)));
            }
        }
    }

    /// What the callers saw, alike ones together.
    fn write_stories(&self, text: &mut String) -> fmt::Result {
        let stories = self.ledger.stories(&self.waits);
        let alike = story::alike(&stories);
        if alike.is_empty() {
            return Ok(());
        }
        writeln!(text, "  what the callers saw:")?;
        for (count, story) in alike.iter().take(STORIES) {
            writeln!(text, "  {count:>4} × {}", harmless(&story.text))?;
        }
        let more = alike.iter().skip(STORIES).map(|(count, _)| count).sum::<u64>();
        if more > 0 {
            writeln!(text, "         and {} more of other kinds", counted(more, "request", "requests"))?;
        }
        let left_out = self.ledger.left_out();
        if left_out > 0 {
            let broken = counted(left_out, "broken connection", "broken connections");
            writeln!(text, "         {broken} of the beginning left out")?;
        }
        Ok(())
    }

    /// Incidents that stand, by cause and service.
    fn table(&self) -> BTreeMap<Key, Broken> {
        let mut table = self.closed.clone();
        for (key, broken) in self.open.values() {
            table.entry(key.clone()).or_default().add(*broken);
        }
        table
    }

    /// Has there been an incident of one of these kinds that stands?
    #[must_use]
    pub fn has_any(&self, of: impl Fn(CauseKind) -> bool) -> bool {
        self.closed.keys().chain(self.open.values().map(|(key, _)| key)).any(|(kind, _)| of(*kind))
    }

    /// What is printed at the end of a run.
    #[must_use]
    pub fn text(&self, shortfalls: &[Shortfall]) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text, shortfalls);
        text
    }

    fn write(&self, text: &mut String, shortfalls: &[Shortfall]) -> fmt::Result {
        let table = self.table();
        let mut total = Broken::default();
        table.values().for_each(|broken| total.add(*broken));
        let span = self.span.map_or(Nanos(0), |(first, last)| last.since(first));
        writeln!(
            text,
            "\nSummary of {}: {}, {}",
            super::terminal::text::span(span),
            counted(total.incidents, "incident", "incidents"),
            connections(&total)
        )?;
        let width = |cell: fn(&Key) -> usize| table.keys().map(cell).max().unwrap_or(0);
        let (kinds, services) = (width(|(kind, _)| name_of(kind).len()), width(|(_, service)| service.chars().count()));
        for ((kind, service), broken) in &table {
            let kind = name_of(kind);
            writeln!(text, "  {:>4} × {kind:kinds$}  {service:services$}  {}", broken.incidents, connections(broken))?;
        }
        self.write_stories(text)?;
        if self.cancelled > 0 {
            writeln!(text, "  {} left before the answer", counted(self.cancelled, "client", "clients"))?;
        }
        for (container, why) in &self.unread {
            writeln!(text, "  the log of {} could not be read: {}", harmless(container), harmless(why))?;
        }
        if self.lost.is_empty() {
            writeln!(text, "  no events lost")?;
        }
        for (stage, count) in &self.lost {
            writeln!(text, "  {} lost at stage {}", counted(*count, "event", "events"), harmless(stage))?;
        }
        for shortfall in shortfalls {
            writeln!(text, "  {} left out of {}", counted(shortfall.count, "item", "items"), shortfall.writer)?;
        }
        Ok(())
    }
}

fn key(incident: &Incident) -> Key {
    let subject = &incident.subject;
    let name = subject.service.as_ref().or(subject.container.as_ref());
    (incident.cause.kind, name.map_or_else(|| "(no container)".to_owned(), |name| harmless(name).into_owned()))
}

fn connections(broken: &Broken) -> String {
    if broken.connections == 0 {
        return "no connection broken".to_owned();
    }
    let count = counted(broken.connections, "connection", "connections");
    let bound = if broken.unlisted { "at least " } else { "" };
    match (broken.unprotected, broken.unlisted) {
        (0, false) => format!("{count} broken, each of a class that its client retries"),
        (0, true) => format!("{count} broken"),
        (unprotected, _) => format!("{count} broken, {bound}{unprotected} NOT retried by the client's policy"),
    }
}

#[cfg(test)]
mod tests {
    use super::Summary;
    use crate::engine::effect::{Counted, Effect};
    use crate::model::incident::{CauseKind, Incident, State};
    use crate::model::time::Stamp;
    use crate::sinks::lane::Shortfall;
    use crate::sinks::sample;

    fn fold(summary: &mut Summary, incident: &Incident) {
        summary.fold(&Effect::Incident(Box::new(incident.clone())));
    }

    #[test]
    fn incidents_are_counted_once_by_their_last_revision() {
        let mut summary = Summary::default();
        summary.pass(Stamp(0));
        summary.pass(Stamp(65_000_000_000));
        let mut incident = sample::killed();
        fold(&mut summary, &incident);
        incident.revision = 2;
        incident.state = State::Closed;
        fold(&mut summary, &incident);
        summary.fold(&Effect::Counted(Counted::Lost { stage: "ring".into(), count: 7 }));
        let text = summary.text(&[Shortfall { writer: "standard output".into(), count: 1, gone: false }]);
        assert_eq!(
            text,
            "\nSummary of 1 min 5 s: 1 incident, 2 connections broken, 1 NOT retried by the client's policy\n     \
             1 × process_killed  gaia-core-candidate  2 connections broken, 1 NOT retried by the client's policy\n  \
             what the callers saw:\n     1 × gaia-web asked gaia-core-candidate: RemoteProtocolError. gaia-web asks again on \
             RemoteProtocolError, and no further failure was seen.\n     1 × gaia-web asked gaia-core-candidate: ReadError. \
             ReadError is not in gaia-web's retry list: no retry; its caller saw ReadError.\n  \
             7 events lost at stage ring\n  1 item left out of standard output\n"
        );
    }

    #[test]
    fn a_withdrawn_incident_counts_nowhere() {
        let mut summary = Summary::default();
        let mut incident = sample::killed();
        let killed = |kind| kind == CauseKind::ProcessKilled;
        fold(&mut summary, &incident);
        assert!(summary.has_any(killed));
        assert!(!summary.has_any(|kind| kind == CauseKind::OomKilled));
        incident.state = State::Withdrawn;
        fold(&mut summary, &incident);
        assert!(!summary.has_any(killed));
        assert!(summary.text(&[]).contains(": 0 incidents, no connection broken\n"));
    }

    #[test]
    fn a_cause_that_changed_is_counted_under_the_last_one() {
        let mut summary = Summary::default();
        let mut incident = sample::killed();
        fold(&mut summary, &incident);
        incident.cause.kind = CauseKind::OomKilled;
        fold(&mut summary, &incident);
        assert!(!summary.has_any(|kind| kind == CauseKind::ProcessKilled));
        assert!(summary.has_any(|kind| kind == CauseKind::OomKilled));
    }

    #[test]
    fn beyond_the_listed_connections_the_unprotected_are_a_lower_bound() {
        let mut summary = Summary::default();
        let mut incident = sample::killed();
        incident.affected_total = 250;
        fold(&mut summary, &incident);
        assert!(summary.text(&[]).contains("250 connections broken, at least 1 NOT retried"));
    }
}
