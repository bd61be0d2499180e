//! Changes of interfaces and Docker's network events, joined with the containers that they concern.

use crate::model::event::DockerAction;
use crate::model::ids::{ContainerId, NetnsId};
use crate::model::time::Stamp;

use crate::engine::world::network::outages::{OutageId, Outages};
use crate::engine::world::{Change, World};

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
}

fn outage_changes(ids: Vec<OutageId>) -> Vec<Change> {
    ids.into_iter().map(Change::Outage).collect()
}
