//! One incident as a block of text: summary, moment, cause, subject, clients, timeline, rejected causes.

use super::clients;
use super::style::{Page, Tone};
use crate::engine::causes::{self, Severity};
use crate::model::incident::{CauseKind, Condition, Incident, Role, Sender, State, TimelineEntry, Via, name_of};
use crate::model::policy::Policy;
use crate::text::{self, counted, harmless, moment_fact, offset, span};

/// Timeline entries that a block shows, at the beginning and at the end. The JSON has all of them.
const TIMELINE_HEAD: usize = 24;
const TIMELINE_TAIL: usize = 12;

/// The whole incident; `policy`: the policies of the clients.
pub fn whole(page: &mut Page, incident: &Incident, policy: &Policy) {
    page.end_line();
    page.put(tone(incident.cause.kind), "● ").put(Tone::Strong, &harmless(&incident.cause.summary)).end_line();
    page.label("when").put(Tone::Strong, &incident.moment.at.to_string());
    page.put(Tone::Plain, "  ").put(Tone::Quiet, moment_fact(incident.moment.fact)).end_line();
    why(page, incident);
    about(page, incident);
    clients::rows(page, incident, &incident.affected, policy);
    timeline(page, &incident.timeline, incident.timeline_left_out);
    for (index, alternative) in incident.alternatives.iter().enumerate() {
        page.label(if index == 0 { "rejected" } else { "" });
        page.put(Tone::Plain, &format!("{}: {}", name_of(&alternative.kind), harmless(&alternative.against)));
        page.end_line();
    }
    condition(page, incident);
    lost(page, incident);
    page.label("incident").put(Tone::Quiet, &reference(incident)).end_line();
}

/// The cause as the contract names it, and its origin.
pub fn why(page: &mut Page, incident: &Incident) {
    let cause = &incident.cause;
    page.label("why").put(tone(cause.kind), &name_of(&cause.kind));
    let mut line = format!(", {}", name_of(&cause.confidence));
    if let Some(how) = cause.how {
        line.push_str(&format!(" · {}", name_of(&how)));
    }
    if let Some(signal) = &cause.signal {
        line.push_str(&format!(" · {}", harmless(signal)));
    }
    if let Some(code) = cause.exit_code {
        line.push_str(&format!(" · exit code {code}"));
    }
    if let Some(origin) = &cause.sender {
        line.push_str(&format!(" · {}", sender(origin)));
    }
    page.put(Tone::Plain, &line).end_line();
    if let Some(because) = &cause.caused_by {
        page.label("").put(Tone::Plain, &format!("caused by incident {}", harmless(&because.0))).end_line();
    }
    if let Some(primary) = &incident.failover_of {
        page.label("").put(Tone::Plain, &format!("during the failover of incident {}", harmless(&primary.0)));
        page.end_line();
    }
}

fn sender(sender: &Sender) -> String {
    let process = match (&sender.comm, sender.pid) {
        (Some(comm), Some(pid)) => format!("sent by {} (pid {pid})", harmless(comm)),
        (Some(comm), None) => format!("sent by {}", harmless(comm)),
        (None, Some(pid)) => format!("sent by pid {pid}"),
        (None, None) => "sent by an unknown process".to_owned(),
    };
    let place = match &sender.container {
        Some(container) => format!(" in {}", harmless(container)),
        None => " on the host".to_owned(),
    };
    let via = match sender.via {
        Some(Via::DockerKill) => ", requested by docker kill or rm -f",
        Some(Via::DockerStop) => ", requested by docker stop, restart or compose down",
        None => "",
    };
    format!("{process}{place}{via}")
}

fn about(page: &mut Page, incident: &Incident) {
    let subject = &incident.subject;
    page.label("subject").put(Tone::Strong, &text::subject(incident));
    let mut parts = Vec::new();
    match subject.role {
        Role::Primary => parts.push("primary".to_owned()),
        Role::Candidate => parts.push("candidate".to_owned()),
        Role::None => {}
    }
    if let Some(service) = subject.service.as_ref().filter(|service| Some(*service) != subject.container.as_ref()) {
        parts.push(format!("service {}", harmless(service)));
    }
    parts.extend(subject.project.as_ref().map(|project| format!("project {}", harmless(project))));
    parts.extend(subject.image.as_ref().map(|image| format!("image {}", harmless(image))));
    parts.extend(subject.health.as_ref().map(|health| harmless(health).into_owned()));
    if let Some(pid) = subject.pid {
        let comm = subject.comm.as_deref().map(harmless).unwrap_or_default();
        parts.push(format!("pid {pid} {comm}").trim_end().to_owned());
    }
    if let Some(started_at) = subject.started_at {
        parts.push(format!("up {}", span(incident.moment.at.0.since(started_at.0))));
    }
    if incident.deaths > 1 {
        parts.push(format!("died {} times", incident.deaths));
    }
    for part in parts {
        page.put(Tone::Quiet, " · ").put(Tone::Plain, &part);
    }
    page.end_line();
}

/// Timeline entries; the middle of a long timeline is left out.
pub fn timeline(page: &mut Page, entries: &[TimelineEntry], left_out: u64) {
    let omitted = entries.len().saturating_sub(TIMELINE_HEAD + TIMELINE_TAIL);
    let resume = if omitted == 0 { TIMELINE_HEAD } else { TIMELINE_HEAD + omitted };
    for (index, entry) in entries.iter().enumerate() {
        if index == TIMELINE_HEAD && (omitted > 0 || left_out > 0) {
            let count = omitted as u64 + left_out;
            page.label("").put(Tone::Quiet, &format!("{:>13}  {}", "…", counted(count, "more line", "more lines")));
            page.end_line();
        }
        if index >= TIMELINE_HEAD && index < resume {
            continue;
        }
        page.label(if index == 0 { "timeline" } else { "" });
        page.put(Tone::Plain, &format!("{:>13}", offset(entry.offset_ns)));
        page.put(Tone::Quiet, &format!("  {:8}", name_of(&entry.source)));
        let weight = if entry.offset_ns.0 == 0 { Tone::Strong } else { Tone::Plain };
        page.put(weight, &harmless(&entry.text)).end_line();
    }
}

fn condition(page: &mut Page, incident: &Incident) {
    if let Some(condition) = &incident.condition {
        page.label("condition").put(Tone::Plain, &lasting(condition)).end_line();
    }
}

/// The condition and its duration, or its start while it lasts.
#[must_use]
pub fn lasting(condition: &Condition) -> String {
    let kind = name_of(&condition.kind);
    match condition.until {
        Some(until) => format!("{kind} for {}, until {until}", span(until.0.since(condition.since.0))),
        None => format!("{kind} since {}", condition.since),
    }
}

fn lost(page: &mut Page, incident: &Incident) {
    for (stage, count) in &incident.lost_events {
        let events = counted(*count, "event", "events");
        page.label("lost")
            .put(
                Tone::Caution,
                &format!("{events} at stage {}: facts of this incident may be missing", harmless(stage)),
            )
            .end_line();
    }
}

/// Id, revision and state of the incident.
#[must_use]
pub fn reference(incident: &Incident) -> String {
    format!("{} · revision {} · {}", harmless(&incident.id.0), incident.revision, name_of(&incident.state))
}

/// One line for lists.
pub fn headline(page: &mut Page, incident: &Incident) {
    page.put(tone(incident.cause.kind), "● ").put(Tone::Strong, &incident.moment.at.to_string());
    page.put(Tone::Plain, &format!("  {}  ", text::subject(incident)));
    page.put(tone(incident.cause.kind), &name_of(&incident.cause.kind));
    let broken = counted(incident.affected_total, "connection", "connections");
    page.put(Tone::Plain, &format!("  {broken} broken  ")).put(Tone::Quiet, &reference(incident)).end_line();
}

/// The tone of a cause, by its severity.
#[must_use]
pub fn tone(kind: CauseKind) -> Tone {
    match causes::severity(kind) {
        Severity::Error => Tone::Alarm,
        Severity::Warning => Tone::Caution,
    }
}

/// How a revision's state is printed.
#[must_use]
pub fn state_text(state: State) -> &'static str {
    match state {
        State::Open => "updated",
        State::Settled => "settled: verdict is final",
        State::Closed => "closed",
        State::Withdrawn => "withdrawn",
    }
}
