//! What is read beside the events when a process is about to end: its container's memory, and how its core is written.
//!
//! Both are a few small files in `/proc` and the cgroup file system, read at once: a moment later they are gone, and then
//! there is nothing to tell. It writes nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ::procfs::process::Process as Handle;

use crate::model::event::{CoreDump, MemoryUse};
use crate::model::ids::{ContainerId, Pid};
use crate::sources::procfs::CgroupTree;

/// A v1 limit that is none: the highest page-aligned number (`PAGE_COUNTER_MAX`, include/linux/page_counter.h).
const NO_LIMIT: u64 = 1 << 62;

/// How cores are written here, and what is left of the process that its pattern may name. `None` without `/proc`.
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

/// What the memory cgroup of a victim's container says. `None` where there is none to be found any more.
#[must_use]
pub fn memory(container: &ContainerId, victim: Pid) -> Option<MemoryUse> {
    let controller = Controller::find()?;
    let directory = controller.of_process(victim).or_else(|| controller.of_container(container))?;
    let number = |file: &str| fs::read_to_string(directory.join(file)).ok()?.trim().parse::<u64>().ok();
    let (limit, in_use, peak) = match controller.version {
        Version::One => ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes"),
        // "max" is no number; the peak is there since 5.19.
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

/// Where memory is accounted: in a hierarchy of its own (v1 and hybrid hosts), or in the v2 tree.
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

    /// The cgroup of the process itself: in a container that divides its memory, the one that ran full may be that.
    fn of_process(&self, pid: Pid) -> Option<PathBuf> {
        let groups = Handle::new(i32::try_from(pid.0).ok()?).ok()?.cgroups().ok()?;
        let own = groups.0.into_iter().find(|group| match self.version {
            Version::One => group.controllers.iter().any(|controller| controller == "memory"),
            Version::Two => group.hierarchy == 0,
        })?;
        // A dead one stands at the root, whose numbers are the host's.
        self.tree.directory(Path::new(&own.pathname)).filter(|directory| directory != self.tree.mount())
    }

    /// Where Docker's two cgroup drivers put a container.
    fn of_container(&self, container: &ContainerId) -> Option<PathBuf> {
        let places = [format!("/docker/{}", container.0), format!("/system.slice/docker-{}.scope", container.0)];
        places.iter().find_map(|place| self.tree.directory(Path::new(place)))
    }
}

#[cfg(test)]
mod tests {
    use super::{core, memory};
    use crate::model::ids::{ContainerId, Pid};

    #[test]
    fn this_processs_core_would_go_where_it_works() {
        let found = core(Pid(std::process::id())).unwrap();
        assert_eq!(found.cwd.as_deref(), std::env::current_dir().unwrap().to_str());
        assert_eq!(found.executable.as_deref(), std::env::current_exe().unwrap().to_str());
        assert!(!found.pattern.contains('\n'));
    }

    #[test]
    fn of_a_process_that_is_gone_only_the_pattern_is_known() {
        let found = core(Pid(u32::MAX)).unwrap();
        assert_eq!((found.cwd, found.uid), (None, None));
        assert_eq!(memory(&ContainerId("none".into()), Pid(u32::MAX)), None);
    }
}
