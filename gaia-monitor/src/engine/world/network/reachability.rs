//! Whether the way between two ends was cut: joins interfaces, Docker's word and what is known of containers.

use std::net::IpAddr;

use crate::model::event::DockerAction;
use crate::model::ids::{ContainerId, NetnsId};
use crate::model::time::{Nanos, Stamp};

use crate::engine::world::network::interfaces::Fault;
use crate::engine::world::network::outages::{Outage, OutageId, Outages};
use crate::engine::world::{Change, World};

/// A bridge that is deleted lets go of its ports shortly before (0.2 ms here).
const LETS_GO: Nanos = Nanos::from_secs(1);

/// An exchange, or a connect, that got nothing.
#[derive(Clone, Copy, Debug)]
pub struct Unanswered {
    /// Its first byte, or SYN.
    pub begun: Stamp,
    /// When its client gave it up, or now.
    pub at: Stamp,
    /// When the client last got any bytes.
    pub received: Option<Stamp>,
}

impl World {
    /// What Docker says of a container's networks. It says `disconnect` after every death, too, which cuts off nobody.
    pub(in crate::engine::world) fn network_event(
        &mut self,
        at: Stamp,
        container: &ContainerId,
        action: &DockerAction,
    ) -> Vec<Change> {
        let down = self.containers.get(container).is_none_or(|container| container.down.is_some());
        if down && matches!(action, DockerAction::NetworkDisconnect { .. }) {
            return Vec::new();
        }
        let mut changes = outages(self.interfaces.outages.told(at, container, action));
        if matches!(action, DockerAction::NetworkConnect { .. }) {
            changes.extend(self.find_recovered(container));
        }
        changes
    }

    /// Interfaces of a namespace have changed: an outage may be over.
    pub(in crate::engine::world) fn interfaces_changed(
        &mut self,
        at: Stamp,
        netns: NetnsId,
        changed: Vec<OutageId>,
    ) -> Vec<Change> {
        let mut changes = outages(changed);
        if let Some(owner) = self.containers.owner_of_netns(netns, at) {
            changes.extend(self.find_recovered(&owner));
        }
        changes
    }

    /// Does an interface that a container has now end an outage?
    pub(in crate::engine::world) fn find_recovered(&mut self, container: &ContainerId) -> Vec<Change> {
        outages(Outages::find_recovered(&mut self.interfaces, &self.containers, container))
    }

    /// The outage that explains why an exchange got no further. `ends`: the containers at its ends, each with the address
    /// that it uses; the earliest outage of them is the cause. Within one container no interface is needed.
    #[must_use]
    pub fn outage_between(&self, ends: &[(ContainerId, IpAddr)], asked: Unanswered) -> Option<&Outage> {
        if let [(one, _), (other, _)] = ends
            && one == other
        {
            return None;
        }
        let mut found: Vec<&Outage> = Vec::new();
        for (id, ip) in ends.iter().filter(|(_, ip)| !ip.is_loopback()) {
            let Some(container) = self.containers.get(id) else { continue };
            let bridge = container.info.netns.and_then(|netns| self.interfaces.bridge_of(netns, *ip));
            let explains = |outage: &&Outage| outage.explains(asked.begun, asked.at, asked.received);
            found.extend(self.interfaces.outages.all().filter(explains).filter(|outage| match &outage.container {
                None => outage.place.is_some() && outage.place == bridge,
                Some(_) => outage.cuts_off(container, *ip),
            }));
        }
        let of_bridges: Vec<Stamp> =
            found.iter().filter(|outage| outage.container.is_none()).map(|outage| outage.since()).collect();
        found.retain(|outage| {
            let near = |bridge: &Stamp| bridge.since(outage.since()).0.abs() <= LETS_GO.0;
            outage.fault != Fault::OffBridge || !of_bridges.iter().any(near)
        });
        found.into_iter().min_by_key(|outage| (outage.since(), outage.id))
    }
}

fn outages(ids: Vec<OutageId>) -> Vec<Change> {
    ids.into_iter().map(Change::Outage).collect()
}
