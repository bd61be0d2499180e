//! The incident line, schema `gaia-monitor.incident/1`. Stable: a change here is a change of the schema's version.
//!
//! Every field is always written; what does not exist is `null`, lists may be empty.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ids::{ContainerId, IncidentId, Pid};
use super::time::{Nanos, Utc};

/// The value of every incident's `schema` field.
pub const SCHEMA: &str = "gaia-monitor.incident/1";

/// One revision of one incident. The last revision stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Incident {
    /// Always `gaia-monitor.incident/1`.
    pub schema: String,
    pub id: IncidentId,
    /// Counts from 1.
    pub revision: u32,
    pub state: State,
    /// The incident that this one turned out to be part of; only with state `withdrawn`.
    pub merged_into: Option<IncidentId>,
    pub cause: Cause,
    pub moment: Moment,
    pub subject: Subject,
    /// The open incident of the primary whose candidate the subject is.
    pub failover_of: Option<IncidentId>,
    pub condition: Option<Condition>,
    /// How often the subject died in this incident.
    pub deaths: u32,
    /// What it broke, in order of `at`, the first 100.
    pub affected: Vec<Affected>,
    /// All that it broke, also beyond 100; entries of class `none` are not counted.
    pub affected_total: u64,
    pub affected_by_class: BTreeMap<HttpxClass, u64>,
    pub alternatives: Vec<Alternative>,
    /// Sorted; the first 150 and the last 50.
    pub timeline: Vec<TimelineEntry>,
    pub timeline_left_out: u64,
    /// Events lost while it was open, by stage.
    pub lost_events: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Open,
    Settled,
    Closed,
    Withdrawn,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    pub kind: CauseKind,
    /// One sentence for a person.
    pub summary: String,
    pub confidence: Confidence,
    /// SIGKILL …; for a death exactly one of `signal` and `exit_code`, as in the exit status.
    pub signal: Option<String>,
    pub exit_code: Option<i32>,
    /// How the worker died; only for `worker_died`.
    pub how: Option<How>,
    pub sender: Option<Sender>,
    /// The incident behind this one.
    pub because: Option<IncidentId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    OomKilled,
    ProcessCrashed,
    ProcessKilled,
    ProcessExited,
    WorkerDied,
    ContainerStopped,
    ContainerKilled,
    ContainerPaused,
    NetworkDisconnected,
    LinkDown,
    DnsGone,
    NotListening,
    BacklogOverflow,
    PacketDropped,
    PacketRejected,
    AppClosed,
    AppAborted,
    KeepaliveRace,
    ClientCancelled,
    BackendUnreachable,
    ServerSlow,
    ProtocolError,
    Unknown,
}

/// `certain`: the deciding kernel fact was seen and nothing needed was lost. `likely`: inferred by order or time.
/// `possible`: alternatives are not excluded, or there was loss at a needed stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    Possible,
    Likely,
    Certain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    OomKilled,
    ProcessCrashed,
    ProcessKilled,
    ProcessExited,
}

/// Who sent the signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sender {
    pub pid: Option<Pid>,
    pub comm: Option<String>,
    /// The container that it lives in; null on the host.
    pub container: Option<String>,
    pub via: Option<Via>,
}

/// The order to Docker behind a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Via {
    #[serde(rename = "docker kill")]
    DockerKill,
    #[serde(rename = "docker stop")]
    DockerStop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Moment {
    pub at: Utc,
    pub fact: MomentFact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MomentFact {
    ProcessExit,
    DockerDie,
    Signal,
    DockerPause,
    LinkRemoved,
    DockerDisconnect,
    LinkDown,
    DnsFailed,
    Refused,
    SynUnanswered,
    PacketFiltered,
    ServerClose,
    ClientClose,
    Malformed,
    ClientError,
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    pub container: Option<String>,
    pub container_id: Option<ContainerId>,
    pub image: Option<String>,
    pub project: Option<String>,
    pub service: Option<String>,
    pub role: Role,
    /// Docker's health status at the moment.
    pub health: Option<String>,
    pub started_at: Option<Utc>,
    pub pid: Option<Pid>,
    pub comm: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Primary,
    Candidate,
    None,
}

/// What lasts beyond the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    pub kind: ConditionKind,
    pub since: Utc,
    pub until: Option<Utc>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConditionKind {
    ContainerDown,
    Paused,
    Detached,
    LinkDown,
    NameGone,
    NotListening,
    Filtered,
}

/// One broken connection, connect or look-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Affected {
    /// When the client's socket got the fact; for timeouts, when the client gave up.
    pub at: Utc,
    pub client: Party,
    pub server: Party,
    pub via: Option<Hop>,
    pub client_error: ClientError,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Party {
    pub container: Option<String>,
    pub service: Option<String>,
    pub ip: Option<IpAddr>,
    pub port: Option<u16>,
    pub pid: Option<Pid>,
    pub comm: Option<String>,
}

/// What metrics and policies call an end in no container of this host, and one that is not on this host at all.
pub const HOST: &str = "host";
pub const EXTERNAL: &str = "external";

impl Party {
    /// What it can be asked for by: its container, its service, or the word that metrics have for an end without one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        // Without a pid the line does not say which of the two it is.
        let ends: &[&str] = match (&self.container, &self.pid) {
            (Some(_), _) => &[],
            (None, Some(_)) => &[HOST],
            (None, None) => &[HOST, EXTERNAL],
        };
        [&self.container, &self.service].into_iter().flatten().map(String::as_str).chain(ends.iter().copied())
    }
}

/// The docker-proxy or server between client and server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hop {
    pub pid: Option<Pid>,
    pub comm: Option<String>,
    pub container: Option<String>,
    /// `ip:port`.
    pub listen: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClientError {
    /// The class that httpx raises on what this socket got, whatever the client is.
    pub httpx: HttpxClass,
    /// The other class that the same packets allow.
    pub or: Option<HttpxClass>,
    pub detail: Option<Detail>,
    /// Its name, as the kernel put it on the socket, or the resolver's.
    pub errno: Option<String>,
    pub phase: Phase,
    /// Is the class one that the client's policy retries?
    pub retried: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum HttpxClass {
    ConnectError,
    ConnectTimeout,
    ReadError,
    ReadTimeout,
    WriteError,
    WriteTimeout,
    RemoteProtocolError,
    #[serde(rename = "none")]
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    NoResponse,
    IncompleteBody,
    Malformed,
    Reset,
    ResetAfterFin,
    Refused,
    Unreachable,
    Dns,
    SynTimeout,
    NoData,
    TimedOut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Resolving,
    Connecting,
    Sending,
    AwaitingResponse,
    ReceivingBody,
    Idle,
}

/// A cause that was weighed and not chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Alternative {
    pub kind: CauseKind,
    /// One sentence: what speaks against it.
    pub against: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineEntry {
    pub at: Utc,
    /// `at` minus the moment.
    pub offset_ns: Nanos,
    pub source: TimelineSource,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimelineSource {
    Tcp,
    Process,
    Docker,
    Dns,
    Link,
    Log,
    Http,
    Monitor,
}

/// The name of a unit variant as it stands in the JSON.
///
/// One table instead of two: serde's own names serve people, too.
#[must_use]
pub fn name_of<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}
