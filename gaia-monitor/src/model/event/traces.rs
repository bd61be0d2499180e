//! Facts of enrichment: log lines of containers, memory use, core dumps, maintenance mode.
//!
//! The engine requests them for an incident (`Effect::Enrich`); none of them opens an incident.

use serde::{Deserialize, Serialize};

use crate::model::ids::{ContainerId, Pid};

/// One line of a container's log; `at` of the observation is Docker's time stamp.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogLine {
    pub container: ContainerId,
    pub stream: LogStream,
    /// Without control characters, cut to `log_line::LENGTH` characters.
    pub text: String,
}

/// The stream that a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    Stdout,
    Stderr,
    /// The only stream of a container with a terminal.
    Console,
}

/// Docker could not return a container's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsUnread {
    pub container: ContainerId,
    /// Docker's error message.
    pub why: String,
}

/// The state of a container's memory cgroup after the OOM killer selected a victim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUse {
    pub container: ContainerId,
    pub victim: Pid,
    /// Limit in bytes; `None` without a limit.
    pub limit: Option<u64>,
    /// Bytes in use at the time of reading, when some may already be freed.
    pub in_use: Option<u64>,
    /// The highest use ever, in bytes; it is still readable after the victim's exit.
    pub peak: Option<u64>,
}

/// How this host writes core files, and the values of the pattern's placeholders for one process (core(5)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreDump {
    pub pid: Pid,
    /// `/proc/sys/kernel/core_pattern`.
    pub pattern: String,
    /// `/proc/sys/kernel/core_uses_pid`.
    pub uses_pid: bool,
    /// The working directory as the process sees it; `None` if the process had already ended.
    pub cwd: Option<String>,
    pub executable: Option<String>,
    pub hostname: Option<String>,
    /// The owner of `/proc/PID`.
    pub uid: Option<u32>,
    /// The group of `/proc/PID`.
    pub gid: Option<u32>,
}

/// Whether GAIA's maintenance mode is active, by its file in a client's container: its helpers then never ask a fallback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceSeen {
    pub container: ContainerId,
    pub active: bool,
}
