//! The errors of the clients, equal ones grouped, and whether the client's policy retries each.

use super::style::{Page, Tone};
use crate::model::incident::{Affected, ClientError, HOST, Hop, HttpxClass, Incident, name_of};
use crate::model::policy::Policy;
use crate::model::time::Nanos;
use crate::text::{counted, harmless, offset, party, party_at, phase};

/// Groups that a block shows. The JSON has all of them.
const GROUPS: usize = 12;

/// Connections that differ only in their addresses and instants.
struct Group<'a> {
    first: &'a Affected,
    last: &'a Affected,
    count: u64,
}

/// The rows of `entries`: all of the incident's, or the new ones.
pub fn rows(page: &mut Page, incident: &Incident, entries: &[Affected], policy: &Policy) {
    page.label("clients");
    if incident.affected_total == 0 && entries.is_empty() {
        page.put(Tone::Plain, "no connection broken").end_line();
        return;
    }
    page.put(Tone::Strong, &totals(incident)).end_line();
    let groups = grouped(entries);
    for group in groups.iter().take(GROUPS) {
        connection(page, incident, group);
        error(page, incident, group, policy);
    }
    let shown: u64 = groups.iter().take(GROUPS).map(|group| group.count).sum();
    let more = (entries.len() as u64).saturating_sub(shown);
    if more > 0 {
        page.label("").put(Tone::Quiet, &format!("… and {more} more of other kinds")).end_line();
    }
}

/// `3 connections broken: 2 ReadError, 1 RemoteProtocolError`.
#[must_use]
pub fn totals(incident: &Incident) -> String {
    let mut text = format!("{} broken", counted(incident.affected_total, "connection", "connections"));
    let classes: Vec<_> =
        incident.affected_by_class.iter().map(|(class, count)| format!("{count} {}", name_of(class))).collect();
    if !classes.is_empty() {
        text.push_str(": ");
        text.push_str(&classes.join(", "));
    }
    text
}

fn grouped(entries: &[Affected]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for entry in entries {
        match groups.iter_mut().find(|group| is_equal(group.first, entry)) {
            Some(group) => {
                group.count += 1;
                group.last = entry;
            }
            None => groups.push(Group { first: entry, last: entry, count: 1 }),
        }
    }
    groups
}

fn is_equal(one: &Affected, other: &Affected) -> bool {
    one.client_error == other.client_error
        && one.via == other.via
        && party(&one.client) == party(&other.client)
        && party(&one.server) == party(&other.server)
}

fn connection(page: &mut Page, incident: &Incident, group: &Group<'_>) {
    let Group { first, last, count } = group;
    let (client, server) = if *count == 1 {
        (party_at(&first.client), party_at(&first.server))
    } else {
        (party(&first.client), party(&first.server))
    };
    let via = first.via.as_ref().map(hop).unwrap_or_default();
    page.label("").put(Tone::Plain, &format!("{client} → {server}{via}"));
    if *count > 1 {
        page.put(Tone::Strong, &format!("  × {count}"));
    }
    let after = |entry: &Affected| offset(Nanos(entry.at.0.since(incident.moment.at.0).0));
    let when = if first.at == last.at { after(first) } else { format!("{} … {}", after(first), after(last)) };
    page.put(Tone::Quiet, &format!("  {when}")).end_line();
}

fn hop(hop: &Hop) -> String {
    let name = match (&hop.container, &hop.comm) {
        (Some(container), _) => harmless(container).into_owned(),
        (None, Some(comm)) => harmless(comm).into_owned(),
        (None, None) => "a process".to_owned(),
    };
    match &hop.listen {
        Some(listen) => format!(" through {name} at {}", harmless(listen)),
        None => format!(" through {name}"),
    }
}

fn error(page: &mut Page, incident: &Incident, group: &Group<'_>, policies: &Policy) {
    let error = &group.first.client_error;
    page.label("");
    if error.httpx == HttpxClass::None {
        let own = incident.subject.container.is_some() && group.first.client.container == incident.subject.container;
        let text = if own {
            "  no error: the subject's own request, which ended with it"
        } else {
            "  no error: the client disconnected first"
        };
        page.put(Tone::Quiet, text).end_line();
        return;
    }
    page.put(if error.retried { Tone::Caution } else { Tone::Alarm }, &format!("  {}", name_of(&error.httpx)));
    page.put(Tone::Plain, &format!("{} {}", particulars(error), phase(error.phase))).end_line();
    page.label("");
    let class = name_of(&error.httpx);
    let policy = policy_text(group.first, policies);
    if error.retried {
        page.put(Tone::Good, &format!("  would be retried under {policy}")).end_line();
    } else {
        // What the client's own code does with it is not observed here; stories are.
        page.put(Tone::Alarm, "  NOT RETRIED")
            .put(Tone::Plain, &format!(" under {policy}, which does not list {class}"));
        page.end_line();
    }
}

/// The policy by which `retried` was decided: nothing in a packet shows the code of a client.
fn policy_text(entry: &Affected, policies: &Policy) -> String {
    let client = entry.client.service_label().unwrap_or(HOST);
    let server = entry.server.service_label().unwrap_or(HOST);
    match policies.own(client, server) {
        Some(_) => format!("the policy of {}", harmless(client)),
        None => "the default policy".to_owned(),
    }
}

/// ` (reset, ECONNRESET; or RemoteProtocolError)`.
fn particulars(error: &ClientError) -> String {
    let mut parts: Vec<String> = error.detail.iter().map(name_of).collect();
    parts.extend(error.errno.as_ref().map(|errno| harmless(errno).into_owned()));
    let mut text = parts.join(", ");
    if let Some(other) = &error.also_possible {
        text.push_str(&format!("; or {}", name_of(other)));
    }
    if text.is_empty() { text } else { format!(" ({})", text.trim_start_matches("; ")) }
}
