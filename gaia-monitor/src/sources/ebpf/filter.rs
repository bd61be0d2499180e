//! What user space tells the kernel's filter: published ports, container prefixes, cgroups on the host's network.
//!
//! The maps hold sets and count nothing: who publishes a port twice must take it back once, when the last user is gone.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, MapError};

use crate::model::ids::CgroupId;

/// Changes what the probe keeps, at once and from any thread.
#[derive(Clone)]
pub struct FilterHandle(Arc<Mutex<Maps>>);

struct Maps {
    published: Array<MapData, u8>,
    prefixes_v4: LpmTrie<MapData, [u8; 4], u8>,
    prefixes_v6: LpmTrie<MapData, [u8; 16], u8>,
    cgroups: HashMap<MapData, u64, u8>,
}

#[derive(Debug, thiserror::Error)]
#[error("the kernel's filter did not take {what}: {reason}; traffic of it may stay unseen at the host's end")]
pub struct FilterError {
    what: String,
    reason: String,
}

impl FilterHandle {
    pub(super) fn new(
        published: Array<MapData, u8>,
        prefixes_v4: LpmTrie<MapData, [u8; 4], u8>,
        prefixes_v6: LpmTrie<MapData, [u8; 16], u8>,
        cgroups: HashMap<MapData, u64, u8>,
    ) -> Self {
        Self(Arc::new(Mutex::new(Maps { published, prefixes_v4, prefixes_v6, cgroups })))
    }

    /// Keeps what the host's sockets do at this TCP port, at either end.
    pub fn publish(&self, port: u16) -> Result<(), FilterError> {
        let result = self.maps().published.set(u32::from(port), 1, 0);
        told(result, || format!("port {port}"))
    }

    pub fn unpublish(&self, port: u16) -> Result<(), FilterError> {
        let result = self.maps().published.set(u32::from(port), 0, 0);
        told(result, || format!("the end of port {port}"))
    }

    /// Keeps what the host's sockets do with addresses of a container network: `len` leading bits of `address` count.
    pub fn allow_prefix(&self, address: IpAddr, len: u8) -> Result<(), FilterError> {
        let mut maps = self.maps();
        let result = match address {
            IpAddr::V4(address) => maps.prefixes_v4.insert(&Key::new(u32::from(len), address.octets()), 1, 0),
            IpAddr::V6(address) => maps.prefixes_v6.insert(&Key::new(u32::from(len), address.octets()), 1, 0),
        };
        told(result, || format!("the prefix {address}/{len}"))
    }

    pub fn forget_prefix(&self, address: IpAddr, len: u8) -> Result<(), FilterError> {
        let mut maps = self.maps();
        let result = match address {
            IpAddr::V4(address) => maps.prefixes_v4.remove(&Key::new(u32::from(len), address.octets())),
            IpAddr::V6(address) => maps.prefixes_v6.remove(&Key::new(u32::from(len), address.octets())),
        };
        told(absent_is_fine(result), || format!("the end of the prefix {address}/{len}"))
    }

    /// Keeps the sockets and processes of a container that shares the host's namespaces.
    pub fn allow_cgroup(&self, cgroup: CgroupId) -> Result<(), FilterError> {
        let result = self.maps().cgroups.insert(cgroup.0, 1, 0);
        told(result, || format!("cgroup {}", cgroup.0))
    }

    pub fn forget_cgroup(&self, cgroup: CgroupId) -> Result<(), FilterError> {
        let result = self.maps().cgroups.remove(&cgroup.0);
        told(absent_is_fine(result), || format!("the end of cgroup {}", cgroup.0))
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        // Every change is one system call: a panic of another holder leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn told(result: Result<(), MapError>, what: impl FnOnce() -> String) -> Result<(), FilterError> {
    result.map_err(|error| FilterError { what: what(), reason: error.to_string() })
}
