//! The story line, schema `gaia-monitor.story/1`: one request of one client with all its attempts. Stable: a change of a
//! field is a change of the schema version.
//!
//! Every field is always present: an absent value is `null`. The doc comments are the descriptions in the JSON Schema
//! (`assets story-schema`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ids::IncidentId;
use super::incident::{ClientError, Confidence, HttpxClass, Party, Role};
use super::time::Utc;

/// The value of the field `schema` of every story.
pub const SCHEMA: &str = "gaia-monitor.story/1";

/// One request that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Story {
    /// Always `gaia-monitor.story/1`.
    pub schema: String,
    /// Derived from the client's process and the first attempt.
    pub id: String,
    pub client: Party,
    /// First byte or query of the first attempt.
    pub begun_at: Utc,
    /// End of the last attempt.
    pub ended_at: Utc,
    /// In order.
    pub attempts: Vec<Attempt>,
    pub fallback: Fallback,
    pub outcome: StoryOutcome,
    pub caller_saw: CallerSaw,
    /// `certain`: every attempt and its end was observed, and no other request of the process to the same pair was between
    /// attempts at the same time. `likely`: an end was inferred. `possible`: the attempts of two requests cannot be
    /// distinguished.
    pub confidence: Confidence,
}

/// One attempt at one server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    pub begun_at: Utc,
    pub ended_at: Utc,
    pub server: Party,
    pub role: Role,
    pub outcome: AttemptOutcome,
    /// HTTP status of the response; null if its header section was not observed.
    pub status: Option<u16>,
    /// Null for a response.
    pub client_error: Option<ClientError>,
    /// The incident that lists this attempt.
    pub incident: Option<IncidentId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// A complete response, whatever its status.
    Response,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fallback {
    pub state: FallbackState,
    /// Why it was not asked; otherwise null.
    pub reason: Option<NotAsked>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FallbackState {
    Asked,
    NotAsked,
    /// No fallback is declared for the server.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotAsked {
    /// The policy does not retry the class of the last error.
    ClassNotRetried,
    /// The policy does not ask the fallback after the last status.
    StatusNotRetried,
    /// The maintenance file in the client's container was seen active.
    Maintenance,
    /// The primary responded before.
    SucceededBefore,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoryOutcome {
    PrimaryAnswered,
    FallbackAnswered,
    Failed,
}

/// What the code that made the request got in the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallerSaw {
    pub status: Option<u16>,
    pub httpx: Option<HttpxClass>,
    /// Index in `attempts` of the attempt that this comes from.
    pub attempt: usize,
    /// Indexes of the other attempts whose error, or error status, the caller did not get.
    pub swallowed: Vec<usize>,
}

impl Story {
    /// The incidents of its attempts.
    pub fn incidents(&self) -> impl Iterator<Item = &IncidentId> {
        self.attempts.iter().filter_map(|attempt| attempt.incident.as_ref())
    }
}
