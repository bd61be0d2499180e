//! What an end of a connection got, and whether its client was broken by it.
//!
//! Opens when: a connect fails; a FIN or RST reaches a client that is owed an answer; the kernel gives a connection
//! up; an answer stops being HTTP; a client leaves after at least [`PATIENCE`] of silence.
//! Stays silent when: nothing is owed (an idle connection closed by either side), the client left first and early,
//! only TLS's own closing is seen, or a living server closes what was upgraded. Closes nothing.

use crate::engine::failures::table::Symptom;
use crate::engine::world::World;
use crate::engine::world::tcp::endpoint::Endpoint;
use crate::engine::world::tcp::http_state::{Progress, opaque_phase, progress, receiving, under_way};
use crate::engine::world::tcp::sockets::Change;
use crate::model::event::TcpState;
use crate::model::ids::Cookie;
use crate::model::incident::Phase;
use crate::model::time::{Nanos, Stamp};

/// A client that leaves after less silence than this has changed its mind; after more it has timed out.
pub const PATIENCE: Nanos = Nanos::from_millis(500);

/// A client that did not get what it was owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    pub client: Cookie,
    pub symptom: Symptom,
    pub phase: Phase,
    /// The header of its answer is complete.
    pub head: bool,
    pub opaque: bool,
}

/// What a rule found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Broken(Broken),
    /// A server closed a connection on which nothing was owed.
    IdleClose(Cookie),
    Nothing,
}

#[must_use]
pub fn look(world: &World, at: Stamp, change: &Change) -> Found {
    match change {
        Change::Connecting { .. }
        | Change::Connected { .. }
        | Change::Arrived { .. }
        | Change::ServerClosed { .. }
        | Change::ServerReady { .. } => Found::Nothing,
        Change::ConnectFailed { client, errno, dying } => connect_failed(*client, errno.as_deref(), *dying),
        Change::FinArrived { client } => arrived(world, *client, Symptom::Fin),
        Change::ResetArrived { client } => {
            let state = world.sockets.get(*client).and_then(|end| end.rst_in).map(|(_, state)| state);
            let after_fin = state == Some(TcpState::CloseWait);
            arrived(world, *client, if after_fin { Symptom::ResetAfterFin } else { Symptom::Reset })
        }
        Change::TimedOut { client, .. } => arrived(world, *client, Symptom::TimedOut),
        Change::Left { client } => left(world, at, *client),
        Change::Malformed { server } => {
            let client = world.sockets.get(*server).and_then(|end| end.peer);
            let owed = client.and_then(|client| owed(world, client));
            match (client, owed) {
                (Some(client), Some(owed)) => broken(client, Symptom::Malformed, owed),
                (_, _) => Found::Nothing,
            }
        }
    }
}

/// What a client is owed.
#[derive(Clone, Copy)]
struct Outstanding {
    phase: Phase,
    head: bool,
    /// Only TCP tells it.
    opaque: bool,
}

impl Outstanding {
    fn by_tcp(phase: Phase) -> Self {
        Self { phase, head: phase == Phase::ReceivingBody, opaque: true }
    }

    fn in_phase(phase: Phase) -> Self {
        Self { opaque: false, ..Self::by_tcp(phase) }
    }
}

fn broken(client: Cookie, symptom: Symptom, owed: Outstanding) -> Found {
    let Outstanding { phase, head, opaque } = owed;
    Found::Broken(Broken { client, symptom, phase, head, opaque })
}

fn connect_failed(client: Cookie, errno: Option<&str>, dying: bool) -> Found {
    let symptom = match errno {
        _ if dying => Symptom::Died,
        None | Some("ETIMEDOUT") => Symptom::SynUnanswered,
        Some("ECONNREFUSED") => Symptom::Refused,
        Some(_) => Symptom::Unreachable,
    };
    broken(client, symptom, Outstanding::in_phase(Phase::Connecting))
}

fn owed(world: &World, client: Cookie) -> Option<Outstanding> {
    let end = world.sockets.get(client)?;
    let server = world.sockets.peer(client);
    match progress(end, server) {
        Progress::Outstanding { phase, head } => Some(Outstanding { phase, head, opaque: false }),
        Progress::UntilClose => {
            server.map(|server| Outstanding { phase: receiving(end, server), head: true, opaque: false })
        }
        Progress::Opaque => opaque_phase(end).map(Outstanding::by_tcp),
        Progress::Uncertain => {
            opaque_phase(end).filter(|phase| *phase == Phase::AwaitingResponse).map(Outstanding::by_tcp)
        }
        Progress::Idle | Progress::Preexisting => None,
    }
}

fn arrived(world: &World, client: Cookie, symptom: Symptom) -> Found {
    let Some(end) = world.sockets.get(client) else { return Found::Nothing };
    if end.close.is_some() {
        return Found::Nothing;
    }
    let server = world.sockets.peer(client);
    let until_close = progress(end, server) == Progress::UntilClose;
    if until_close && symptom == Symptom::Fin && !died(server) {
        // The end of the connection is the end of the answer.
        return Found::IdleClose(client);
    }
    match owed(world, client) {
        Some(owed) if !owed.opaque => broken(client, symptom, owed),
        // The closing handshake of a WebSocket that its server began ends like this (RFC 6455, 7.1.1): the client answers, and
        // the server closes first.
        Some(_) if symptom == Symptom::Fin && is_upgraded(server) && !died(server) => Found::IdleClose(client),
        // Without framing, a living server that speaks last and closes has most likely finished.
        Some(owed) if owed.phase == Phase::AwaitingResponse || died(server) => broken(client, symptom, owed),
        Some(_) | None => Found::IdleClose(client),
    }
}

fn is_upgraded(server: Option<&Endpoint>) -> bool {
    server.is_some_and(|server| server.http.upgraded)
}

fn died(server: Option<&Endpoint>) -> bool {
    server.and_then(|end| end.close.as_ref()).is_some_and(|close| close.task.exiting)
}

fn left(world: &World, at: Stamp, client: Cookie) -> Found {
    let Some(end) = world.sockets.get(client) else { return Found::Nothing };
    let Some(close) = end.close.as_ref().filter(|close| close.first) else { return Found::Nothing };
    let server = world.sockets.peer(client);
    let (owed, asked) = match progress(end, server) {
        Progress::Outstanding { phase, head } => {
            (Outstanding { phase, head, opaque: false }, end.http.begun_at.unwrap_or(end.opened))
        }
        progress @ (Progress::Idle
        | Progress::UntilClose
        | Progress::Opaque
        | Progress::Uncertain
        | Progress::Preexisting) => {
            let sent = || server.filter(|_| progress == Progress::Idle).and_then(|server| under_way(end, server));
            let waits = || sent().map(|phase| (phase, end.http.begun_at.unwrap_or(end.opened)));
            match kept_away(world, at, end, server).or_else(waits) {
                Some((phase, asked)) => (Outstanding::in_phase(phase), asked),
                None => return Found::Nothing,
            }
        }
    };
    if close.task.exiting {
        return broken(client, Symptom::Died, owed);
    }
    let silent_since = end.last_received.map_or(asked, |received| received.max(asked));
    let symptom = if at.since(silent_since) >= PATIENCE { Symptom::Silence } else { Symptom::Cancelled };
    broken(client, symptom, owed)
}

/// What is owed although no framing says so, because packets were dropped: in which phase, and since when nothing came. An
/// answer is told where it is sent, and may be dropped after that; a request that the client's own filter takes is never told.
fn kept_away(world: &World, at: Stamp, end: &Endpoint, server: Option<&Endpoint>) -> Option<(Phase, Stamp)> {
    if end.http.opaque || server.is_some_and(|server| server.http.opaque) || end.established.is_none() {
        return None;
    }
    let container = world.route(end.socket.cookie, at).and_then(|route| route.container);
    let packets = world.dropped_of(end, container.as_ref(), at);
    let mut lost = packets.iter().filter(|dropped| dropped.payload);
    let own = || packets.iter().filter(|dropped| dropped.payload && dropped.source == end.socket.local);
    if let Some(last) = own().next_back()
        && end.is_unacknowledged(last.at)
    {
        return own().next().map(|first| (Phase::AwaitingResponse, first.at));
    }
    if server.is_none() && end.unacknowledged > 0 && world.overflowed(end, container.as_ref(), at) == Some(true) {
        return Some((Phase::AwaitingResponse, end.opened));
    }
    let asked = end.http.begun_at?;
    let received = end.last_received.unwrap_or(end.opened);
    let answer = lost.any(|dropped| dropped.destination == end.socket.local && dropped.at > asked.max(received));
    let phase = if received > asked { Phase::ReceivingBody } else { Phase::AwaitingResponse };
    answer.then_some((phase, asked))
}
