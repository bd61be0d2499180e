//! Facts about processes: start, program, exit and signals.

use serde::{Deserialize, Serialize};

use crate::model::ids::{CgroupId, NetnsId, Pid};

/// The task in whose context the probe observed a fact. On a bridge the kernel handles packets of one side in the task
/// of the other, so the task is reliable only for transitions that a process makes itself (connect, listen, close).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub pid: Pid,
    pub comm: String,
    /// The task has passed `exit_signals()` (PF_EXITING).
    pub exiting: bool,
}

/// `sched:sched_process_fork` of a new process (not of a thread).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessStarted {
    pub process: Process,
    pub parent: Pid,
    /// The parent is outside the child's pid namespace: the child entered it (docker exec, a health check, runc
    /// itself).
    pub parent_outside: bool,
}

/// `sched:sched_process_exec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessExec {
    pub process: Process,
}

/// `sched:sched_process_exit` of the last thread of a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessExited {
    pub process: Process,
    pub parent: Pid,
    pub parent_outside: bool,
    pub status: ExitStatus,
    /// The process held a listening TCP socket. Also false on kernels that report the exit after the files are closed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub listens: bool,
}

/// A process with its identities in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: Pid,
    /// The pid in its own pid namespace; 1 is the first process of a container.
    pub ns_pid: u32,
    /// The depth of its pid namespace; 0 is the host's.
    pub ns_level: u32,
    pub cgroup: CgroupId,
    /// 0 if the exiting task had already released its namespaces.
    pub netns: NetnsId,
    pub comm: String,
}

/// The exit status, as `wait(2)` returns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    Code { code: u8 },
    Signal { signal: String, core: bool },
}

impl ExitStatus {
    /// The exit code of a process that no signal ended.
    #[must_use]
    pub fn code(&self) -> Option<u8> {
        match self {
            Self::Code { code } => Some(*code),
            Self::Signal { .. } => None,
        }
    }

    /// The signal that ended the process.
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
    /// The name: SIGKILL …
    pub signal: String,
    pub target: Process,
    pub sender: SignalSender,
    /// The kernel accepted the signal for delivery; false if it was ignored or already pending.
    pub delivered: bool,
    /// The resource limit that the kernel enforced with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<ResourceLimit>,
}

/// A limit of setrlimit(2) that the kernel enforces by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceLimit {
    /// RLIMIT_CPU, or RLIMIT_RTTIME of a real-time process.
    Cpu,
    /// RLIMIT_FSIZE.
    FileSize,
}

/// The origin of a signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalSender {
    /// The kernel: a fault (SEGV, BUS …), the OOM killer, a tty.
    Kernel,
    Process(Process),
}

/// `signal:signal_deliver` of a fatal signal that a process raised itself, or that the kernel raised for its fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashSite {
    pub process: Process,
    pub signal: String,
    /// Name of the thread.
    pub thread: String,
    /// A system call of the process raised the signal: the instruction is that call.
    pub raised: bool,
    /// File mapping of the instruction; `None` outside of one, or if the memory map was locked.
    pub module: Option<ModuleOffset>,
    /// The first frame outside that module, of a raised signal; `None` where frame pointers do not lead there.
    pub caller: Option<ModuleOffset>,
    /// Memory address that the instruction accessed; `None` for a signal without one.
    pub address: Option<u64>,
}

/// A place in a file that is mapped into memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleOffset {
    /// Name without its directory.
    pub file: String,
    pub offset: u64,
}

/// `sock:sk_data_ready` of the Docker engine's socket: a process connected to it or sent to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineUsed {
    pub process: Process,
}

/// A process of a container, found in `/proc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessSeen {
    pub process: Process,
    pub parent: Pid,
    pub parent_outside: bool,
    /// The process holds a listening socket or an accepted connection.
    pub serves: bool,
}
