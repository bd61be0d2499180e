//! The incident line as its readers parse it: by the names of the contract, not by the monitor's own types.
//!
//! A second description on purpose: a field that is renamed in the product breaks here. It must never be generated. Names
//! of earlier versions are accepted as aliases.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::witness::WallNanos;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incident {
    pub schema: String,
    pub id: String,
    pub revision: u32,
    pub state: String,
    pub merged_into: Option<String>,
    pub cause: Cause,
    pub moment: Moment,
    pub subject: Subject,
    pub failover_of: Option<String>,
    pub condition: Option<Condition>,
    pub deaths: u32,
    pub affected: Vec<Affected>,
    pub affected_total: u64,
    pub affected_by_class: BTreeMap<String, u64>,
    pub alternatives: Vec<Alternative>,
    pub timeline: Vec<Entry>,
    pub timeline_left_out: u64,
    pub lost_events: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    pub kind: String,
    pub summary: String,
    pub confidence: String,
    pub signal: Option<String>,
    pub exit_code: Option<i32>,
    pub how: Option<String>,
    pub sender: Option<Sender>,
    pub caused_by: Option<String>,
    pub crash: Option<Crash>,
    pub limit: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crash {
    pub module: Option<String>,
    pub offset: Option<String>,
    pub address: Option<String>,
    pub thread: Option<String>,
    pub core: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sender {
    pub pid: Option<u32>,
    pub comm: Option<String>,
    pub container: Option<String>,
    pub via: Option<String>,
    pub requested_by: Option<Requester>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requester {
    pub pid: u32,
    pub comm: String,
    pub container: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    pub at: String,
    pub fact: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    pub container: Option<String>,
    pub container_id: Option<String>,
    pub image: Option<String>,
    pub project: Option<String>,
    pub service: Option<String>,
    pub role: String,
    pub health: Option<String>,
    pub started_at: Option<String>,
    pub pid: Option<u32>,
    pub comm: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    pub kind: String,
    pub since: String,
    pub until: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affected {
    pub at: String,
    pub begun_at: Option<String>,
    pub client: Party,
    pub server: Party,
    pub via: Option<Hop>,
    pub client_error: ClientError,
    pub confidence: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    pub container: Option<String>,
    pub service: Option<String>,
    pub ip: Option<IpAddr>,
    pub port: Option<u16>,
    pub pid: Option<u32>,
    pub comm: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hop {
    pub pid: Option<u32>,
    pub comm: Option<String>,
    pub container: Option<String>,
    pub listen: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientError {
    pub httpx: String,
    pub also_possible: Option<String>,
    pub detail: Option<String>,
    pub errno: Option<String>,
    pub phase: String,
    pub retried: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alternative {
    pub kind: String,
    pub against: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub at: String,
    pub offset_ns: i64,
    pub source: String,
    pub text: String,
}

impl Incident {
    /// Reads one line of standard output.
    pub fn read(line: &str) -> Result<Self> {
        serde_json::from_str(line).with_context(|| format!("not an incident line: {line}"))
    }
}

/// RFC 3339 to nanoseconds since the Unix epoch.
pub fn wall(instant: &str) -> Result<WallNanos> {
    let parsed: jiff::Timestamp = instant.parse().with_context(|| format!("not an instant: {instant}"))?;
    Ok(i64::try_from(parsed.as_nanosecond())?)
}

impl Affected {
    /// Whether the incident's totals contain it: class `none` and `possible` entries are only listed.
    pub fn is_counted(&self) -> bool {
        self.client_error.httpx != "none" && self.confidence != "possible"
    }
}
