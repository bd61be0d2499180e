//! Broken connections: each is one client that did not get its answer, with all that its entry in an incident needs,
//! so that the sockets themselves may be forgotten.
//!
//! Bound: [`CAP`]; the oldest go first, together with the chance to move them to another incident.

use std::collections::{BTreeMap, VecDeque};

use crate::model::ids::{ContainerId, Cookie, Pid};
use crate::model::incident::{Affected, HttpxClass};
use crate::model::time::{Stamp, Utc};

use crate::engine::causes::packet_filter::DropEvidence;
use crate::engine::incidents::case::CaseId;
use crate::engine::world::logs::Line;
use crate::engine::world::tcp::proxy::Route;

const CAP: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BreakId(pub u64);

/// Lines of the client's log that are joined to one broken connection: a helper's word, and a traceback's last line.
const LOG: usize = 3;

/// What the client's socket got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symptom {
    /// Its SYN was answered by a reset, or by an ICMP error.
    Refused,
    Unreachable,
    /// Its SYN was not answered.
    SynUnanswered,
    Fin,
    Reset,
    ResetAfterFin,
    /// The kernel gave up on an established connection.
    TimedOut,
    /// The answer stopped being HTTP.
    Malformed,
    /// It left after a long silence.
    Silence,
    /// It left early.
    Cancelled,
    /// Its own process died.
    Died,
    /// The name server had no address for the name.
    NameRefused,
    /// The name server did not answer.
    NameUnanswered,
}

/// Kept for the verdict: the facts behind it are forgotten sooner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hindrance {
    Filter(DropEvidence),
    /// A full queue: when the SYN left, and whether it was seen to meet it.
    Queue {
        since: Stamp,
        seen: bool,
    },
}

#[derive(Clone, Debug)]
pub struct Break {
    pub id: BreakId,
    pub symptom: Symptom,
    pub route: Route,
    pub client_container: Option<ContainerId>,
    pub client_pid: Option<Pid>,
    /// The request's first byte, or the connect.
    pub begun: Stamp,
    pub entry: Affected,
    /// The name, where it is a look-up that failed.
    pub name: Option<String>,
    /// What had failed the server itself: the look-up that it is put down to, or what came before a death.
    pub root: Option<BreakId>,
    pub case: Option<CaseId>,
    /// The case that it was taken from last.
    pub left: Option<CaseId>,
    /// When the engine learned of it.
    pub seen: Stamp,
    /// The framing was not followed: the class is TCP's word alone.
    pub opaque: bool,
    /// Facts are missing: how far the exchange had come is TCP's word alone, or a port refused that was not seen to
    /// close.
    pub doubtful: bool,
    /// The request broke behind a living server, and more than one thing there could be why.
    pub several_roots: bool,
    /// What had kept its packets away.
    pub met: Option<Hindrance>,
    /// Events were lost while the connection was open.
    pub lossy: bool,
    /// What the client's own log says of it, and the error that each line names.
    pub log: Vec<(Line, &'static str)>,
}

impl Break {
    /// Facts are missing, or there is more than one reason.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.doubtful || self.several_roots
    }

    #[must_use]
    pub fn at(&self) -> Stamp {
        let Utc(at) = self.entry.at;
        at
    }

    /// Another line of the client's log fits.
    #[must_use]
    pub fn has_room_for_a_line(&self) -> bool {
        self.log.len() < LOG
    }

    /// Did it cost the client anything?
    #[must_use]
    pub fn hurts(&self) -> bool {
        self.entry.client_error.httpx != HttpxClass::None
    }
}

#[derive(Debug, Default)]
pub struct Breaks {
    all: BTreeMap<BreakId, Break>,
    by_client: BTreeMap<Cookie, BreakId>,
    order: VecDeque<BreakId>,
    next: u64,
}

impl Breaks {
    #[must_use]
    pub fn get(&self, id: BreakId) -> Option<&Break> {
        self.all.get(&id)
    }

    #[must_use]
    pub fn of_client(&self, client: Cookie) -> Option<&Break> {
        self.all.get(self.by_client.get(&client)?)
    }

    /// The latest first.
    pub fn latest(&self) -> impl Iterator<Item = &Break> {
        self.order.iter().rev().filter_map(|id| self.all.get(id))
    }

    /// Adds one; its id is given here.
    pub fn add(&mut self, mut new: Break) -> BreakId {
        self.next += 1;
        let id = BreakId(self.next);
        new.id = id;
        self.by_client.insert(new.route.client, id);
        self.all.insert(id, new);
        self.order.push_back(id);
        if self.order.len() > CAP
            && let Some(oldest) = self.order.pop_front()
            && let Some(gone) = self.all.remove(&oldest)
            && self.by_client.get(&gone.route.client) == Some(&oldest)
        {
            self.by_client.remove(&gone.route.client);
        }
        id
    }

    /// It was none after all.
    pub fn remove(&mut self, id: BreakId) {
        if let Some(gone) = self.all.remove(&id)
            && self.by_client.get(&gone.route.client) == Some(&id)
        {
            self.by_client.remove(&gone.route.client);
        }
    }

    pub fn change(&mut self, id: BreakId, change: impl FnOnce(&mut Break)) {
        if let Some(found) = self.all.get_mut(&id) {
            change(found);
        }
    }
}
