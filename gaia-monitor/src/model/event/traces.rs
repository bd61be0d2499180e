//! What a container leaves behind beside its traffic: the lines of its log, the memory it held, where its core went.
//!
//! The engine asks for these when it tells an incident (`Effect::Wanted`); nothing here opens one.

use serde::{Deserialize, Serialize};

use crate::model::ids::{ContainerId, Pid};

/// One line of a container's log; Docker's own time stamp is the observation's `at`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogLine {
    pub container: ContainerId,
    pub stream: LogStream,
    /// Without control characters, cut to `logline::LENGTH` characters.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    Stdout,
    Stderr,
    /// A container with a terminal has one stream for both.
    Console,
}

/// Docker cannot give a container's log back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsUnread {
    pub container: ContainerId,
    /// Docker's own words.
    pub why: String,
}

/// What a container's memory cgroup said when the OOM killer had chosen a victim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUse {
    pub container: ContainerId,
    pub victim: Pid,
    /// Bytes; `None` without a limit.
    pub limit: Option<u64>,
    /// In use when it was read, some of it already given back.
    pub in_use: Option<u64>,
    /// The most that was ever in use. It outlives the victim.
    pub peak: Option<u64>,
}

/// How this host was told to write core files, and what the pattern's placeholders stand for (core(5)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreDump {
    pub pid: Pid,
    /// `/proc/sys/kernel/core_pattern`.
    pub pattern: String,
    /// `/proc/sys/kernel/core_uses_pid`.
    pub uses_pid: bool,
    /// As the process saw it; `None` where it was gone already.
    pub cwd: Option<String>,
    pub executable: Option<String>,
    pub hostname: Option<String>,
    /// In the process's own user namespace.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}
