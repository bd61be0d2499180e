//! What distinguishes traffic of containers from the host's own: published ports, prefixes, cgroups.
//!
//! A port is kept for a while after its container was removed: clients that it refuses still mean the container.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::model::ids::{CgroupId, ContainerId};
use crate::model::time::{Nanos, Stamp};

/// A change of the probe's filter. Each is idempotent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterChange {
    Publish(u16),
    Unpublish(u16),
    /// A network of Docker: a socket with a peer in it concerns containers.
    AllowPrefix(IpNet),
    /// The cgroup of a container on the host's network.
    AllowCgroup(CgroupId),
    /// The engine answers: the file of its socket is the one whose uses count. Again after every listing, because a
    /// restarted engine creates another file.
    WatchEngine,
}

/// How long a removed container's port is kept: clients retry for minutes, and later the port may belong to a host
/// process.
pub const PORT_LINGERS: Nanos = Nanos::from_secs(600);

/// Published ports by container, and those of removed containers with the end of their retention. Bounded by the number of
/// ports; the next listing finds a container whose removal was missed.
#[derive(Debug, Default)]
pub struct Ports {
    held: BTreeMap<ContainerId, BTreeSet<u16>>,
    lingering: BTreeMap<u16, Stamp>,
}

impl Ports {
    /// Records the ports that a container publishes. Ports that it no longer publishes start to linger.
    pub fn hold(&mut self, container: &ContainerId, ports: BTreeSet<u16>, now: Stamp) -> Vec<FilterChange> {
        let changes = ports.iter().map(|port| FilterChange::Publish(*port)).collect();
        for port in &ports {
            self.lingering.remove(port);
        }
        let before = self.held.insert(container.clone(), ports).unwrap_or_default();
        self.linger(before, now);
        changes
    }

    /// Records that a container was removed.
    pub fn release(&mut self, container: &ContainerId, now: Stamp) {
        let before = self.held.remove(container).unwrap_or_default();
        self.linger(before, now);
    }

    /// Releases the ports of all other containers.
    pub fn retain(&mut self, containers: &BTreeSet<ContainerId>, now: Stamp) {
        let gone: Vec<_> = self.held.keys().filter(|held| !containers.contains(*held)).cloned().collect();
        for container in gone {
            self.release(&container, now);
        }
    }

    /// Removes the ports whose retention has ended.
    pub fn expire(&mut self, now: Stamp) -> Vec<FilterChange> {
        let over: Vec<u16> = self.lingering.iter().filter(|(_, until)| **until <= now).map(|(port, _)| *port).collect();
        over.into_iter()
            .map(|port| {
                self.lingering.remove(&port);
                FilterChange::Unpublish(port)
            })
            .collect()
    }

    fn linger(&mut self, ports: BTreeSet<u16>, now: Stamp) {
        for port in ports {
            if !self.held.values().any(|held| held.contains(&port)) {
                self.lingering.insert(port, now.plus(PORT_LINGERS));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FilterChange, PORT_LINGERS, Ports};
    use crate::model::ids::ContainerId;
    use crate::model::time::Stamp;

    fn id(name: &str) -> ContainerId {
        ContainerId(name.to_owned())
    }

    #[test]
    fn keeps_a_port_after_its_container_was_removed() {
        let mut ports = Ports::default();
        let changes = ports.hold(&id("a"), [6415, 6416].into(), Stamp(0));
        assert_eq!(changes, [FilterChange::Publish(6415), FilterChange::Publish(6416)]);
        ports.release(&id("a"), Stamp(1));
        assert_eq!(ports.expire(Stamp(PORT_LINGERS.0)), []);
        let over = ports.expire(Stamp(1 + PORT_LINGERS.0));
        assert_eq!(over, [FilterChange::Unpublish(6415), FilterChange::Unpublish(6416)]);
        assert_eq!(ports.expire(Stamp(i64::MAX)), [], "each port is reported once");
    }

    #[test]
    fn keeps_a_port_that_another_container_publishes() {
        let mut ports = Ports::default();
        ports.hold(&id("old"), [80].into(), Stamp(0));
        ports.release(&id("old"), Stamp(1));
        ports.hold(&id("new"), [80].into(), Stamp(2));
        assert_eq!(ports.expire(Stamp(i64::MAX)), []);
        ports.hold(&id("third"), [80].into(), Stamp(3));
        ports.release(&id("new"), Stamp(4));
        assert_eq!(ports.expire(Stamp(i64::MAX)), [], "the third still holds it");
    }

    #[test]
    fn releases_only_ports_that_a_restart_changed() {
        let mut ports = Ports::default();
        ports.hold(&id("a"), [49153, 80].into(), Stamp(0));
        ports.hold(&id("a"), [49154, 80].into(), Stamp(1));
        assert_eq!(ports.expire(Stamp(i64::MAX)), [FilterChange::Unpublish(49153)]);
    }

    #[test]
    fn releases_ports_of_containers_missing_from_a_listing() {
        let mut ports = Ports::default();
        ports.hold(&id("a"), [1].into(), Stamp(0));
        ports.hold(&id("b"), [2].into(), Stamp(0));
        ports.retain(&[id("b")].into(), Stamp(5));
        assert_eq!(ports.expire(Stamp(i64::MAX)), [FilterChange::Unpublish(1)]);
    }
}
