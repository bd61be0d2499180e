//! What must be true of the host before the probe can work: checked by `doctor`, and by `run` where it is fatal.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::utsname::uname;
use procfs::process::Process;

use super::cgroup;
use super::load::ProbeError;

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub outcome: Outcome,
    /// What was found.
    pub detail: String,
    /// What to do about it; empty if nothing.
    pub fix: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Warn,
    Fail,
}

/// The oldest kernel that the project is tested on.
const OLDEST: (u32, u32) = (6, 12);

/// Inode number of the initial pid namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h): fixed since 3.8.
const HOST_PIDNS: u64 = 0xEFFF_FFFC;

/// A setting that exists in the host's network namespace alone (`net_core_table`, net/core/sysctl_net_core.c). The
/// namespace's inode number says nothing before 6.18, and /proc/1/ns/net may not be readable for want of capabilities.
const HOST_ONLY_SETTING: &str = "/proc/sys/net/core/netdev_max_backlog";

const CAPABILITIES: [(u32, &str); 3] = [(39, "CAP_BPF"), (38, "CAP_PERFMON"), (12, "CAP_NET_ADMIN")];
const CAP_SYS_ADMIN: u32 = 21;

/// Every check, in the order in which they matter.
#[must_use]
pub fn preflight() -> Vec<Check> {
    vec![
        kernel_version(),
        type_information(),
        capabilities(),
        lockdown(),
        pid_namespace(),
        net_namespace(),
        cgroup_tree(),
    ]
}

fn check(name: &'static str, outcome: Outcome, detail: impl Into<String>, fix: &str) -> Check {
    let fix = if outcome == Outcome::Ok { String::new() } else { fix.to_owned() };
    Check { name, outcome, detail: detail.into(), fix }
}

fn kernel_version() -> Check {
    const NAME: &str = "kernel";
    let release = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let outcome = match version(&release) {
        Some(version) if version >= OLDEST => Outcome::Ok,
        Some(_) | None => Outcome::Warn,
    };
    check(NAME, outcome, format!("Linux {release}"), "use Linux 6.12 or newer: older ones are not tested")
}

pub(super) fn kernel_is_old() -> bool {
    kernel_version().outcome != Outcome::Ok
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn type_information() -> Check {
    const NAME: &str = "type information";
    const PATH: &str = "/sys/kernel/btf/vmlinux";
    match fs::metadata(PATH).and_then(|_| fs::File::open(PATH)) {
        Ok(_) => check(NAME, Outcome::Ok, PATH, ""),
        Err(error) => check(
            NAME,
            Outcome::Fail,
            format!("{PATH}: {error}"),
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, and mount /sys",
        ),
    }
}

fn capabilities() -> Check {
    const NAME: &str = "capabilities";
    const FIX: &str = "run as root, or give the service CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN";
    let held = match Process::myself().and_then(|own| own.status()) {
        Ok(status) => status.capeff,
        Err(error) => return check(NAME, Outcome::Fail, format!("/proc/self/status: {error}"), "mount /proc"),
    };
    let has = |bit: u32| held >> bit & 1 == 1;
    // CAP_SYS_ADMIN stands for the first two, as it did before 5.8.
    let lacking: Vec<&str> = CAPABILITIES
        .into_iter()
        .filter(|(bit, name)| !has(*bit) && (*name == "CAP_NET_ADMIN" || !has(CAP_SYS_ADMIN)))
        .map(|(_, name)| name)
        .collect();
    if lacking.is_empty() {
        check(NAME, Outcome::Ok, "CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN", "")
    } else {
        check(NAME, Outcome::Fail, format!("lacks {}", lacking.join(", ")), FIX)
    }
}

pub(super) fn lockdown_is_confidential() -> bool {
    fs::read_to_string("/sys/kernel/security/lockdown").is_ok_and(|modes| modes.contains("[confidentiality]"))
}

fn lockdown() -> Check {
    const NAME: &str = "lockdown";
    if lockdown_is_confidential() {
        check(
            NAME,
            Outcome::Fail,
            "confidentiality: programs may not read kernel memory",
            "boot with lockdown=integrity, or without",
        )
    } else {
        check(NAME, Outcome::Ok, "kernel memory may be read", "")
    }
}

fn pid_namespace() -> Check {
    const NAME: &str = "pid namespace";
    match fs::metadata("/proc/self/ns/pid") {
        Ok(found) if found.ino() == HOST_PIDNS => check(NAME, Outcome::Ok, "the host's", ""),
        Ok(found) => check(
            NAME,
            Outcome::Fail,
            format!("not the host's (pid:[{}])", found.ino()),
            "start the monitor's container with --pid=host",
        ),
        Err(error) => check(NAME, Outcome::Fail, format!("/proc/self/ns/pid: {error}"), "mount /proc"),
    }
}

fn net_namespace() -> Check {
    const NAME: &str = "network namespace";
    if Path::new(HOST_ONLY_SETTING).exists() {
        check(NAME, Outcome::Ok, "the host's", "")
    } else {
        check(
            NAME,
            Outcome::Fail,
            format!("not the host's ({HOST_ONLY_SETTING} does not exist)"),
            "start the monitor's container with --network=host",
        )
    }
}

fn cgroup_tree() -> Check {
    const NAME: &str = "cgroup v2";
    match cgroup::v2_root() {
        Ok(root) => check(NAME, Outcome::Ok, root.display().to_string(), ""),
        Err(error) => check(
            NAME,
            Outcome::Fail,
            error.to_string(),
            "mount the v2 tree: mount -t cgroup2 none /sys/fs/cgroup/unified; in a container, mount the host's /sys/fs/cgroup",
        ),
    }
}

/// Refuses a start outside the host's namespaces: every pid and every "not the host's" would be wrong.
pub(super) fn placement() -> Result<(), ProbeError> {
    if pid_namespace().outcome == Outcome::Fail {
        return Err(ProbeError::Misplaced {
            what: "does not run in the host's pid namespace",
            fix: "start its container with --pid=host",
        });
    }
    if net_namespace().outcome == Outcome::Fail {
        return Err(ProbeError::Misplaced {
            what: "does not run in the host's network namespace",
            fix: "start its container with --network=host",
        });
    }
    Ok(())
}

/// Inode number of this process's network namespace, which [`placement`] found to be the host's.
pub(super) fn host_netns() -> Result<u32, ProbeError> {
    let inode = fs::metadata("/proc/self/ns/net").ok().and_then(|found| u32::try_from(found.ino()).ok());
    inode.ok_or(ProbeError::Misplaced {
        what: "cannot tell its own network namespace (/proc/self/ns/net)",
        fix: "mount /proc",
    })
}

#[cfg(test)]
mod tests {
    use super::{Outcome, preflight, version};

    #[test]
    fn versions_are_read_from_releases() {
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version("5.10.0-46-cloud-amd64"), Some((5, 10)));
        assert_eq!(version("rolling"), None);
    }

    #[test]
    fn a_finding_that_is_not_ok_says_what_to_do() {
        for check in preflight() {
            assert_eq!(check.outcome == Outcome::Ok, check.fix.is_empty(), "{check:?}");
            assert!(!check.detail.is_empty(), "{check:?}");
        }
    }
}
