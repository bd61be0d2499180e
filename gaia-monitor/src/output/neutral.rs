//! Incidents and stories without harmful text: every output receives names and texts of containers escaped and bounded.
//!
//! Once, in front of all outputs, so that they show the same; a field of the incident that is not named here does not
//! compile.

use std::borrow::Cow;

use crate::model::incident::{
    Affected, Alternative, Cause, ClientError, Crash, Hop, Incident, Party, Requester, Sender, Subject, TimelineEntry,
};
use crate::model::story::{Attempt, Story};
use crate::text::{harmless, harmless_name};

/// Escapes and cuts every text of the incident.
pub fn neutralise(incident: &mut Incident) {
    let Incident {
        schema: _,
        id,
        revision: _,
        state: _,
        merged_into,
        cause,
        moment: _,
        subject,
        failover_of,
        condition: _,
        deaths: _,
        affected,
        affected_total: _,
        affected_by_class: _,
        alternatives,
        timeline,
        timeline_left_out: _,
        lost_events,
    } = incident;
    name(&mut id.0);
    for other in [merged_into, failover_of].into_iter().flatten() {
        name(&mut other.0);
    }
    neutralise_cause(cause);
    neutralise_subject(subject);
    affected.iter_mut().for_each(neutralise_entry);
    for Alternative { kind: _, against } in alternatives {
        text(against);
    }
    for TimelineEntry { at: _, offset_ns: _, source: _, text: entry, counter: _ } in timeline {
        text(entry);
    }
    if lost_events.keys().any(|stage| matches!(harmless_name(stage), Cow::Owned(_))) {
        let stages = std::mem::take(lost_events).into_iter();
        *lost_events = stages.map(|(stage, count)| (harmless_name(&stage).into_owned(), count)).collect();
    }
}

/// Escapes and cuts every text of the story.
pub fn neutralise_story(story: &mut Story) {
    let Story {
        schema: _,
        id,
        client,
        begun_at: _,
        ended_at: _,
        attempts,
        fallback: _,
        outcome: _,
        caller_saw: _,
        confidence: _,
    } = story;
    name(id);
    neutralise_party(client);
    for attempt in attempts {
        let Attempt { begun_at: _, ended_at: _, server, role: _, outcome: _, status: _, client_error, incident } =
            attempt;
        neutralise_party(server);
        if let Some(error) = client_error {
            neutralise_error(error);
        }
        if let Some(id) = incident {
            name(&mut id.0);
        }
    }
}

fn neutralise_cause(cause: &mut Cause) {
    let Cause { kind: _, summary, confidence: _, signal, exit_code: _, how: _, sender, caused_by, crash, limit: _ } =
        cause;
    text(summary);
    names([signal]);
    if let Some(Sender { pid: _, comm, container, via: _, requested_by }) = sender {
        names([comm, container]);
        if let Some(Requester { pid: _, comm, container }) = requested_by {
            name(comm);
            names([container]);
        }
    }
    if let Some(other) = caused_by {
        name(&mut other.0);
    }
    if let Some(Crash { module, offset, address, thread, core }) = crash {
        names([module, offset, address, thread]);
        core.iter_mut().for_each(text);
    }
}

fn neutralise_subject(subject: &mut Subject) {
    let Subject { container, container_id, image, project, service, role: _, health, started_at: _, pid: _, comm } =
        subject;
    names([container, image, project, service, health, comm]);
    if let Some(id) = container_id {
        name(&mut id.0);
    }
}

fn neutralise_entry(entry: &mut Affected) {
    let Affected { at: _, begun_at: _, client, server, via, client_error, confidence: _ } = entry;
    [client, server].into_iter().for_each(neutralise_party);
    if let Some(Hop { pid: _, comm, container, listen }) = via {
        names([comm, container, listen]);
    }
    neutralise_error(client_error);
}

fn neutralise_party(party: &mut Party) {
    let Party { container, service, ip: _, port: _, pid: _, comm } = party;
    names([container, service, comm]);
}

fn neutralise_error(error: &mut ClientError) {
    let ClientError { httpx: _, also_possible: _, detail: _, errno, phase: _, retried: _ } = error;
    names([errno]);
}

fn names<const N: usize>(all: [&mut Option<String>; N]) {
    all.into_iter().flatten().for_each(name);
}

fn name(name: &mut String) {
    replace(name, harmless_name);
}

fn text(text: &mut String) {
    replace(text, harmless);
}

fn replace(text: &mut String, by: fn(&str) -> Cow<'_, str>) {
    let changed = match by(text) {
        Cow::Borrowed(_) => None,
        Cow::Owned(changed) => Some(changed),
    };
    if let Some(changed) = changed {
        *text = changed;
    }
}
