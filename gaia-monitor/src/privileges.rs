//! Capabilities of each thread, with the reason: the only definition, and the code that applies it.
//!
//! Capabilities belong to threads, and a new thread inherits those of its creator. The few threads that need any start
//! first and reduce themselves to their own; then the main thread drops all, so the threads that it starts from then on
//! (the runtime, its blocking threads) have none. Nothing here gains a capability.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use ::procfs::process::Process;
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl::set_no_new_privs;

/// The task of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadRole {
    Main,
    Sources,
    Broker,
    Reader,
    Inventory,
    Interfaces,
    Dns,
    Netstat,
    Writer,
    Server,
}

/// A capability that a thread keeps, and the call that fails without it.
pub type Kept = (Capability, &'static str);

impl ThreadRole {
    pub const ALL: [ThreadRole; 10] = [
        ThreadRole::Main,
        ThreadRole::Sources,
        ThreadRole::Broker,
        ThreadRole::Reader,
        ThreadRole::Inventory,
        ThreadRole::Interfaces,
        ThreadRole::Dns,
        ThreadRole::Netstat,
        ThreadRole::Writer,
        ThreadRole::Server,
    ];

    /// The thread's name in `/proc/PID/task/TID/comm`.
    #[must_use]
    pub const fn thread(self) -> &'static str {
        match self {
            ThreadRole::Main => "gaia-monitor",
            ThreadRole::Sources => "sources",
            ThreadRole::Broker => "netns-broker",
            ThreadRole::Reader => "proc-reader",
            ThreadRole::Inventory => "inventory",
            ThreadRole::Interfaces => "interfaces",
            ThreadRole::Dns => "dns",
            ThreadRole::Netstat => "netstat",
            ThreadRole::Writer => "gaia-writer",
            ThreadRole::Server => "gaia-server",
        }
    }

    #[must_use]
    const fn work(self) -> &'static str {
        match self {
            ThreadRole::Main => "orders events and runs the engine",
            ThreadRole::Sources => "reads the BPF ring buffer and Docker, runs timers, updates the probe's filter maps",
            ThreadRole::Broker => "opens sockets inside containers' network namespaces",
            ThreadRole::Reader => {
                "reads a container's first process when Docker reports the container, and a process that is about to dump core"
            }
            ThreadRole::Inventory => "reads the processes and sockets that are older than the probe, then ends",
            ThreadRole::Interfaces => {
                "reads changes of network interfaces (rtnetlink(7)) from sockets that the broker opened"
            }
            ThreadRole::Dns => {
                "performs DNS lookups inside containers' network namespaces, with sockets that the broker opened"
            }
            ThreadRole::Netstat => "reads the kernel's counters of dropped handshakes from /proc/PID/net/netstat",
            ThreadRole::Writer => {
                "writes journal, recording and standard output: open files, in directories of its own user"
            }
            ThreadRole::Server => "serves HTTP on the port of `--listen`, which is already bound",
        }
    }

    /// The capabilities that the thread keeps. Updating the probe's maps needs no CAP_BPF:
    /// `kernel.unprivileged_bpf_disabled` forbids the creation of maps and programs, not the use of their descriptors
    /// (kernel/bpf/syscall.c, since 5.19).
    #[must_use]
    pub const fn keeps(self) -> &'static [Kept] {
        const PTRACE: &str = "/proc/PID/ns of processes with more capabilities than its own (ptrace_may_access)";
        match self {
            ThreadRole::Main
            | ThreadRole::Sources
            | ThreadRole::Interfaces
            | ThreadRole::Dns
            | ThreadRole::Netstat
            | ThreadRole::Writer
            | ThreadRole::Server => &[],
            ThreadRole::Broker => &[
                (Capability::CAP_SYS_ADMIN, "setns(2) into a network namespace"),
                (Capability::CAP_SYS_PTRACE, PTRACE),
            ],
            ThreadRole::Reader => &[(Capability::CAP_SYS_PTRACE, PTRACE)],
            ThreadRole::Inventory => &[
                (Capability::CAP_SYS_PTRACE, PTRACE),
                (Capability::CAP_DAC_READ_SEARCH, "/proc/PID/fd of other users' processes"),
            ],
        }
    }
}

/// Required at the start of a run: what the threads keep, and what attaching the probe needs.
const AT_START: [Kept; 6] = [
    (Capability::CAP_BPF, "load programs, create maps (CAP_SYS_ADMIN includes it)"),
    (Capability::CAP_PERFMON, "tracing programs, and reading kernel memory in them (CAP_SYS_ADMIN includes it)"),
    (Capability::CAP_NET_ADMIN, "attach the cgroup_skb programs"),
    (Capability::CAP_SYS_ADMIN, "kept by netns-broker"),
    (Capability::CAP_SYS_PTRACE, "kept by netns-broker, proc-reader and inventory"),
    (Capability::CAP_DAC_READ_SEARCH, "kept by inventory"),
];

/// Used at the start of a run if present.
const OPTIONAL: Kept = (Capability::CAP_SYS_NICE, "a real-time priority for interfaces; optional");

/// The capabilities that a run requires and this process does not have.
#[must_use]
pub fn missing() -> Vec<String> {
    // Without `/proc`, the probe's own check reports the problem.
    missing_of(Process::myself().and_then(|own| own.status()).map_or(u64::MAX, |status| status.capeff))
}

fn missing_of(held: u64) -> Vec<String> {
    let has = |capability: Capability| held & capability.bitmask() != 0;
    // CAP_SYS_ADMIN still includes the two that Linux 5.8 split off (bpf_capable, perfmon_capable in
    // include/linux/capability.h).
    let split_off = [Capability::CAP_BPF, Capability::CAP_PERFMON];
    let is_missing = |(capability, _): &Kept| {
        !(has(*capability) || split_off.contains(capability) && has(Capability::CAP_SYS_ADMIN))
    };
    AT_START.into_iter().filter(is_missing).map(|(capability, _)| capability.to_string()).collect()
}

/// Reduces the calling thread to what its role keeps, irrevocably.
///
/// # Errors
/// When the kernel refuses. It does not refuse a thread that only drops capabilities.
pub fn reduce(role: ThreadRole) -> io::Result<()> {
    reduce_to(role.keeps().iter().map(|(capability, _)| *capability).collect())
}

/// Reduces a writer's thread: to nothing, unless it creates files in a directory of another user (`foreign`).
///
/// # Errors
/// As [`reduce`].
pub fn reduce_writer(foreign: bool) -> io::Result<()> {
    let keeps = if foreign { [Capability::CAP_DAC_OVERRIDE].into_iter().collect() } else { CapsHashSet::new() };
    reduce_to(keeps)
}

/// Whether creating files in this directory takes CAP_DAC_OVERRIDE.
#[must_use]
pub fn is_foreign(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    const OTHERS_WRITE: u32 = 0o002;
    let own = nix::unistd::geteuid().as_raw();
    directory.metadata().is_ok_and(|found| found.uid() != own && found.mode() & OTHERS_WRITE == 0)
}

fn reduce_to(keeps: CapsHashSet) -> io::Result<()> {
    // Dropping from the bounding set needs CAP_SETPCAP. A unit without it already has a small bounding set, and this
    // process starts no programs.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(io::Error::other)? {
        caps::clear(None, CapSet::Bounding).map_err(io::Error::other)?;
    }
    set_no_new_privs()?;
    caps::clear(None, CapSet::Ambient).map_err(io::Error::other)?;
    caps::clear(None, CapSet::Inheritable).map_err(io::Error::other)?;
    let held = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    let keeps: CapsHashSet = keeps.intersection(&held).copied().collect();
    caps::set(None, CapSet::Effective, &keeps).map_err(io::Error::other)?;
    caps::set(None, CapSet::Permitted, &keeps).map_err(io::Error::other)
}

/// The tables of `docs/privileges.md`.
#[must_use]
pub fn tables() -> String {
    let mut text = String::from("| at the start | for |\n|---|---|\n");
    for (capability, why) in AT_START.into_iter().chain([OPTIONAL]) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "| {capability} | {why} |");
    }
    text.push_str("\n| thread | does | keeps | for |\n|---|---|---|---|\n");
    for role in ThreadRole::ALL {
        if role.keeps().is_empty() {
            let _ = writeln!(text, "| `{}` | {} | nothing | |", role.thread(), role.work());
        }
        for (capability, why) in role.keeps() {
            let _ = writeln!(text, "| `{}` | {} | {capability} | {why} |", role.thread(), role.work());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use caps::{CapSet, Capability};

    use super::{AT_START, ThreadRole, missing_of, reduce, tables};

    #[test]
    fn names_every_missing_capability() {
        assert!(missing_of(u64::MAX).is_empty());
        assert_eq!(missing_of(0).len(), AT_START.len());
        assert_eq!(missing_of(!Capability::CAP_NET_ADMIN.bitmask()), ["CAP_NET_ADMIN"]);
        let split_off = Capability::CAP_BPF.bitmask() | Capability::CAP_PERFMON.bitmask();
        assert!(missing_of(!split_off).is_empty(), "CAP_SYS_ADMIN includes both");
        assert_eq!(missing_of(!split_off & !Capability::CAP_SYS_ADMIN.bitmask()).len(), 3);
    }

    #[test]
    fn keeps_only_what_the_start_requires() {
        let start: BTreeSet<u8> = AT_START.iter().map(|(capability, _)| capability.index()).collect();
        let kept = ThreadRole::ALL.iter().flat_map(|role| role.keeps());
        assert!(kept.into_iter().all(|(capability, _)| start.contains(&capability.index())));
    }

    #[test]
    fn page_contains_the_generated_tables() {
        let page = include_str!("../docs/privileges.md");
        assert!(page.contains(&tables()), "docs/privileges.md must contain:\n{}", tables());
    }

    #[test]
    fn reduces_only_the_calling_thread() {
        let own = caps::read(None, CapSet::Effective).unwrap();
        for role in ThreadRole::ALL {
            let sets = std::thread::spawn(move || {
                reduce(role).unwrap();
                [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Ambient]
                    .map(|set| caps::read(None, set).unwrap())
            });
            let [effective, permitted, inheritable, ambient] = sets.join().unwrap();
            // An unprivileged test process has nothing to keep.
            let keeps: caps::CapsHashSet = role.keeps().iter().map(|(capability, _)| *capability).collect();
            let keeps: caps::CapsHashSet = keeps.intersection(&own).copied().collect();
            assert_eq!((&effective, &permitted), (&keeps, &keeps), "{role:?}");
            assert!(inheritable.is_empty() && ambient.is_empty(), "{role:?}");
        }
        assert_eq!(caps::read(None, CapSet::Effective).unwrap(), own);
    }
}
