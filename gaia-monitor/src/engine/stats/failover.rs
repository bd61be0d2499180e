//! How long a service was away: from the end of its container to the first complete answer that the service itself, or
//! a candidate of it, gives to a request that was begun afterwards.
//!
//! Requests that were under way tell nothing of it, and neither do those that a container asks of itself (its own health
//! check). A service that listened on no port has no answers. Bound: [`AWAY`] services; the one longest away goes first
//! and is then not measured, as is one that nobody asks for [`GIVEN_UP`].

use std::collections::BTreeMap;

use crate::model::ids::{ContainerId, Cookie};
use crate::model::time::{Nanos, Stamp};

use crate::engine::world::World;
use crate::engine::world::containers::Container;
use crate::engine::world::terminations::TerminationId;

const AWAY: usize = 256;
const GIVEN_UP: Nanos = Nanos::from_secs(3_600);

#[derive(Debug, Default)]
pub(super) struct Failovers {
    by_service: BTreeMap<String, Away>,
    /// How many have not been served again: mostly none, and then an answer costs nothing here.
    open: usize,
}

#[derive(Debug)]
struct Away {
    /// The end that began it, and the latest one: of each end two sources tell.
    since: Stamp,
    latest: TerminationId,
    gone: ContainerId,
    over: bool,
}

impl Failovers {
    /// A further death before the first answer is part of the same absence.
    pub(super) fn down(&mut self, container: &Container, termination: TerminationId, at: Stamp) {
        if container.ports.is_empty() {
            return;
        }
        let service = container.service_or_name();
        if let Some(away) = self.by_service.get_mut(service) {
            if away.latest >= termination {
                return;
            }
            away.latest = termination;
            if !away.over && at.since(away.since) < GIVEN_UP {
                return;
            }
            *away = Away { since: at, latest: termination, gone: container.info.id.clone(), over: false };
        } else {
            let away = Away { since: at, latest: termination, gone: container.info.id.clone(), over: false };
            self.by_service.insert(service.to_owned(), away);
        }
        if self.by_service.len() > AWAY
            && let Some(oldest) =
                self.by_service.iter().min_by_key(|(_, away)| away.since).map(|(name, _)| name.clone())
        {
            self.by_service.remove(&oldest);
        }
        self.recount();
    }

    pub(super) fn answered(&mut self, world: &World, server: Cookie, at: Stamp, mut tell: impl FnMut(String, Nanos)) {
        if self.open == 0 {
            return;
        }
        let Some(client) = world.sockets.peer(server) else { return };
        let Some(begun) = client.http.begun_at else { return };
        let Some(answering) = world.container_of_end(server) else { return };
        if world.container_of_end(client.socket.cookie).as_ref() == Some(&answering) {
            return;
        }
        let Some(answering) = world.containers.get(&answering) else { return };
        for (service, away) in self.by_service.iter_mut().filter(|(_, away)| !away.over) {
            if at.since(away.since) >= GIVEN_UP {
                away.over = true;
                continue;
            }
            let stands_in = || {
                let gone = world.containers.get(&away.gone);
                gone.is_some_and(|gone| world.is_pair(gone, answering))
            };
            if begun >= away.since && (answering.service_or_name() == service.as_str() || stands_in()) {
                away.over = true;
                tell(service.clone(), at.since(away.since));
            }
        }
        self.recount();
    }

    fn recount(&mut self) {
        self.open = self.by_service.values().filter(|away| !away.over).count();
    }
}
