//! Identities: what a fact is about. Each is a newtype, so that a pid never passes for a port or a namespace.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A process (thread group) in the initial pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Pid(pub u32);

/// The kernel's socket cookie: unique since boot, 0 where the kernel had no full socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cookie(pub u64);

impl Cookie {
    /// No full socket stood behind the fact.
    pub const NONE: Cookie = Cookie(0);
    /// The kernel counts cookies from 1 (net/core/sock_diag.c, `__sock_gen_cookie`) and never comes here.
    const OUTSIDE: u64 = 1 << 63;

    /// The end on another host of this socket's connection: it has no cookie, so it gets one that the kernel never gives.
    #[must_use]
    pub const fn remote_peer(self) -> Cookie {
        Cookie(self.0 | Self::OUTSIDE)
    }

    #[must_use]
    pub const fn is_outside(self) -> bool {
        self.0 & Self::OUTSIDE != 0
    }
}

/// The inode number of a network namespace. Reused after the namespace is gone: never a key without a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetnsId(pub u64);

/// The id of a cgroup in the v2 tree: the inode number of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CgroupId(pub u64);

/// Docker's full container id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ContainerId(pub String);

impl ContainerId {
    /// The twelve characters that Docker itself prints.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// The id of an incident: derived from what opened it, so that a replay gives the same one.
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
