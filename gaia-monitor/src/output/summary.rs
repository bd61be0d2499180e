//! The summary of a run: incidents by cause and service, broken connections, lost events; also the input of `--fail-on`.
//! Withdrawn incidents are not counted.
//!
//! Only incidents that can still change are kept; closed ones are kept as counts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::Fold;
use super::queue::OutputLoss;
use crate::engine::effect::{Counter, Effect};
use crate::model::ids::IncidentId;
use crate::model::incident::{CauseKind, HttpxClass, Incident, State, name_of};
use crate::model::time::{Nanos, Stamp};
use crate::story::Sentences;
use crate::text::{self, counted, harmless, harmless_name};

/// Services (or containers without one) counted by name; further ones are counted as `others`.
const SERVICES: usize = 1_000;
/// Kinds of request stories that are printed.
const STORIES: usize = 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Broken {
    incidents: u64,
    connections: u64,
    /// Listed connections whose error the client's policy does not retry.
    unprotected: u64,
    /// Some connections are not listed, so `unprotected` is a lower bound.
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
    /// Containers whose logs cannot be read, and why.
    unread: BTreeMap<String, String>,
    stories: Sentences,
    span: Option<(Stamp, Stamp)>,
}

impl Summary {
    /// The run reached this instant.
    pub fn advance(&mut self, seen: Stamp) {
        let (first, last) = self.span.get_or_insert((seen, seen));
        *first = (*first).min(seen);
        *last = (*last).max(seen);
    }

    fn fold_incident(&mut self, incident: &Incident) {
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

    /// The stories of requests, equal ones grouped.
    fn write_stories(&self, text: &mut String) -> fmt::Result {
        let groups = self.stories.groups();
        if groups.is_empty() {
            return Ok(());
        }
        writeln!(text, "  what the callers saw:")?;
        for group in groups.iter().take(STORIES) {
            writeln!(text, "  {:>4} × {}", group.count, harmless(group.sentence))?;
        }
        let more = groups.iter().skip(STORIES).map(|group| group.count).sum::<u64>() + self.stories.left_out();
        if more > 0 {
            writeln!(text, "         and {} more of other kinds", counted(more, "request", "requests"))?;
        }
        Ok(())
    }

    /// Incidents that were not withdrawn, by cause and service.
    fn table(&self) -> BTreeMap<Key, Broken> {
        let mut table = self.closed.clone();
        for (key, broken) in self.open.values() {
            table.entry(key.clone()).or_default().add(*broken);
        }
        table
    }

    /// Is there an incident of one of these kinds that was not withdrawn?
    #[must_use]
    pub fn has_any(&self, of: impl Fn(CauseKind) -> bool) -> bool {
        self.closed.keys().chain(self.open.values().map(|(key, _)| key)).any(|(kind, _)| of(*kind))
    }

    /// The text printed at the end of a run.
    #[must_use]
    pub fn text(&self, losses: &[OutputLoss]) -> String {
        let mut page = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut page, losses);
        page
    }

    fn write(&self, page: &mut String, losses: &[OutputLoss]) -> fmt::Result {
        let table = self.table();
        let mut total = Broken::default();
        table.values().for_each(|broken| total.add(*broken));
        let span = self.span.map_or(Nanos(0), |(first, last)| last.since(first));
        writeln!(
            page,
            "\nSummary of {}: {}, {}",
            text::span(span),
            counted(total.incidents, "incident", "incidents"),
            connections(&total)
        )?;
        let width = |cell: fn(&Key) -> usize| table.keys().map(cell).max().unwrap_or(0);
        let (kinds, services) = (width(|(kind, _)| name_of(kind).len()), width(|(_, service)| service.chars().count()));
        for ((kind, service), broken) in &table {
            let kind = name_of(kind);
            writeln!(page, "  {:>4} × {kind:kinds$}  {service:services$}  {}", broken.incidents, connections(broken))?;
        }
        self.write_stories(page)?;
        if self.cancelled > 0 {
            writeln!(page, "  {} disconnected before the response", counted(self.cancelled, "client", "clients"))?;
        }
        for (container, why) in &self.unread {
            writeln!(page, "  the log of {container} could not be read: {why}")?;
        }
        if self.lost.is_empty() {
            writeln!(page, "  no events lost")?;
        }
        for (stage, count) in &self.lost {
            writeln!(page, "  {} lost at stage {stage}", counted(*count, "event", "events"))?;
        }
        for loss in losses {
            writeln!(page, "  {} missing from {}", counted(loss.count, "item", "items"), loss.output)?;
        }
        Ok(())
    }
}

fn key(incident: &Incident) -> Key {
    let label = incident.subject.service_label().map_or(Cow::Borrowed("(no container)"), harmless_name);
    (incident.cause.kind, label.into_owned())
}

impl Fold for Summary {
    fn fold(&mut self, effect: &Effect, _seen: Stamp) {
        match effect {
            Effect::Incident(incident) => self.fold_incident(incident),
            Effect::Story(story) => self.stories.add(story),
            Effect::Explained(_) | Effect::Enrich(_) => {}
            Effect::Count(Counter::ClientCancelled { .. }) => self.cancelled += 1,
            Effect::Count(Counter::IdleClose { .. }) => self.idle_closes += 1,
            Effect::Count(Counter::LogsUnread { container, why }) => {
                if self.unread.len() < SERVICES {
                    self.unread.insert(harmless_name(container).into_owned(), harmless_name(why).into_owned());
                }
            }
            Effect::Count(Counter::Lost { stage, count }) => {
                *self.lost.entry(harmless_name(stage).into_owned()).or_default() += count;
            }
            // Broken connections are counted with their incidents.
            Effect::Count(
                Counter::Broken { .. }
                | Counter::Restarted { .. }
                | Counter::OomKill { .. }
                | Counter::ServedAgain { .. },
            ) => {}
        }
    }
}

fn connections(broken: &Broken) -> String {
    if broken.connections == 0 {
        return "no connection broken".to_owned();
    }
    let count = counted(broken.connections, "connection", "connections");
    let bound = if broken.unlisted { "at least " } else { "" };
    match (broken.unprotected, broken.unlisted) {
        (0, false) => format!("{count} broken, each of a class that the clients' policies retry"),
        (0, true) => format!("{count} broken"),
        (unprotected, _) => {
            format!("{count} broken, {bound}{unprotected} of a class that the clients' policies do NOT retry")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fold as _, Summary};
    use crate::engine::effect::{Counter, Effect};
    use crate::model::incident::{CauseKind, Incident, State};
    use crate::model::time::Stamp;
    use crate::output::queue::OutputLoss;
    use crate::output::test_fixtures;

    fn fold(summary: &mut Summary, incident: &Incident) {
        summary.fold(&Effect::Incident(Box::new(incident.clone())), Stamp(0));
    }

    #[test]
    fn counts_an_incident_once_by_its_last_revision() {
        let mut summary = Summary::default();
        summary.advance(Stamp(0));
        summary.advance(Stamp(65_000_000_000));
        let mut incident = test_fixtures::killed();
        fold(&mut summary, &incident);
        incident.revision = 2;
        incident.state = State::Closed;
        fold(&mut summary, &incident);
        summary.fold(&Effect::Count(Counter::Lost { stage: "ring".into(), count: 7 }), Stamp(0));
        let text = summary.text(&[OutputLoss { output: "standard output".into(), count: 1, closed: false }]);
        assert_eq!(
            text,
            "\nSummary of 1 min 5 s: 1 incident, 2 connections broken, 1 of a class that the clients' policies do NOT retry\n     \
             1 × process_killed  gaia-core-candidate  2 connections broken, 1 of a class that the clients' policies do NOT retry\n  \
             7 events lost at stage ring\n  1 item missing from standard output\n"
        );
    }

    #[test]
    fn ignores_withdrawn_incidents() {
        let mut summary = Summary::default();
        let mut incident = test_fixtures::killed();
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
    fn counts_a_changed_cause_under_the_last_one() {
        let mut summary = Summary::default();
        let mut incident = test_fixtures::killed();
        fold(&mut summary, &incident);
        incident.cause.kind = CauseKind::OomKilled;
        fold(&mut summary, &incident);
        assert!(!summary.has_any(|kind| kind == CauseKind::ProcessKilled));
        assert!(summary.has_any(|kind| kind == CauseKind::OomKilled));
    }

    #[test]
    fn reports_a_lower_bound_when_connections_are_unlisted() {
        let mut summary = Summary::default();
        let mut incident = test_fixtures::killed();
        incident.affected_total = 250;
        fold(&mut summary, &incident);
        assert!(summary.text(&[]).contains("250 connections broken, at least 1 of a class"));
    }
}
