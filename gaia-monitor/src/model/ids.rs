//! Identities of processes, sockets, namespaces, containers and incidents. Each is a newtype, so that a pid cannot be
//! used as a port or a namespace.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A process (thread group) in the initial pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Pid(pub u32);

/// The kernel's socket cookie: unique since boot, 0 if the kernel had no full socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cookie(pub u64);

impl Cookie {
    /// The cookie of a fact without a full socket.
    pub const NONE: Cookie = Cookie(0);
    /// A bit that the kernel never sets: it counts cookies from 1 (net/core/sock_diag.c, `__sock_gen_cookie`).
    const OUTSIDE: u64 = 1 << 63;

    /// A cookie for the peer of this socket on another host. The peer has no cookie of its own, so it gets one that the
    /// kernel never assigns.
    #[must_use]
    pub const fn remote_peer(self) -> Cookie {
        Cookie(self.0 | Self::OUTSIDE)
    }

    /// Whether this is the cookie of a peer on another host.
    #[must_use]
    pub const fn is_outside(self) -> bool {
        self.0 & Self::OUTSIDE != 0
    }
}

/// The inode number of a network namespace. The kernel reuses it after the namespace has ended, so it is a key only
/// together with a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetnsId(pub u64);

/// The id of a cgroup in the v2 hierarchy: the inode number of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CgroupId(pub u64);

impl CgroupId {
    /// False where the kernel had none to report.
    #[must_use]
    pub fn is_known(self) -> bool {
        self.0 != 0
    }
}

/// Docker's full container id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ContainerId(pub String);

impl ContainerId {
    /// The first twelve characters, as Docker prints them.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// The id of an incident, derived from the facts that opened it, so that a replay yields the same id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct IncidentId(pub String);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
