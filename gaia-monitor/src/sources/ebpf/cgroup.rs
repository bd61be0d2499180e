//! Location of the cgroup v2 tree: /sys/fs/cgroup, or elsewhere on hybrid hosts.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};
use procfs::process::Process;

/// Fixed inode number of the initial cgroup namespace (PROC_CGROUP_INIT_INO, include/linux/proc_ns.h).
const INITIAL: u64 = 0xEFFF_FFFB;

/// Moves the calling thread into the host's cgroup namespace. In a container, a monitor sees its own cgroup as the root,
/// and Compose before 2.15 cannot select the host's namespace. Call it before other threads are started. Without the
/// privilege or the host's pid namespace nothing changes; later checks report what is then missing.
pub fn enter_host_namespace() {
    if fs::metadata("/proc/self/ns/cgroup").is_ok_and(|found| found.ino() != INITIAL) {
        let _ = File::open("/proc/1/ns/cgroup").map(|host| setns(host, CloneFlags::CLONE_NEWCGROUP));
    }
}

/// The mount point of the whole v2 tree, from this process's mounts.
pub(super) fn v2_root() -> io::Result<PathBuf> {
    let mounts = Process::myself().and_then(|own| own.mountinfo()).map_err(io::Error::other)?;
    mounts
        .into_iter()
        .find(|mount| mount.fs_type == "cgroup2" && mount.root == "/")
        .map(|mount| mount.mount_point)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup2 file system is mounted"))
}
