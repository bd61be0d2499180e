//! The fields of an incident as an expectation names them.

use anyhow::{Result, bail};
use gaia_monitor::model::incident::{Affected, Incident, Requester, Sender, Via, name_of};
use gaia_monitor::model::time::Stamp;
use serde::Serialize;

pub const NONE: &str = "none";

fn or_none<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

fn name_or_none<T: Serialize>(value: Option<&T>) -> String {
    value.map_or_else(|| NONE.to_owned(), name_of)
}

/// A field of an incident as text.
pub fn of_incident(incident: &Incident, key: &str) -> Result<String> {
    let cause = &incident.cause;
    let condition = incident.condition.as_ref();
    let crash = cause.crash.as_ref();
    Ok(match key {
        "state" => name_of(&incident.state),
        "confidence" => name_of(&cause.confidence),
        "signal" => or_none(cause.signal.as_ref()),
        "code" => or_none(cause.exit_code),
        "how" => name_or_none(cause.how.as_ref()),
        "sender" => or_none(cause.sender.as_ref().map(sender)),
        "via" => or_none(cause.sender.as_ref().and_then(|sender| sender.via).map(|via| match via {
            Via::DockerKill => "kill",
            Via::DockerStop => "stop",
        })),
        "module" => or_none(crash.and_then(|crash| crash.module.as_ref())),
        "offset" => or_none(crash.and_then(|crash| crash.offset.as_ref())),
        "address" => or_none(crash.and_then(|crash| crash.address.as_ref())),
        "thread" => or_none(crash.and_then(|crash| crash.thread.as_ref())),
        "core" => or_none(crash.and_then(|crash| crash.core.as_ref())),
        "limit" => name_or_none(cause.limit.as_ref()),
        "requested" => or_none(cause.sender.as_ref().and_then(|sender| sender.requested_by.as_ref()).map(requester)),
        "summary" => cause.summary.clone(),
        "moment" => name_of(&incident.moment.fact),
        "comm" => or_none(incident.subject.comm.as_ref()),
        "role" => name_of(&incident.subject.role),
        "health" => or_none(incident.subject.health.as_ref()),
        "service" => or_none(incident.subject.service.as_ref()),
        "condition" => name_or_none(condition.map(|condition| &condition.kind)),
        "deaths" => incident.deaths.to_string(),
        "total" => incident.affected_total.to_string(),
        "classes" => {
            let classes = incident.affected_by_class.iter().map(|(class, count)| format!("{}:{count}", name_of(class)));
            classes.collect::<Vec<_>>().join(",")
        }
        "lost" => {
            let lost = incident.lost_events.iter().map(|(stage, count)| format!("{stage}:{count}"));
            lost.collect::<Vec<_>>().join(",")
        }
        other => bail!("an incident has no field {other}"),
    })
}

/// An instant of an incident.
pub fn instant(incident: &Incident, key: &str) -> Option<Option<Stamp>> {
    let condition = incident.condition;
    match key {
        "at" => Some(Some(incident.moment.at.0)),
        "since" => Some(condition.map(|condition| condition.since.0)),
        "until" => Some(condition.and_then(|condition| condition.until).map(|until| until.0)),
        "started" => Some(incident.subject.started_at.map(|at| at.0)),
        _ => None,
    }
}

fn requester(requester: &Requester) -> String {
    format!("{}@{}", requester.comm, requester.container.as_deref().unwrap_or("host"))
}

fn sender(sender: &Sender) -> String {
    let place = sender.container.as_deref().unwrap_or("host");
    format!("{}@{place}", sender.comm.as_deref().unwrap_or("?"))
}

/// A field of an entry of `affected` as text.
pub fn of_entry(entry: &Affected, key: &str) -> Result<String> {
    let error = &entry.client_error;
    Ok(match key {
        "detail" => name_or_none(error.detail.as_ref()),
        "errno" => or_none(error.errno.as_ref()),
        "phase" => name_of(&error.phase),
        "confidence" => name_of(&entry.confidence),
        "also_possible" => name_or_none(error.also_possible.as_ref()),
        "retried" => error.retried.to_string(),
        "port" => or_none(entry.server.port),
        "ip" => or_none(entry.server.ip),
        // docker-proxy by the address that it listens on, a server between by its container.
        "via" => or_none(entry.via.as_ref().and_then(|hop| hop.container.clone().or_else(|| hop.listen.clone()))),
        other => bail!("an entry has no field {other}"),
    })
}
