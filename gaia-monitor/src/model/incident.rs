//! The incident line, schema `gaia-monitor.incident/1`. Stable: a change of a field is a change of the schema version.
//!
//! Every field is always present: an absent value is `null`, and lists may be empty. The doc comments are the
//! descriptions in the JSON Schema (`assets incident-schema`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ids::{ContainerId, Cookie, IncidentId, Pid};
use super::time::{Nanos, Utc};

/// The value of the field `schema` of every incident.
pub const SCHEMA: &str = "gaia-monitor.incident/1";

/// One revision of one incident. The last revision is valid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Incident {
    /// Always `gaia-monitor.incident/1`.
    pub schema: String,
    pub id: IncidentId,
    /// Counts from 1.
    pub revision: u32,
    pub state: State,
    /// The incident that contains this one; only with state `withdrawn`.
    pub merged_into: Option<IncidentId>,
    pub cause: Cause,
    pub moment: Moment,
    pub subject: Subject,
    /// The open incident of the primary, if the subject is its candidate.
    pub failover_of: Option<IncidentId>,
    pub condition: Option<Condition>,
    /// Number of deaths of the subject in this incident.
    pub deaths: u32,
    /// The failures that clients observed, in order of `at`; the first 100.
    pub affected: Vec<Affected>,
    /// Number of all failures, including those beyond 100; entries of class `none` and those that are `possible` are not
    /// counted.
    pub affected_total: u64,
    /// `affected_total` by class.
    pub affected_by_class: BTreeMap<HttpxClass, u64>,
    pub alternatives: Vec<Alternative>,
    /// Sorted by `at`; the first 150 and the last 50 entries.
    pub timeline: Vec<TimelineEntry>,
    /// Number of entries that are left out between them.
    pub timeline_left_out: u64,
    /// Events lost while the incident was open, by stage.
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
    /// One sentence for people.
    pub summary: String,
    pub confidence: Confidence,
    /// SIGKILL …; a death has exactly one of `signal` and `exit_code`, as in the exit status.
    pub signal: Option<String>,
    pub exit_code: Option<i32>,
    /// How the worker died; only for `worker_died`.
    pub how: Option<How>,
    /// The sender of the signal; null if the process itself or the kernel sent it.
    pub sender: Option<Sender>,
    /// The incident that caused this one.
    pub caused_by: Option<IncidentId>,
    /// Where a crash happened, if it was observed.
    pub crash: Option<Crash>,
    /// The limit behind a signal, where it can be shown.
    pub limit: Option<Limit>,
}

/// Where a crash happened: registers and mappings of the thread that received the fatal signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Crash {
    /// File name of the mapping that contained the instruction.
    pub module: Option<String>,
    /// Offset of the instruction in that file, `0x` and hexadecimal digits.
    pub offset: Option<String>,
    /// Address that the instruction accessed, `0x` and hexadecimal digits; null for a signal without one.
    pub address: Option<String>,
    /// Name (comm) of the thread.
    pub thread: Option<String>,
    /// Pattern by which the kernel names the core file.
    pub core: Option<String>,
}

/// A resource limit that ends a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    Memory,
    Cpu,
    FileSize,
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
    PacketLost,
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

/// `certain`: the deciding kernel fact was observed and no required event was lost. `likely`: inferred from order or
/// time. `possible`: alternatives are not excluded, or events were lost at a required stage.
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

/// The sender of a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sender {
    pub pid: Option<Pid>,
    pub comm: Option<String>,
    /// The container of the sender; null on the host.
    pub container: Option<String>,
    pub via: Option<Via>,
    /// The process that requested it from the Docker engine, if only one process used the engine's socket.
    pub requested_by: Option<Requester>,
}

/// A process that used the Docker engine's socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Requester {
    pub pid: Pid,
    pub comm: String,
    /// Null on the host.
    pub container: Option<String>,
}

/// The Docker command that sent a signal.
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
    Unacknowledged,
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
    /// Docker's health status at the moment of the incident.
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

/// A state that lasts beyond the moment.
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

/// One failed connection, connect or lookup of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Affected {
    /// When the client's socket received the error; for timeouts, when the client timed out.
    pub at: Utc,
    /// First byte of the request; null if there was none, or its framing was not followed.
    pub begun_at: Option<Utc>,
    pub client: Party,
    pub server: Party,
    pub via: Option<Hop>,
    pub client_error: ClientError,
    /// How sure it is that the incident broke this connection. Entries that are `possible` are listed and not counted.
    pub confidence: Confidence,
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

/// The name, in metrics and policies, of an endpoint on this host that is in no container.
pub const HOST: &str = "host";
/// The name, in metrics and policies, of an endpoint that is not on this host.
pub const EXTERNAL: &str = "external";

impl Party {
    /// The names that select it in queries: its container and service, or without a container the names in metrics.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        // Without a pid the endpoint may be on this host or outside it.
        let places: &[&str] = match (&self.container, &self.pid) {
            (Some(_), _) => &[],
            (None, Some(_)) => &[HOST],
            (None, None) => &[HOST, EXTERNAL],
        };
        [&self.container, &self.service].into_iter().flatten().map(String::as_str).chain(places.iter().copied())
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
    /// The class that httpx raises for what this socket received, whatever the client is.
    pub httpx: HttpxClass,
    /// Another class that the same packets allow.
    pub also_possible: Option<HttpxClass>,
    pub detail: Option<Detail>,
    /// The name of the error that the kernel set on the socket, or of the resolver's error.
    pub errno: Option<String>,
    pub phase: Phase,
    /// Whether the client's policy retries this class.
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

/// A cause that was considered and rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Alternative {
    pub kind: CauseKind,
    /// One sentence: the evidence against it.
    pub against: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineEntry {
    pub at: Utc,
    /// `at` minus the moment.
    pub offset_ns: Nanos,
    pub source: TimelineSource,
    pub text: String,
    /// For an entry that counts up: its identity, by which a later revision replaces it. Not part of the line.
    #[serde(skip)]
    #[schemars(skip)]
    pub counter: Option<CounterKey>,
}

/// The identity of a counting timeline entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CounterKey {
    pub socket: Cookie,
    pub kind: CounterKind,
}

/// What a timeline entry counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CounterKind {
    DroppedPackets,
    Retransmissions,
    FullQueue,
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

/// The name of a unit variant in the JSON. serde's names are also the names for people, so there is no second table.
#[must_use]
pub fn name_of<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}
