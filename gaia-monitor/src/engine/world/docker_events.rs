//! Docker's events and inspections, applied to containers, names, outages and terminations.

use crate::model::event::{ContainerInfo, DockerAction, DockerEvent};
use crate::model::time::Stamp;

use crate::engine::world::World;
use crate::engine::world::change::Change;

impl World {
    pub(super) fn docker_event(&mut self, at: Stamp, seen: Stamp, event: &DockerEvent) -> Vec<Change> {
        self.containers.docker_event(at, seen, event);
        let mut changes = self.network_event(at, &event.container, &event.action);
        changes.push(Change::Docker(event.container.clone()));
        match &event.action {
            DockerAction::Die { exit_code } => {
                let starts =
                    self.containers.get(&event.container).and_then(|container| container.starts.back().copied());
                let id = self.terminations.docker_die(at, seen, &event.container, *exit_code, starts);
                changes.push(Change::Termination(id));
            }
            DockerAction::Rename { .. } => self.names.renamed(&event.container, &event.name, at),
            DockerAction::Create
            | DockerAction::Start
            | DockerAction::Oom
            | DockerAction::Kill { .. }
            | DockerAction::Stop
            | DockerAction::Pause
            | DockerAction::Unpause
            | DockerAction::HealthStatus { .. }
            | DockerAction::Restart
            | DockerAction::Destroy
            | DockerAction::NetworkConnect { .. }
            | DockerAction::NetworkDisconnect { .. } => {}
        }
        changes
    }

    pub(super) fn container_inspected(&mut self, at: Stamp, info: &ContainerInfo) -> Vec<Change> {
        self.names.inspected(info, at);
        if let Some(evicted) = self.containers.inspected(info, at) {
            self.terminations.evict(&evicted);
            self.names.evict(&evicted);
        }
        let mut changes = vec![Change::Docker(info.id.clone())];
        self.adopt_exits(info, &mut changes);
        changes.extend(self.adopt_recorded_end(info));
        self.assign_listeners(&mut changes);
        changes.extend(self.find_recovered(&info.id));
        changes
    }

    /// A container that had ended before the monitor started is down since then. An end that comes later is observed.
    fn adopt_recorded_end(&mut self, info: &ContainerInfo) -> Option<Change> {
        let end = info.ended.filter(|end| self.began.is_some_and(|began| end.at < began))?;
        let id = self.terminations.recorded(self.now, info, end)?;
        self.containers.terminated(&info.id, end.at);
        Some(Change::Termination(id))
    }
}
