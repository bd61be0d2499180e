//! Properties of processes from `/proc`: pids in both namespaces, parents, cgroups, network namespaces, sockets.
//!
//! A process may end between any two reads; it is then left out silently. Nothing is written.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ::procfs::process::{FDTarget, Process as Handle, all_processes};

use crate::model::event::{Process, ProxySeen};
use crate::model::ids::{CgroupId, ContainerId, NetnsId, Pid};

/// The command name of docker-proxy.
pub const PROXY: &str = "docker-proxy";

/// Inode number of the initial pid namespace (PROC_PID_INIT_INO, include/linux/proc_ns.h), fixed since 3.8.
pub const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The v2 tree: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on hybrid hosts.
#[derive(Clone, Debug)]
pub struct CgroupTree {
    mount: PathBuf,
    /// The cgroup that is mounted there: `/`, except in unusual containers.
    root: PathBuf,
}

impl CgroupTree {
    /// `None` on a host with cgroup v1 only, where containers are identified by their namespaces.
    #[must_use]
    pub fn find() -> Option<Self> {
        let mounts = Handle::myself().ok()?.mountinfo().ok()?;
        let mount = mounts.0.into_iter().find(|mount| mount.fs_type == "cgroup2")?;
        Some(Self::new(mount.mount_point, PathBuf::from(mount.root)))
    }

    #[must_use]
    pub fn new(mount: PathBuf, root: PathBuf) -> Self {
        Self { mount, root }
    }

    #[must_use]
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// The directory of the cgroup at `path`, in the form of `/proc/PID/cgroup`, if it exists.
    #[must_use]
    pub fn directory(&self, path: &Path) -> Option<PathBuf> {
        Some(self.mount.join(path.strip_prefix(&self.root).ok()?)).filter(|directory| directory.is_dir())
    }

    /// The id of the cgroup at `path`: the inode number of its directory.
    #[must_use]
    pub fn id(&self, path: &Path) -> Option<CgroupId> {
        Some(CgroupId(fs::metadata(self.directory(path)?).ok()?.ino()))
    }
}

/// The `0::` line of `/proc/PID/cgroup`.
#[must_use]
pub fn cgroup_path(pid: Pid) -> Option<PathBuf> {
    let groups = handle(pid)?.cgroups().ok()?;
    groups.0.into_iter().find(|group| group.hierarchy == 0).map(|group| PathBuf::from(group.pathname))
}

/// The cgroup of a container, from that of its first process: the nearest one named after the container, in case the
/// process has moved itself further down (as systemd does).
#[must_use]
pub fn container_path<'a>(path: &'a Path, id: &ContainerId) -> &'a Path {
    // `docker/<id>` with the cgroupfs driver, `system.slice/docker-<id>.scope` with the systemd driver.
    let named = |name: &OsStr| name.to_str().is_some_and(|name| name.contains(&id.0));
    path.ancestors().find(|above| above.file_name().is_some_and(named)).unwrap_or(path)
}

/// The network namespace behind a path such as `/proc/PID/ns/net` or Docker's `SandboxKey`.
///
/// # Errors
/// When the path does not exist.
pub fn netns_at(path: &Path) -> io::Result<NetnsId> {
    Ok(NetnsId(fs::metadata(path)?.ino()))
}

/// The network namespace of this process: the host's, because `run` refuses to start in any other.
pub const OWN_NETNS: &str = "/proc/self/ns/net";

#[must_use]
pub fn netns_path(pid: Pid) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

/// Resident memory of this process, in bytes.
#[must_use]
pub fn own_memory() -> Option<u64> {
    let pages = Handle::myself().and_then(|own| own.statm()).ok()?.resident;
    Some(pages * ::procfs::page_size())
}

/// The inode number of a process's pid namespace.
#[must_use]
pub fn pid_namespace(pid: Pid) -> Option<u64> {
    Some(fs::metadata(format!("/proc/{pid}/ns/pid")).ok()?.ino())
}

#[must_use]
pub fn comm(pid: Pid) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

/// One process, with what a verdict may need.
#[derive(Clone, Debug)]
pub struct ProcEntry {
    pub process: Process,
    pub parent: Pid,
    /// The parent is outside this process's pid namespace.
    pub parent_outside: bool,
    pub pid_namespace: u64,
    pub cgroup_path: PathBuf,
}

/// All processes of the host except zombies and kernel threads, by pid.
#[must_use]
pub fn processes(tree: Option<&CgroupTree>) -> BTreeMap<Pid, ProcEntry> {
    let Ok(all) = all_processes() else { return BTreeMap::new() };
    let mut ids = BTreeMap::new();
    all.filter_map(|handle| entry(&handle.ok()?, tree, &mut ids)).map(|entry| (entry.process.pid, entry)).collect()
}

fn entry(handle: &Handle, tree: Option<&CgroupTree>, ids: &mut BTreeMap<PathBuf, CgroupId>) -> Option<ProcEntry> {
    let status = handle.status().ok()?;
    let pid = Pid(u32::try_from(status.tgid).ok()?);
    let parent = Pid(u32::try_from(status.ppid).ok()?);
    // A zombie has no namespaces.
    let netns = netns_at(&netns_path(pid)).ok()?;
    let own = pid_namespace(pid)?;
    let numbers = status.nspid.unwrap_or_default();
    let cgroup_path = cgroup_path(pid).unwrap_or_default();
    let cgroup = ids.get(&cgroup_path).copied().or_else(|| tree?.id(&cgroup_path));
    if let Some(id) = cgroup {
        ids.insert(cgroup_path.clone(), id);
    }
    Some(ProcEntry {
        process: Process {
            pid,
            ns_pid: numbers.last().and_then(|number| u32::try_from(*number).ok()).unwrap_or(pid.0),
            ns_level: u32::try_from(numbers.len().saturating_sub(1)).unwrap_or_default(),
            cgroup: cgroup.unwrap_or(CgroupId(0)),
            netns,
            comm: status.name,
        },
        parent,
        parent_outside: parent != Pid(0) && pid_namespace(parent).is_some_and(|other| other != own),
        pid_namespace: own,
        cgroup_path,
    })
}

/// The inode numbers of the sockets that a process holds.
#[must_use]
pub fn sockets(pid: Pid) -> Vec<u64> {
    let Some(descriptors) = handle(pid).and_then(|handle| handle.fd().ok()) else { return Vec::new() };
    descriptors
        .filter_map(|descriptor| match descriptor.ok()?.target {
            FDTarget::Socket(inode) => Some(inode),
            FDTarget::Path(_)
            | FDTarget::Net(_)
            | FDTarget::Pipe(_)
            | FDTarget::AnonInode(_)
            | FDTarget::MemFD(_)
            | FDTarget::Other(..)
            | FDTarget::Unknown(..) => None,
        })
        .collect()
}

/// The addresses of a docker-proxy for TCP, from its command line. `None` for any other process.
#[must_use]
pub fn proxy(pid: Pid) -> Option<ProxySeen> {
    let arguments = handle(pid)?.cmdline().ok()?;
    let (listen, backend) = proxy_addresses(&arguments)?;
    Some(ProxySeen { pid, listen, backend })
}

fn proxy_addresses(arguments: &[String]) -> Option<(SocketAddr, SocketAddr)> {
    let program = Path::new(arguments.first()?).file_name()?.to_str()?;
    // rootlesskit-docker-proxy takes the same options.
    if !program.ends_with(PROXY) {
        return None;
    }
    // Docker writes one dash; Go's flag package also accepts two.
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument.trim_start_matches('-') == name)?;
        arguments.get(at + 1)
    };
    if value("proto")? != "tcp" {
        return None;
    }
    let address = |ip: &str, port: &str| {
        let ip: IpAddr = value(ip)?.parse().ok()?;
        Some(SocketAddr::new(ip.to_canonical(), value(port)?.parse().ok()?))
    };
    Some((address("host-ip", "host-port")?, address("container-ip", "container-port")?))
}

fn handle(pid: Pid) -> Option<Handle> {
    Handle::new(i32::try_from(pid.0).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::{CgroupTree, container_path, processes, proxy_addresses, sockets};
    use crate::model::ids::{ContainerId, Pid};

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn reads_both_addresses_of_a_proxy() {
        let line = "/usr/sbin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 16416 -container-ip 172.17.0.2 \
                    -container-port 6415 -use-listen-fd";
        let (listen, backend) = proxy_addresses(&words(line)).unwrap();
        assert_eq!((listen.to_string(), backend.to_string()), ("0.0.0.0:16416".into(), "172.17.0.2:6415".into()));
        let line = line.replace("0.0.0.0", "::");
        assert_eq!(proxy_addresses(&words(&line)).unwrap().0.to_string(), "[::]:16416");
    }

    #[test]
    fn rejects_udp_proxies_other_programs_and_incomplete_lines() {
        for line in [
            "/usr/sbin/docker-proxy -proto udp -host-ip 0.0.0.0 -host-port 53 -container-ip 172.17.0.2 -container-port 53",
            "/usr/bin/vim -proto tcp -host-ip 0.0.0.0 -host-port 53 -container-ip 172.17.0.2 -container-port 53",
            "docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port",
            "docker-proxy -proto tcp -host-ip nowhere -host-port 53 -container-ip 172.17.0.2 -container-port 53",
        ] {
            assert_eq!(proxy_addresses(&words(line)), None, "{line}");
        }
        assert_eq!(proxy_addresses(&[]), None);
    }

    #[test]
    fn finds_the_cgroup_named_after_the_container() {
        let id = ContainerId("ab12".into());
        let of = |path| container_path(Path::new(path), &id).to_str().unwrap();
        assert_eq!(of("/docker/ab12"), "/docker/ab12");
        assert_eq!(of("/system.slice/docker-ab12.scope/init.scope"), "/system.slice/docker-ab12.scope");
        assert_eq!(of("/other/x"), "/other/x");
    }

    #[test]
    fn finds_this_process_with_its_parent_and_sockets() {
        let all = processes(CgroupTree::find().as_ref());
        let me = &all[&Pid(std::process::id())];
        assert_eq!(me.parent, Pid(std::os::unix::process::parent_id()));
        assert!(!me.parent_outside);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let file = std::fs::File::from(listener.as_fd().try_clone_to_owned().unwrap());
        assert!(sockets(me.process.pid).contains(&file.metadata().unwrap().ino()));
    }
}
