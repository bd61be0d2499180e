//! A server's name with an address of each family: whoever is refused at the one and answered at the other has what it
//! wanted (RFC 8305; anyio, curl and browsers do it, and getaddrinfo's callers one by one).
//!
//! Joined by order: a refused connect, and a later one of the same process to the same port of the same container through
//! the other family. One that is answered takes back one that was refused, the latest first.

use crate::model::ids::Cookie;
use crate::model::time::{Nanos, Stamp};

use crate::engine::Engine;
use crate::engine::effect::Effect;
use crate::engine::failures::table::{Break, BreakId, Symptom};
use crate::engine::incidents::case::CaseId;

/// Broken connections that are compared, the latest first.
const COMPARED: usize = 100;
/// The next address is tried at once after a refusal, and 250 ms after the first at the latest (RFC 8305, 5). What comes
/// later is another attempt: a server that is back does not undo what it refused.
const TRIED_NEXT: Nanos = Nanos::from_millis(300);

impl Engine {
    /// A client's connect was answered: the refusal that it makes up for broke nothing.
    pub(in crate::engine) fn made_up_for(&mut self, at: Stamp, client: Cookie, effects: &mut Vec<Effect>) {
        let Some((id, case)) = self.refused_before(at, client) else { return };
        self.unbind(id);
        self.breaks.remove(id);
        self.advance(case, effects);
    }

    fn refused_before(&self, at: Stamp, client: Cookie) -> Option<(BreakId, CaseId)> {
        let end = self.world.sockets.get(client)?;
        let pid = end.owner.as_ref()?.pid;
        let same_process = |found: &&Break| {
            let other_family = found.route.address.is_ipv4() != end.socket.remote.is_ipv4();
            found.symptom == Symptom::Refused && found.client_pid == Some(pid) && other_family
        };
        let mut refused = self.breaks.latest().take(COMPARED).filter(same_process).peekable();
        refused.peek()?;
        let route = self.world.route(client, at).filter(|route| route.container.is_some())?;
        let found = refused.find(|found| {
            let same_port = found.route.address.port() == route.address.port();
            let next = found.at() <= end.opened && end.opened.since(found.at()) <= TRIED_NEXT;
            found.route.container == route.container && same_port && next
        })?;
        // What a closed case broke is told already.
        let case = found.case.filter(|case| self.cases.get(*case).is_some())?;
        Some((found.id, case))
    }
}
