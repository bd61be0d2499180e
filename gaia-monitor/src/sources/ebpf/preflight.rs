//! Properties that the host must have before the probe can work. `doctor` checks all of them, `run` those that are
//! fatal.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::utsname::uname;
use procfs::process::Process;

use super::cgroup;
use super::finding::{Finding, Status};
use super::load::ProbeError;
use crate::sources::procfs::{INITIAL_PID_NAMESPACE, OWN_NETNS};

/// The oldest kernel that the project is tested on.
const OLDEST: (u32, u32) = (6, 12);

/// A setting that exists in the host's network namespace alone (`net_core_table`, net/core/sysctl_net_core.c). The
/// namespace's inode number is not fixed before 6.18, and /proc/1/ns/net is unreadable without capabilities.
const HOST_ONLY_SETTING: &str = "/proc/sys/net/core/netdev_max_backlog";

const CAPABILITIES: [(u32, &str); 3] = [(39, "CAP_BPF"), (38, "CAP_PERFMON"), (12, "CAP_NET_ADMIN")];
const CAP_SYS_ADMIN: u32 = 21;

/// Every check, most fundamental first.
#[must_use]
pub fn preflight() -> Vec<Finding> {
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

fn kernel_version() -> Finding {
    const NAME: &str = "kernel";
    let release = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let detail = format!("Linux {release}");
    match version(&release) {
        Some(version) if version >= OLDEST => Finding::ok(NAME, detail),
        Some(_) | None => Finding::warning(NAME, detail, "use Linux 6.12 or newer: older kernels are not tested"),
    }
}

pub(super) fn kernel_is_old() -> bool {
    kernel_version().status != Status::Ok
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn type_information() -> Finding {
    const NAME: &str = "type information";
    const PATH: &str = "/sys/kernel/btf/vmlinux";
    const FIX: &str = "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, and mount /sys";
    match fs::metadata(PATH).and_then(|_| fs::File::open(PATH)) {
        Ok(_) => Finding::ok(NAME, PATH),
        Err(error) => Finding::failed(NAME, format!("{PATH}: {error}"), FIX),
    }
}

fn capabilities() -> Finding {
    const NAME: &str = "capabilities";
    const FIX: &str = "run as root, or give the service CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN";
    let held = match Process::myself().and_then(|own| own.status()) {
        Ok(status) => status.capeff,
        Err(error) => return Finding::failed(NAME, format!("/proc/self/status: {error}"), "mount /proc"),
    };
    let has = |bit: u32| held >> bit & 1 == 1;
    // CAP_SYS_ADMIN includes the first two, as it did before 5.8.
    let missing: Vec<&str> = CAPABILITIES
        .into_iter()
        .filter(|(bit, name)| !has(*bit) && (*name == "CAP_NET_ADMIN" || !has(CAP_SYS_ADMIN)))
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() {
        Finding::ok(NAME, "CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN")
    } else {
        Finding::failed(NAME, format!("missing {}", missing.join(", ")), FIX)
    }
}

pub(super) fn lockdown_is_confidential() -> bool {
    fs::read_to_string("/sys/kernel/security/lockdown").is_ok_and(|modes| modes.contains("[confidentiality]"))
}

fn lockdown() -> Finding {
    const NAME: &str = "lockdown";
    if lockdown_is_confidential() {
        let detail = "confidentiality: BPF programs may not read kernel memory";
        Finding::failed(NAME, detail, "boot with lockdown=integrity, or without lockdown")
    } else {
        Finding::ok(NAME, "BPF programs may read kernel memory")
    }
}

fn pid_namespace() -> Finding {
    const NAME: &str = "pid namespace";
    match fs::metadata("/proc/self/ns/pid") {
        Ok(found) if found.ino() == INITIAL_PID_NAMESPACE => Finding::ok(NAME, "the host's"),
        Ok(found) => {
            let detail = format!("not the host's (pid:[{}])", found.ino());
            Finding::failed(NAME, detail, "start the monitor's container with --pid=host")
        }
        Err(error) => Finding::failed(NAME, format!("/proc/self/ns/pid: {error}"), "mount /proc"),
    }
}

fn net_namespace() -> Finding {
    const NAME: &str = "network namespace";
    if Path::new(HOST_ONLY_SETTING).exists() {
        Finding::ok(NAME, "the host's")
    } else {
        let detail = format!("not the host's ({HOST_ONLY_SETTING} does not exist)");
        Finding::failed(NAME, detail, "start the monitor's container with --network=host")
    }
}

fn cgroup_tree() -> Finding {
    const NAME: &str = "cgroup v2";
    const FIX: &str = "mount the v2 tree: mount -t cgroup2 none /sys/fs/cgroup/unified; in a container, mount the \
                       host's /sys/fs/cgroup";
    match cgroup::v2_root() {
        Ok(root) => Finding::ok(NAME, root.display().to_string()),
        Err(error) => Finding::failed(NAME, error.to_string(), FIX),
    }
}

/// Refuses a start outside the host's namespaces, where every pid and every comparison with the host would be wrong.
pub(super) fn placement() -> Result<(), ProbeError> {
    if pid_namespace().status == Status::Failed {
        return Err(ProbeError::Misplaced {
            what: "does not run in the host's pid namespace",
            fix: "start its container with --pid=host",
        });
    }
    if net_namespace().status == Status::Failed {
        return Err(ProbeError::Misplaced {
            what: "does not run in the host's network namespace",
            fix: "start its container with --network=host",
        });
    }
    Ok(())
}

/// Inode number of this process's network namespace, which [`placement`] found to be the host's.
pub(super) fn host_netns() -> Result<u32, ProbeError> {
    let inode = fs::metadata(OWN_NETNS).ok().and_then(|found| u32::try_from(found.ino()).ok());
    inode.ok_or(ProbeError::Misplaced {
        what: "cannot read its own network namespace (/proc/self/ns/net)",
        fix: "mount /proc",
    })
}

#[cfg(test)]
mod tests {
    use super::{Status, preflight, version};

    #[test]
    fn reads_versions_from_releases() {
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version("5.10.0-46-cloud-amd64"), Some((5, 10)));
        assert_eq!(version("rolling"), None);
    }

    #[test]
    fn names_a_fix_unless_ok() {
        for finding in preflight() {
            assert_eq!(finding.status == Status::Ok, finding.fix.is_none(), "{finding:?}");
            assert!(!finding.detail.is_empty(), "{finding:?}");
        }
    }
}
