//! Packets that are dropped, and traffic that passes again: what both mean for cases that are open.
//!
//! A drop may be told after the break that it explains, so the break is judged anew; and one after something had passed says
//! that the filter still stands. What passes ends the condition `filtered`: a connect of an affected client to the same
//! server that is answered, or, on an affected connection itself, a FIN or RST that arrives at its server.

use std::net::SocketAddr;

use crate::model::ids::{ContainerId, Cookie, NetnsId};
use crate::model::time::{Nanos, Stamp};

use crate::engine::Engine;
use crate::engine::causes::attribution::judge;
use crate::engine::effect::Effect;
use crate::engine::failures::table::Break;
use crate::engine::incidents::case::{Case, CaseId};
use crate::engine::types::cause::CaseKey;

/// Broken connections of a case that are compared with what passes, the first of them.
const COMPARED: usize = 100;
/// A rule may let handshakes through and nothing else: only what passes for this long has passed.
pub(in crate::engine) const PASSES_FOR: Nanos = Nanos::from_secs(1);

impl Engine {
    /// A packet between two addresses was dropped or refused.
    pub(in crate::engine) fn hindered(
        &mut self,
        netns: NetnsId,
        source: SocketAddr,
        destination: SocketAddr,
        effects: &mut Vec<Effect>,
    ) {
        let between = |found: &Break| {
            let client = found.entry.client.ip;
            let server = found.route.address.ip();
            let ends = [source.ip(), destination.ip()];
            client.is_some_and(|client| ends.contains(&client)) && ends.contains(&server)
        };
        for id in self.filtered_cases(|case| case.passed.is_some(), between) {
            if let Some(case) = self.cases.get_mut(id) {
                (case.passed, case.dirty) = (None, true);
            }
            self.advance(id, effects);
        }
        for end in [source, destination] {
            let client = self.world.sockets.client_at(netns, end);
            if let Some(broken) = client.and_then(|client| self.breaks.of_client(client)).map(|found| found.id) {
                self.look_again(broken, effects);
            }
        }
    }

    /// Judges a break anew that was put down to nobody's event, or to nothing.
    fn look_again(&mut self, id: crate::engine::failures::table::BreakId, effects: &mut Vec<Effect>) {
        let Some(found) = self.breaks.get(id) else { return };
        let case = found.case.and_then(|case| self.cases.get(case));
        // What a closed case broke is told already.
        let stands = found.case.is_some() && case.is_none_or(|case| case.key.names_an_event());
        if stands {
            return;
        }
        let (blame, _) = judge(&self.world, &self.breaks, found, self.world.now);
        let key = case.map(|case| case.key.clone());
        if self.key_of(&blame).is_some_and(|other| Some(&other) != key.as_ref()) {
            self.put_down(id, effects);
        }
    }

    /// A client's connect was answered.
    pub(in crate::engine) fn connected(&mut self, at: Stamp, client: Cookie, effects: &mut Vec<Effect>) {
        if !self.cases.open().any(is_filtered) {
            return;
        }
        let Some(end) = self.world.sockets.get(client) else { return };
        let Some(route) = self.world.route(client, at) else { return };
        let (asked, netns, leg) = (end.socket.remote, end.socket.netns, self.world.is_proxy_leg(client));
        let place: Option<ContainerId> = self.world.container_of_end(client);
        let alike = |found: &Break| {
            let same_server = match &found.route.container {
                Some(id) => route.container.as_ref() == Some(id) && route.address.port() == found.route.address.port(),
                None => found.route.address == asked,
            };
            let same_client = match &found.client_container {
                Some(id) => place.as_ref() == Some(id),
                None => self.world.sockets.get(found.route.client).is_some_and(|end| end.socket.netns == netns),
            };
            same_server && if found.route.proxy.is_some() { leg } else { same_client }
        };
        let ids = self.filtered_cases(|case| case.passed.is_none(), alike);
        self.passed(at, ids, effects);
    }

    /// A FIN or RST came to a server's end.
    pub(in crate::engine) fn arrived(&mut self, at: Stamp, server: Cookie, effects: &mut Vec<Effect>) {
        let Some(client) = self.world.sockets.get(server).and_then(|end| end.peer) else { return };
        let Some(found) = self.breaks.of_client(client) else { return };
        let Some(case) = found.case.and_then(|case| self.cases.get(case)).filter(|case| is_filtered(case)) else {
            return;
        };
        let packets = self.world.sockets.get(client).map(|end| {
            let packets = self.world.dropped_of(end, found.route.container.as_ref(), at);
            packets.last().map(|last| last.destination == end.socket.local)
        });
        // Where only answers are dropped, what the client sends says nothing, but for its word that one has arrived.
        let answers_only = packets.flatten() == Some(true);
        let by_reset = self.world.sockets.get(server).is_some_and(|end| end.rst_in.is_some());
        let own_reset = self.world.sockets.get(client).and_then(|end| end.close.as_ref()).is_some_and(|c| c.reset);
        if case.key_rejects() || (answers_only && (!by_reset || own_reset)) {
            return;
        }
        let ids = vec![case.id];
        self.passed(at, ids, effects);
    }

    fn passed(&mut self, at: Stamp, ids: Vec<CaseId>, effects: &mut Vec<Effect>) {
        for id in ids {
            if let Some(case) = self.cases.get_mut(id)
                && case.passed.is_none()
            {
                (case.passed, case.dirty) = (Some(at), true);
            }
            self.advance(id, effects);
        }
    }

    fn filtered_cases(&self, wanted: impl Fn(&Case) -> bool, alike: impl Fn(&Break) -> bool) -> Vec<CaseId> {
        let open = self.cases.open().filter(|case| is_filtered(case) && wanted(case));
        let of = |case: &&Case| self.sheet().breaks_of(case).take(COMPARED).any(&alike);
        open.filter(of).map(|case| case.id).collect()
    }
}

fn is_filtered(case: &Case) -> bool {
    matches!(case.key, CaseKey::Filtered(..))
}

impl Case {
    /// Its filter answers: a reset that arrives may be the filter's own.
    fn key_rejects(&self) -> bool {
        matches!(&self.key, CaseKey::Filtered(_, filter) if filter.rejects)
    }
}
