//! Filter: which sockets belong to containers. Applied in the kernel from the first SYN, so that traffic of the host
//! itself costs only a few reads.
//!
//! A socket is watched if its network namespace is not the host's, its local or remote port is published, one of its
//! addresses is in a container prefix, or its cgroup is that of a container on the host network. Sockets outside the
//! host's namespace need no map entry, so they are watched before Docker reports their container.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LpmTrie, lpm_trie::Key},
};
use gaia_monitor_abi::{AF_INET, SocketRecord};

use crate::kernel::layout;

/// Per port: 1 if a container publishes it on the host.
#[map]
static PUBLISHED: Array<u8> = Array::with_max_entries(65_536, 0);

/// Prefixes of container networks. If full, a host process that connects to a container without a published port is not
/// seen at its own socket, only at the container's.
#[map]
static PREFIXES_V4: LpmTrie<[u8; 4], u8> = LpmTrie::with_max_entries(4_096, 0);
#[map]
static PREFIXES_V6: LpmTrie<[u8; 16], u8> = LpmTrie::with_max_entries(4_096, 0);

/// Addresses of the host itself. A missing address causes duplicate records, which user space tolerates.
#[map]
static OWN_V4: HashMap<[u8; 4], u8> = HashMap::with_max_entries(1_024, 0);
#[map]
static OWN_V6: HashMap<[u8; 16], u8> = HashMap::with_max_entries(1_024, 0);

/// Cgroups of containers that share the host's namespaces.
#[map]
static CGROUPS: HashMap<u64, u8> = HashMap::with_max_entries(4_096, 0);

/// First twelve bytes of an IPv4-mapped IPv6 address, as two words in memory order.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

const LOOPBACK_V6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

#[inline(always)]
pub fn cgroup_is_watched(cgroup: u64) -> bool {
    // SAFETY: the value is read immediately and not kept.
    unsafe { CGROUPS.get(cgroup) }.is_some()
}

/// True if events of a socket with these properties are recorded. Addresses and cgroup are read only where they decide.
#[inline(always)]
pub fn is_watched(
    netns: u32,
    (local_port, remote_port): (u16, u16),
    has_watched_address: impl FnOnce() -> bool,
    cgroup: impl FnOnce() -> u64,
) -> bool {
    netns != layout!(host_netns)
        || port_is_published(local_port)
        || port_is_published(remote_port)
        || has_watched_address()
        || cgroup_is_watched(cgroup())
}

/// As [`is_watched`], of a record.
#[inline(always)]
pub fn socket_is_watched(socket: &SocketRecord) -> bool {
    let is_watched_address = |address| address_is_watched(socket.family, address);
    is_watched(
        socket.netns,
        (socket.local_port, socket.remote_port),
        || is_watched_address(&socket.remote) || is_watched_address(&socket.local),
        || socket.cgroup,
    )
}

/// True if the peer has no socket on this host. Evaluated once per connection.
#[inline(always)]
pub fn peer_is_remote(socket: &SocketRecord) -> bool {
    let remote = &socket.remote;
    if address_is_watched(socket.family, remote) {
        return false;
    }
    if socket.family != AF_INET && !is_mapped(remote) {
        // SAFETY: the value is read immediately and not kept.
        return *remote != LOOPBACK_V6 && unsafe { OWN_V6.get(remote) }.is_none();
    }
    let address = if socket.family == AF_INET {
        [remote[0], remote[1], remote[2], remote[3]]
    } else {
        [remote[12], remote[13], remote[14], remote[15]]
    };
    // SAFETY: as above.
    address[0] != 127 && unsafe { OWN_V4.get(address) }.is_none()
}

#[inline(always)]
fn port_is_published(port: u16) -> bool {
    match PUBLISHED.get(port as u32) {
        Some(flag) => *flag != 0,
        None => false,
    }
}

#[inline(always)]
pub fn address_is_watched(family: u32, address: &[u8; 16]) -> bool {
    if family == AF_INET {
        return v4_is_watched([address[0], address[1], address[2], address[3]]);
    }
    if is_mapped(address) {
        return v4_is_watched([address[12], address[13], address[14], address[15]]);
    }
    PREFIXES_V6.get(&Key::new(128, *address)).is_some()
}

#[inline(always)]
pub fn v4_is_watched(address: [u8; 4]) -> bool {
    // Container networks never include 127/8 or 0/8.
    if address[0] == 127 || address[0] == 0 {
        return false;
    }
    PREFIXES_V4.get(&Key::new(32, address)).is_some()
}

#[inline(always)]
fn is_mapped(address: &[u8; 16]) -> bool {
    let mut index = 0;
    while index < MAPPED.len() {
        if address[index] != MAPPED[index] {
            return false;
        }
        index += 1;
    }
    true
}
