//! Where the cgroup v2 tree is mounted: at /sys/fs/cgroup, on hybrid hosts elsewhere.

use std::io;
use std::path::PathBuf;

use procfs::process::Process;

/// The mount point of the whole v2 tree, from this process's mounts.
pub(super) fn v2_root() -> io::Result<PathBuf> {
    let mounts = Process::myself().and_then(|own| own.mountinfo()).map_err(io::Error::other)?;
    mounts
        .into_iter()
        .find(|mount| mount.fs_type == "cgroup2" && mount.root == "/")
        .map(|mount| mount.mount_point)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup2 file system is mounted"))
}
