//! What the probe must know to tell a container's traffic from the host's: published ports, prefixes, cgroups.
//!
//! A port stays for a while after its container: clients that are refused at it are the container's still.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::model::ids::{CgroupId, ContainerId};
use crate::model::time::{Nanos, Stamp};

/// A change of the probe's filter. Each may come more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterChange {
    Publish(u16),
    Unpublish(u16),
    /// A network that Docker made: what has a peer in it concerns containers.
    AllowPrefix(IpNet),
    /// The cgroup of a container on the host's network.
    AllowCgroup(CgroupId),
}

/// How long a removed container's port is still watched: clients retry for minutes, and after that the port may
/// serve as any host process's own.
pub const PORT_LINGERS: Nanos = Nanos::from_secs(600);

/// Which ports are published, by whom, and until when the ones of removed containers are kept. Bounded by the ports
/// that there are; a container that was removed unseen is noticed by the next listing.
#[derive(Debug, Default)]
pub struct Ports {
    held: BTreeMap<ContainerId, BTreeSet<u16>>,
    lingering: BTreeMap<u16, Stamp>,
}

impl Ports {
    /// A container publishes these now. Ports it had before and has no more begin to linger.
    pub fn hold(&mut self, container: &ContainerId, ports: BTreeSet<u16>, now: Stamp) -> Vec<FilterChange> {
        let changes = ports.iter().map(|port| FilterChange::Publish(*port)).collect();
        for port in &ports {
            self.lingering.remove(port);
        }
        let before = self.held.insert(container.clone(), ports).unwrap_or_default();
        self.linger(before, now);
        changes
    }

    /// A container was removed.
    pub fn release(&mut self, container: &ContainerId, now: Stamp) {
        let before = self.held.remove(container).unwrap_or_default();
        self.linger(before, now);
    }

    /// Only these containers are left.
    pub fn retain(&mut self, containers: &BTreeSet<ContainerId>, now: Stamp) {
        let gone: Vec<_> = self.held.keys().filter(|held| !containers.contains(*held)).cloned().collect();
        for container in gone {
            self.release(&container, now);
        }
    }

    /// Ports whose time is over.
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
    fn a_port_outlives_its_container_for_a_while() {
        let mut ports = Ports::default();
        let changes = ports.hold(&id("a"), [6415, 6416].into(), Stamp(0));
        assert_eq!(changes, [FilterChange::Publish(6415), FilterChange::Publish(6416)]);
        ports.release(&id("a"), Stamp(1));
        assert_eq!(ports.expire(Stamp(PORT_LINGERS.0)), []);
        let over = ports.expire(Stamp(1 + PORT_LINGERS.0));
        assert_eq!(over, [FilterChange::Unpublish(6415), FilterChange::Unpublish(6416)]);
        assert_eq!(ports.expire(Stamp(i64::MAX)), [], "each port is told once");
    }

    #[test]
    fn a_port_that_a_successor_took_over_stays() {
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
    fn a_port_that_a_restart_changed_lingers_and_one_that_is_still_there_does_not() {
        let mut ports = Ports::default();
        ports.hold(&id("a"), [49153, 80].into(), Stamp(0));
        ports.hold(&id("a"), [49154, 80].into(), Stamp(1));
        assert_eq!(ports.expire(Stamp(i64::MAX)), [FilterChange::Unpublish(49153)]);
    }

    #[test]
    fn a_listing_without_a_container_releases_its_ports() {
        let mut ports = Ports::default();
        ports.hold(&id("a"), [1].into(), Stamp(0));
        ports.hold(&id("b"), [2].into(), Stamp(0));
        ports.retain(&[id("b")].into(), Stamp(5));
        assert_eq!(ports.expire(Stamp(i64::MAX)), [FilterChange::Unpublish(1)]);
    }
}
