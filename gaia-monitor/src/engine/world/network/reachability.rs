//! Reachability between two endpoints: joins interface outages and Docker's network events with containers.

use std::net::IpAddr;

use crate::model::event::DockerAction;
use crate::model::ids::{ContainerId, NetnsId};
use crate::model::time::{Nanos, Stamp};

use crate::engine::world::network::interfaces::Fault;
use crate::engine::world::network::outages::{Outage, OutageId, Outages};
use crate::engine::world::{Change, World};

/// A bridge releases its ports shortly before it is deleted (0.2 ms measured).
const PORT_RELEASE: Nanos = Nanos::from_secs(1);

/// An exchange or a connect without a response.
#[derive(Clone, Copy, Debug)]
pub struct Unanswered {
    /// Time of its first byte, or of its SYN.
    pub begun: Stamp,
    /// When the client abandoned it, or now.
    pub at: Stamp,
    /// When the client last received data.
    pub received: Option<Stamp>,
}

impl World {
    /// Applies a network event of Docker. A `disconnect` of a container that is down is ignored: Docker emits one after
    /// every termination.
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
        let mut changes = outage_changes(self.interfaces.outages.docker_event(at, container, action));
        if matches!(action, DockerAction::NetworkConnect { .. }) {
            changes.extend(self.find_recovered(container));
        }
        changes
    }

    /// Interfaces of a namespace changed; an outage may have ended.
    pub(in crate::engine::world) fn interfaces_changed(
        &mut self,
        at: Stamp,
        netns: NetnsId,
        changed: Vec<OutageId>,
    ) -> Vec<Change> {
        let mut changes = outage_changes(changed);
        if let Some(owner) = self.containers.owner_of_netns(netns, at) {
            changes.extend(self.find_recovered(&owner));
        }
        changes
    }

    /// Ends the container's outages that its current interfaces resolve.
    pub(in crate::engine::world) fn find_recovered(&mut self, container: &ContainerId) -> Vec<Change> {
        outage_changes(Outages::find_recovered(&mut self.interfaces, &self.containers, container))
    }

    /// The outage that explains why an exchange stalled: the earliest of its endpoints. `endpoints`: their containers,
    /// each with the address in use. Traffic within one container needs no interface.
    #[must_use]
    pub fn outage_between(&self, endpoints: &[(ContainerId, IpAddr)], unanswered: Unanswered) -> Option<&Outage> {
        if let [(first, _), (second, _)] = endpoints
            && first == second
        {
            return None;
        }
        let mut matching: Vec<&Outage> = Vec::new();
        for (id, ip) in endpoints.iter().filter(|(_, ip)| !ip.is_loopback()) {
            let Some(container) = self.containers.get(id) else { continue };
            let bridge = container.info.netns.and_then(|netns| self.interfaces.bridge_of(netns, *ip));
            let explains = |outage: &&Outage| outage.explains(unanswered.begun, unanswered.at, unanswered.received);
            matching.extend(self.interfaces.outages.all().filter(explains).filter(|outage| match &outage.container {
                None => outage.place.is_some() && outage.place == bridge,
                Some(_) => outage.cuts_off(container, *ip),
            }));
        }
        let of_bridges: Vec<Stamp> =
            matching.iter().filter(|outage| outage.container.is_none()).map(|outage| outage.since()).collect();
        matching.retain(|outage| {
            let is_simultaneous = |bridge: &Stamp| bridge.since(outage.since()).0.abs() <= PORT_RELEASE.0;
            outage.fault != Fault::OffBridge || !of_bridges.iter().any(is_simultaneous)
        });
        matching.into_iter().min_by_key(|outage| (outage.since(), outage.id))
    }
}

fn outage_changes(ids: Vec<OutageId>) -> Vec<Change> {
    ids.into_iter().map(Change::Outage).collect()
}
