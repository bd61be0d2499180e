//! Where the cgroup v2 tree is mounted: at /sys/fs/cgroup, on hybrid hosts elsewhere.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};
use procfs::process::Process;

/// The initial cgroup namespace's fixed inode number (PROC_CGROUP_INIT_INO, include/linux/proc_ns.h).
const INITIAL: u64 = 0xEFFF_FFFB;

/// Makes the calling thread see the host's cgroups. A monitor in a container of its own would see its own as the root, and
/// Compose before 2.15 has no way to ask for another. Call it before other threads are started; without the rights or the
/// host's pids nothing changes, and what cannot be found then is said by whoever looks for it.
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
