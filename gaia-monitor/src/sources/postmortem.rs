//! Data about a process that is about to end, read on request: its container's memory, and how its core is written.
//!
//! Both come from a few small files in `/proc` and the cgroup file system, which disappear with the process; if they are
//! already missing, nothing is reported. Nothing is written.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ::procfs::process::Process as Handle;

use crate::model::event::{CoreDump, MemoryUse};
use crate::model::ids::{ContainerId, Pid};
use crate::sources::procfs::CgroupTree;

/// From here on, a v1 value means no limit: the kernel writes the highest page-aligned number (`PAGE_COUNTER_MAX`, include/linux/page_counter.h).
const NO_LIMIT: u64 = 1 << 62;

/// The host's core pattern, and the properties of the process that the pattern may refer to. `None` without `/proc`.
#[must_use]
pub fn core(pid: Pid) -> Option<CoreDump> {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").ok()?;
    let uses_pid = fs::read_to_string("/proc/sys/kernel/core_uses_pid").is_ok_and(|text| text.trim() != "0");
    let own = PathBuf::from(format!("/proc/{}", pid.0));
    let link = |name: &str| {
        let target = fs::read_link(own.join(name)).ok()?;
        Some(target.to_str()?.trim_end_matches(" (deleted)").to_owned())
    };
    let hostname = fs::read_to_string(own.join("root/etc/hostname")).ok();
    let ids = fs::metadata(&own).ok().map(|found| (found.uid(), found.gid()));
    Some(CoreDump {
        pid,
        pattern: pattern.trim_end().to_owned(),
        uses_pid,
        cwd: link("cwd"),
        executable: link("exe"),
        hostname: hostname.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()),
        uid: ids.map(|(uid, _)| uid),
        gid: ids.map(|(_, gid)| gid),
    })
}

/// Limit and use of the memory cgroup of a victim's container. `None` if the cgroup no longer exists.
#[must_use]
pub fn memory(container: &ContainerId, victim: Pid) -> Option<MemoryUse> {
    let controller = Controller::find()?;
    let directory = controller.of_process(victim).or_else(|| controller.of_container(container))?;
    let number = |file: &str| fs::read_to_string(directory.join(file)).ok()?.trim().parse::<u64>().ok();
    let (limit, in_use, peak) = match controller.version {
        Version::One => ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes"),
        // "max" is not a number; memory.peak exists since 5.19.
        Version::Two => ("memory.max", "memory.current", "memory.peak"),
    };
    let limit = number(limit).filter(|limit| *limit < NO_LIMIT);
    Some(MemoryUse { container: container.clone(), victim, limit, in_use: number(in_use), peak: number(peak) })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The hierarchy that accounts for memory: its own (v1 and hybrid hosts), or the v2 tree.
struct Controller {
    version: Version,
    tree: CgroupTree,
}

impl Controller {
    fn find() -> Option<Self> {
        let mounts = Handle::myself().ok()?.mountinfo().ok()?.0;
        let one = mounts.iter().find(|mount| mount.fs_type == "cgroup" && mount.super_options.contains_key("memory"));
        let (version, mount) = match one {
            Some(mount) => (Version::One, mount),
            None => (Version::Two, mounts.iter().find(|mount| mount.fs_type == "cgroup2")?),
        };
        Some(Self { version, tree: CgroupTree::new(mount.mount_point.clone(), PathBuf::from(&mount.root)) })
    }

    /// The cgroup of the process itself, which may be the one at its limit if a container has several.
    fn of_process(&self, pid: Pid) -> Option<PathBuf> {
        let groups = Handle::new(i32::try_from(pid.0).ok()?).ok()?.cgroups().ok()?;
        let own = groups.0.into_iter().find(|group| match self.version {
            Version::One => group.controllers.iter().any(|controller| controller == "memory"),
            Version::Two => group.hierarchy == 0,
        })?;
        // A dead process is in the root cgroup, which has the numbers of the host.
        self.tree.directory(Path::new(&own.pathname)).filter(|directory| directory != self.tree.mount())
    }

    /// The cgroup of a container under either of Docker's cgroup drivers.
    fn of_container(&self, container: &ContainerId) -> Option<PathBuf> {
        let paths = [format!("/docker/{}", container.0), format!("/system.slice/docker-{}.scope", container.0)];
        paths.iter().find_map(|path| self.tree.directory(Path::new(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::{core, memory};
    use crate::model::ids::{ContainerId, Pid};

    #[test]
    fn reads_the_core_settings_of_this_process() {
        let found = core(Pid(std::process::id())).unwrap();
        assert_eq!(found.cwd.as_deref(), std::env::current_dir().unwrap().to_str());
        assert_eq!(found.executable.as_deref(), std::env::current_exe().unwrap().to_str());
        assert!(!found.pattern.contains('\n'));
    }

    #[test]
    fn reads_only_the_pattern_when_the_process_has_ended() {
        let found = core(Pid(u32::MAX)).unwrap();
        assert_eq!((found.cwd, found.uid), (None, None));
        assert_eq!(memory(&ContainerId("none".into()), Pid(u32::MAX)), None);
    }
}
