//! Failover duration of a service: from the exit of its container to the first complete response that the service or
//! its candidate sends to a request that began after the exit.
//!
//! Requests that were in progress at the exit are ignored, and so are requests of a container to itself (its own health
//! check). A service without a listening port has no responses and is not measured. Bound: [`DOWNTIMES`] services;
//! beyond it the longest downtime is evicted and not measured, as is a downtime without a response within
//! [`ABANDONED_AFTER`].

use std::collections::BTreeMap;

use crate::model::ids::{ContainerId, Cookie};
use crate::model::time::{Nanos, Stamp};

use crate::engine::world::World;
use crate::engine::world::containers::Container;
use crate::engine::world::terminations::TerminationId;

const DOWNTIMES: usize = 256;
const ABANDONED_AFTER: Nanos = Nanos::from_secs(3_600);

#[derive(Debug, Default)]
pub(super) struct Failovers {
    /// By project and service: several stacks may have a service of one name.
    by_service: BTreeMap<(Option<String>, String), Downtime>,
    /// Number of downtimes that are not over. Usually zero, and then a response costs nothing here.
    open: usize,
}

#[derive(Debug)]
struct Downtime {
    /// The exit that began the downtime.
    since: Stamp,
    /// The latest termination: two sources report each of them.
    latest: TerminationId,
    container: ContainerId,
    over: bool,
}

impl Failovers {
    /// Begins a downtime. A further death before the first response belongs to the same downtime.
    pub(super) fn down(&mut self, container: &Container, termination: TerminationId, at: Stamp) {
        if container.ports.is_empty() {
            return;
        }
        let key = (container.info.project.clone(), container.info.service_label().to_owned());
        let downtime = Downtime { since: at, latest: termination, container: container.info.id.clone(), over: false };
        if let Some(known) = self.by_service.get_mut(&key) {
            if known.latest >= termination {
                return;
            }
            known.latest = termination;
            if !known.over && at.since(known.since) < ABANDONED_AFTER {
                return;
            }
            *known = downtime;
        } else {
            self.by_service.insert(key, downtime);
        }
        if self.by_service.len() > DOWNTIMES
            && let Some(oldest) =
                self.by_service.iter().min_by_key(|(_, downtime)| downtime.since).map(|(key, _)| key.clone())
        {
            self.by_service.remove(&oldest);
        }
        self.recount();
    }

    /// Ends the downtimes that a complete response of the socket `server` ends, and passes each duration to `emit`.
    pub(super) fn responded(&mut self, world: &World, server: Cookie, at: Stamp, mut emit: impl FnMut(String, Nanos)) {
        if self.open == 0 {
            return;
        }
        let Some(client) = world.sockets.peer(server) else { return };
        let Some(begun) = client.http.begun_at else { return };
        let Some(responder) = world.container_of_endpoint(server) else { return };
        if world.container_of_endpoint(client.socket.cookie).as_ref() == Some(&responder) {
            return;
        }
        let Some(responder) = world.containers.get(&responder) else { return };
        for ((project, service), downtime) in self.by_service.iter_mut().filter(|(_, downtime)| !downtime.over) {
            if at.since(downtime.since) >= ABANDONED_AFTER {
                downtime.over = true;
                continue;
            }
            let is_candidate = || {
                let container = world.containers.get(&downtime.container);
                container.is_some_and(|container| world.is_pair(container, responder))
            };
            let is_service = responder.info.project == *project && responder.info.service_label() == service.as_str();
            if begun >= downtime.since && (is_service || is_candidate()) {
                downtime.over = true;
                emit(service.clone(), at.since(downtime.since));
            }
        }
        self.recount();
    }

    fn recount(&mut self) {
        self.open = self.by_service.values().filter(|downtime| !downtime.over).count();
    }
}
