//! Which thread holds which capability, and why: the one place that says so, and that makes it true.
//!
//! Capabilities belong to threads, and a new thread inherits its maker's. So the few that need any reduce themselves to
//! their own before they do anything, then the main thread gives up everything, and what it starts from then on (the
//! runtime, its blocking threads) never had any. Nothing here ever gains a capability.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use ::procfs::process::Process;
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl::set_no_new_privs;

/// Who works in a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Main,
    Sources,
    Broker,
    Reader,
    Inventory,
    Links,
    Names,
    Netstat,
    Writer,
    Server,
}

/// A capability that a thread keeps, and the call that fails without it.
pub type Kept = (Capability, &'static str);

impl Role {
    pub const ALL: [Role; 10] = [
        Role::Main,
        Role::Sources,
        Role::Broker,
        Role::Reader,
        Role::Inventory,
        Role::Links,
        Role::Names,
        Role::Netstat,
        Role::Writer,
        Role::Server,
    ];

    /// The thread's name in `/proc/PID/task/TID/comm`.
    #[must_use]
    pub const fn thread(self) -> &'static str {
        match self {
            Role::Main => "gaia-monitor",
            Role::Sources => "sources",
            Role::Broker => "netns-broker",
            Role::Reader => "proc-reader",
            Role::Inventory => "inventory",
            Role::Links => "links",
            Role::Names => "names",
            Role::Netstat => "netstat",
            Role::Writer => "gaia-writer",
            Role::Server => "gaia-server",
        }
    }

    #[must_use]
    const fn work(self) -> &'static str {
        match self {
            Role::Main => "orders and judges events",
            Role::Sources => "the probe's ring, Docker, timers; tells the probe's maps what else belongs to containers",
            Role::Broker => "opens sockets inside containers' network namespaces",
            Role::Reader => {
                "looks at a container's first process when Docker tells of it, and at one that is about to dump its core"
            }
            Role::Inventory => "reads once what was there before the probe, then ends",
            Role::Links => "reads what rtnetlink(7) tells of network interfaces, from the broker's sockets",
            Role::Names => "looks names up inside containers' network namespaces, by the broker's sockets",
            Role::Netstat => "reads what the kernel counts of handshakes that listeners drop, in /proc/PID/net/netstat",
            Role::Writer => {
                "writes journal, recording and standard output: files that are open, in directories of its own user"
            }
            Role::Server => "answers on the port of `--listen`, which was taken before",
        }
    }

    /// What it keeps. Maps of its own are changed without CAP_BPF: `kernel.unprivileged_bpf_disabled` forbids making maps
    /// and programs, not the use of descriptors (kernel/bpf/syscall.c, since 5.19).
    #[must_use]
    pub const fn keeps(self) -> &'static [Kept] {
        const PTRACE: &str = "/proc/PID/ns of processes with more capabilities than its own (ptrace_may_access)";
        match self {
            Role::Main | Role::Sources | Role::Links | Role::Names | Role::Netstat | Role::Writer | Role::Server => &[],
            Role::Broker => &[
                (Capability::CAP_SYS_ADMIN, "setns(2) into a network namespace"),
                (Capability::CAP_SYS_PTRACE, PTRACE),
            ],
            Role::Reader => &[(Capability::CAP_SYS_PTRACE, PTRACE)],
            Role::Inventory => &[
                (Capability::CAP_SYS_PTRACE, PTRACE),
                (Capability::CAP_DAC_READ_SEARCH, "/proc/PID/fd of other users' processes"),
            ],
        }
    }
}

/// What a run needs at its start: what the threads keep, and what attaching the probe takes.
const AT_START: [Kept; 6] = [
    (Capability::CAP_BPF, "load programs, make maps (CAP_SYS_ADMIN stands for it)"),
    (Capability::CAP_PERFMON, "tracing programs, and reading kernel memory in them (CAP_SYS_ADMIN stands for it)"),
    (Capability::CAP_NET_ADMIN, "attach the cgroup_skb programs"),
    (Capability::CAP_SYS_ADMIN, "kept by netns-broker"),
    (Capability::CAP_SYS_PTRACE, "kept by netns-broker, proc-reader and inventory"),
    (Capability::CAP_DAC_READ_SEARCH, "kept by inventory"),
];

/// What a run uses at its start where it has it, and goes on without.
const WELCOME: Kept = (Capability::CAP_SYS_NICE, "a real-time priority for links; the one that a run goes on without");

/// The capabilities that this process needs for a run and does not have.
#[must_use]
pub fn missing() -> Vec<String> {
    // Without `/proc` the probe's own check says what is wrong.
    missing_of(Process::myself().and_then(|own| own.status()).map_or(u64::MAX, |status| status.capeff))
}

fn missing_of(held: u64) -> Vec<String> {
    let has = |capability: Capability| held & capability.bitmask() != 0;
    // As before Linux 5.8, which split these two off (include/linux/capability.h: bpf_capable, perfmon_capable).
    let split_off = [Capability::CAP_BPF, Capability::CAP_PERFMON];
    let is_missing = |(capability, _): &Kept| {
        !(has(*capability) || split_off.contains(capability) && has(Capability::CAP_SYS_ADMIN))
    };
    AT_START.into_iter().filter(is_missing).map(|(capability, _)| capability.to_string()).collect()
}

/// Reduces the calling thread to what its role keeps, for ever.
///
/// # Errors
/// When the kernel refuses, which it does not do to a thread that only gives up.
pub fn reduce(role: Role) -> io::Result<()> {
    reduce_to(role.keeps().iter().map(|(capability, _)| *capability).collect())
}

/// A writer's thread: nothing, unless `foreign` says that new files belong into a directory of somebody else.
///
/// # Errors
/// As [`reduce`].
pub fn reduce_writer(foreign: bool) -> io::Result<()> {
    let keeps = if foreign { [Capability::CAP_DAC_OVERRIDE].into_iter().collect() } else { CapsHashSet::new() };
    reduce_to(keeps)
}

/// New files can be made in this directory only by the right to write anywhere.
#[must_use]
pub fn is_foreign(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    const OTHERS_WRITE: u32 = 0o002;
    let own = nix::unistd::geteuid().as_raw();
    directory.metadata().is_ok_and(|found| found.uid() != own && found.mode() & OTHERS_WRITE == 0)
}

fn reduce_to(keeps: CapsHashSet) -> io::Result<()> {
    // Dropping from the bounding set needs CAP_SETPCAP. A unit that does not give it has a small bounding set already, and
    // no program is ever started from here.
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
    for (capability, why) in AT_START.into_iter().chain([WELCOME]) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "| {capability} | {why} |");
    }
    text.push_str("\n| thread | does | keeps | for |\n|---|---|---|---|\n");
    for role in Role::ALL {
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

    use super::{AT_START, Role, missing_of, reduce, tables};

    #[test]
    fn every_capability_that_is_missing_is_named() {
        assert!(missing_of(u64::MAX).is_empty());
        assert_eq!(missing_of(0).len(), AT_START.len());
        assert_eq!(missing_of(!Capability::CAP_NET_ADMIN.bitmask()), ["CAP_NET_ADMIN"]);
        let split_off = Capability::CAP_BPF.bitmask() | Capability::CAP_PERFMON.bitmask();
        assert!(missing_of(!split_off).is_empty(), "CAP_SYS_ADMIN stands for both");
        assert_eq!(missing_of(!split_off & !Capability::CAP_SYS_ADMIN.bitmask()).len(), 3);
    }

    #[test]
    fn nothing_is_kept_that_the_start_does_not_ask_for() {
        let start: BTreeSet<u8> = AT_START.iter().map(|(capability, _)| capability.index()).collect();
        let kept = Role::ALL.iter().flat_map(|role| role.keeps());
        assert!(kept.into_iter().all(|(capability, _)| start.contains(&capability.index())));
    }

    #[test]
    fn the_page_has_the_tables_of_the_code() {
        let page = include_str!("../docs/privileges.md");
        assert!(page.contains(&tables()), "docs/privileges.md must contain:\n{}", tables());
    }

    #[test]
    fn a_reduced_thread_has_what_its_role_keeps_and_the_others_are_left_alone() {
        let own = caps::read(None, CapSet::Effective).unwrap();
        for role in Role::ALL {
            let sets = std::thread::spawn(move || {
                reduce(role).unwrap();
                [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Ambient]
                    .map(|set| caps::read(None, set).unwrap())
            });
            let [effective, permitted, inheritable, ambient] = sets.join().unwrap();
            // Without root there is nothing to keep.
            let keeps: caps::CapsHashSet = role.keeps().iter().map(|(capability, _)| *capability).collect();
            let keeps: caps::CapsHashSet = keeps.intersection(&own).copied().collect();
            assert_eq!((&effective, &permitted), (&keeps, &keeps), "{role:?}");
            assert!(inheritable.is_empty() && ambient.is_empty(), "{role:?}");
        }
        assert_eq!(caps::read(None, CapSet::Effective).unwrap(), own);
    }
}
