//! The kernel's filter, as user space updates it: published ports, container prefixes, cgroups on the host's network.
//!
//! The maps are sets without reference counts: a port that was published twice is removed by one call, which must come
//! after its last use.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, MapError};
use nix::ifaddrs::getifaddrs;
use nix::sys::stat::{major, minor};

use super::ProbeError;
use super::load::map;
use crate::model::ids::CgroupId;

/// Updates the filter immediately, from any thread.
#[derive(Clone)]
pub struct FilterHandle(Arc<Mutex<Maps>>);

struct Maps {
    published: Array<MapData, u8>,
    prefixes_v4: LpmTrie<MapData, [u8; 4], u8>,
    prefixes_v6: LpmTrie<MapData, [u8; 16], u8>,
    cgroups: HashMap<MapData, u64, u8>,
    own_v4: HashMap<MapData, [u8; 4], u8>,
    own_v6: HashMap<MapData, [u8; 16], u8>,
    engine_sockets: HashMap<MapData, u64, u32>,
}

/// Bits of the minor number in the kernel's own device numbers (MINORBITS, include/linux/kdev_t.h).
const KERNEL_MINOR_BITS: u32 = 20;

#[derive(Debug, thiserror::Error)]
#[error(
    "cannot update the kernel's filter with {what}: {reason}; its traffic may not be observed at the host's sockets"
)]
pub struct FilterError {
    what: String,
    reason: String,
}

impl FilterHandle {
    /// Takes ownership of the maps that the programs share with user space.
    pub(super) fn new(programs: &mut Ebpf) -> Result<Self, ProbeError> {
        let maps = Maps {
            published: map(programs, "PUBLISHED")?,
            prefixes_v4: map(programs, "PREFIXES_V4")?,
            prefixes_v6: map(programs, "PREFIXES_V6")?,
            cgroups: map(programs, "CGROUPS")?,
            own_v4: map(programs, "OWN_V4")?,
            own_v6: map(programs, "OWN_V6")?,
            engine_sockets: map(programs, "ENGINE_SOCKETS")?,
        };
        Ok(Self(Arc::new(Mutex::new(maps))))
    }

    /// Adds the host's own addresses: a peer with another address, outside all container networks, has no socket on this
    /// host. An address that the host drops is kept.
    pub fn learn_own_addresses(&self) -> Result<(), FilterError> {
        let interfaces = getifaddrs()
            .map_err(|errno| FilterError { what: "the host's own addresses".to_owned(), reason: errno.to_string() })?;
        let mut maps = self.maps();
        for address in interfaces.filter_map(|interface| interface.address) {
            let result = if let Some(v4) = address.as_sockaddr_in() {
                maps.own_v4.insert(v4.ip().octets(), 1, 0)
            } else if let Some(v6) = address.as_sockaddr_in6() {
                maps.own_v6.insert(v6.ip().octets(), 1, 0)
            } else {
                continue;
            };
            to_result(result, || format!("the host's own address {address}"))?;
        }
        Ok(())
    }

    /// Keeps events of the host's sockets with this local or peer TCP port.
    pub fn publish(&self, port: u16) -> Result<(), FilterError> {
        let result = self.maps().published.set(u32::from(port), 1, 0);
        to_result(result, || format!("port {port}"))
    }

    pub fn unpublish(&self, port: u16) -> Result<(), FilterError> {
        let result = self.maps().published.set(u32::from(port), 0, 0);
        to_result(result, || format!("the removal of port {port}"))
    }

    /// Keeps events of the host's sockets with a peer in a container network, given by `len` leading bits of `address`.
    pub fn allow_prefix(&self, address: IpAddr, len: u8) -> Result<(), FilterError> {
        let mut maps = self.maps();
        let result = match address {
            IpAddr::V4(address) => maps.prefixes_v4.insert(&Key::new(u32::from(len), address.octets()), 1, 0),
            IpAddr::V6(address) => maps.prefixes_v6.insert(&Key::new(u32::from(len), address.octets()), 1, 0),
        };
        to_result(result, || format!("the prefix {address}/{len}"))
    }

    /// Keeps events of the sockets and processes of a container that shares the host's namespaces.
    pub fn allow_cgroup(&self, cgroup: CgroupId) -> Result<(), FilterError> {
        let result = self.maps().cgroups.insert(cgroup.0, 1, 0);
        to_result(result, || format!("cgroup {}", cgroup.0))
    }

    /// Keeps the uses of the Docker engine's socket file `path`, and of no other. A restarted engine creates another file.
    pub fn watch_engine(&self, path: &Path) -> Result<(), FilterError> {
        let what = || format!("the engine's socket {}", path.display());
        let file = fs::metadata(path).map_err(|error| FilterError { what: what(), reason: error.to_string() })?;
        let device = u32::try_from((major(file.dev()) << KERNEL_MINOR_BITS) | minor(file.dev())).unwrap_or_default();
        let mut maps = self.maps();
        let earlier: Vec<u64> = maps.engine_sockets.keys().flatten().filter(|inode| *inode != file.ino()).collect();
        for inode in earlier {
            to_result(maps.engine_sockets.remove(&inode), what)?;
        }
        to_result(maps.engine_sockets.insert(file.ino(), device, 0), what)
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        // Every change is one system call, so a panic of another holder cannot leave a partial change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_result(result: Result<(), MapError>, what: impl FnOnce() -> String) -> Result<(), FilterError> {
    result.map_err(|error| FilterError { what: what(), reason: error.to_string() })
}
