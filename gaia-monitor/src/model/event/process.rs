//! Facts of processes: their start, end and signals.

use serde::{Deserialize, Serialize};

use crate::model::ids::{CgroupId, NetnsId, Pid};

/// The task in whose context a fact was seen. On a bridge one side's facts run in the other side's task: only
/// transitions that a process makes itself (connect, listen, close) may trust it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub pid: Pid,
    pub comm: String,
    /// It is past `exit_signals()` (PF_EXITING).
    pub exiting: bool,
}

/// `sched:sched_process_fork` for a new process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessStarted {
    pub process: Process,
    pub parent: Pid,
    /// The parent stands outside the child's pid namespace: entered (docker exec, a health check, runc itself).
    pub parent_outside: bool,
}

/// `sched:sched_process_exec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessExec {
    pub process: Process,
}

/// `sched:sched_process_exit` of the last thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessExited {
    pub process: Process,
    pub parent: Pid,
    pub parent_outside: bool,
    pub status: ExitStatus,
    /// It still held a listening TCP socket. False also where the kernel tells the end after the files are closed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub listens: bool,
}

/// A process as the kernel names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: Pid,
    /// Its number in its own pid namespace: 1 is a container's first process.
    pub ns_pid: u32,
    /// Depth of its pid namespace; 0 is the host's.
    pub ns_level: u32,
    pub cgroup: CgroupId,
    /// 0 where the dying task had no namespaces any more.
    pub netns: NetnsId,
    pub comm: String,
}

/// As `wait(2)` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    Code { code: u8 },
    Signal { signal: String, core: bool },
}

impl ExitStatus {
    /// The exit code of a process that ended by itself.
    #[must_use]
    pub fn code(&self) -> Option<u8> {
        match self {
            Self::Code { code } => Some(*code),
            Self::Signal { .. } => None,
        }
    }

    /// The signal that ended it.
    #[must_use]
    pub fn signal(&self) -> Option<&str> {
        match self {
            Self::Signal { signal, .. } => Some(signal),
            Self::Code { .. } => None,
        }
    }

    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code() == Some(0)
    }
}

/// `signal:signal_generate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// SIGKILL …
    pub signal: String,
    pub target: Process,
    pub sender: SignalSender,
    /// The kernel accepted it for delivery; false: ignored or already pending.
    pub delivered: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalSender {
    /// The kernel itself: a fault (SEGV, BUS …), the OOM killer, a tty.
    Kernel,
    Process(Process),
}

/// A process found in `/proc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessSeen {
    pub process: Process,
    pub parent: Pid,
    pub parent_outside: bool,
    /// It holds a listening socket or an accepted connection.
    pub serves: bool,
}
