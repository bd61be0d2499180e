//! Failed connections and connection attempts: whether a change of one endpoint is a failure for its client.
//!
//! Opens when: a connect fails; a FIN or RST reaches a client with an outstanding response; the kernel times a
//! connection out; a response stops being HTTP; a client closes after at least [`PATIENCE`] of silence.
//! Stays silent when: nothing is outstanding (an idle connection closed by either side), the client closed first and
//! early, only TLS's own closing is observed, or a live server closes an upgraded connection. Closes nothing.

use crate::engine::failures::table::Symptom;
use crate::engine::world::World;
use crate::engine::world::tcp::endpoint::Endpoint;
use crate::engine::world::tcp::http_state::{Progress, opaque_phase, progress, receiving, under_way};
use crate::engine::world::tcp::sockets::SocketChange;
use crate::model::event::TcpState;
use crate::model::ids::Cookie;
use crate::model::incident::Phase;
use crate::model::time::{Nanos, Stamp};

/// A client that closes after less silence than this has cancelled; after more it has timed out.
pub const PATIENCE: Nanos = Nanos::from_millis(500);

/// What a client's socket received while a response, or the connect itself, was outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detected {
    pub client: Cookie,
    pub symptom: Symptom,
    pub phase: Phase,
    /// The header section of the response is complete.
    pub headers_complete: bool,
    pub opaque: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    Failure(Detected),
    /// A server closed a connection on which nothing was outstanding.
    IdleClose(Cookie),
    Nothing,
}

#[must_use]
pub fn detect(world: &World, at: Stamp, change: &SocketChange) -> Detection {
    match change {
        SocketChange::Connecting { .. }
        | SocketChange::Connected { .. }
        | SocketChange::Arrived { .. }
        | SocketChange::ServerClosed { .. }
        | SocketChange::ServerReady { .. } => Detection::Nothing,
        SocketChange::ConnectFailed { client, errno, dying } => connect_failed(*client, errno.as_deref(), *dying),
        SocketChange::FinArrived { client } => arrived(world, *client, Symptom::Fin),
        SocketChange::ResetArrived { client } => {
            let state = world.sockets.get(*client).and_then(|endpoint| endpoint.rst_in).map(|(_, state)| state);
            let after_fin = state == Some(TcpState::CloseWait);
            arrived(world, *client, if after_fin { Symptom::ResetAfterFin } else { Symptom::Reset })
        }
        SocketChange::TimedOut { client, .. } => arrived(world, *client, Symptom::TimedOut),
        SocketChange::Left { client } => closed_first(world, at, *client),
        SocketChange::Malformed { server } => {
            let client = world.sockets.get(*server).and_then(|endpoint| endpoint.peer);
            let outstanding = client.and_then(|client| outstanding(world, client));
            match (client, outstanding) {
                (Some(client), Some(outstanding)) => failure(client, Symptom::Malformed, outstanding),
                (_, _) => Detection::Nothing,
            }
        }
    }
}

/// The response that a client waits for.
#[derive(Clone, Copy)]
struct Outstanding {
    phase: Phase,
    headers_complete: bool,
    /// Derived from TCP alone.
    opaque: bool,
}

impl Outstanding {
    fn by_tcp(phase: Phase) -> Self {
        Self { phase, headers_complete: phase == Phase::ReceivingBody, opaque: true }
    }

    fn in_phase(phase: Phase) -> Self {
        Self { opaque: false, ..Self::by_tcp(phase) }
    }
}

fn failure(client: Cookie, symptom: Symptom, outstanding: Outstanding) -> Detection {
    let Outstanding { phase, headers_complete, opaque } = outstanding;
    Detection::Failure(Detected { client, symptom, phase, headers_complete, opaque })
}

fn connect_failed(client: Cookie, errno: Option<&str>, dying: bool) -> Detection {
    let symptom = match errno {
        _ if dying => Symptom::ClientDied,
        None | Some("ETIMEDOUT") => Symptom::SynUnanswered,
        Some("ECONNREFUSED") => Symptom::Refused,
        Some(_) => Symptom::Unreachable,
    };
    failure(client, symptom, Outstanding::in_phase(Phase::Connecting))
}

fn outstanding(world: &World, client: Cookie) -> Option<Outstanding> {
    let endpoint = world.sockets.get(client)?;
    let server = world.sockets.peer(client);
    match progress(endpoint, server) {
        Progress::Outstanding { phase, head } => Some(Outstanding { phase, headers_complete: head, opaque: false }),
        Progress::UntilClose => server.map(|server| Outstanding {
            phase: receiving(endpoint, server),
            headers_complete: true,
            opaque: false,
        }),
        Progress::Opaque => opaque_phase(endpoint).map(Outstanding::by_tcp),
        Progress::Uncertain => {
            let phase = opaque_phase(endpoint).filter(|phase| *phase == Phase::AwaitingResponse);
            phase.map(Outstanding::by_tcp)
        }
        Progress::Idle | Progress::Preexisting => None,
    }
}

fn arrived(world: &World, client: Cookie, symptom: Symptom) -> Detection {
    let Some(endpoint) = world.sockets.get(client) else { return Detection::Nothing };
    if endpoint.close.is_some() {
        return Detection::Nothing;
    }
    let server = world.sockets.peer(client);
    let until_close = progress(endpoint, server) == Progress::UntilClose;
    if until_close && symptom == Symptom::Fin && !died(server) {
        // The end of the connection is the end of the response.
        return Detection::IdleClose(client);
    }
    match outstanding(world, client) {
        Some(outstanding) if !outstanding.opaque => failure(client, symptom, outstanding),
        // A WebSocket closing handshake begun by the server ends like this (RFC 6455, 7.1.1): the client responds, and the
        // server closes first.
        Some(_) if symptom == Symptom::Fin && is_upgraded(server) && !died(server) => Detection::IdleClose(client),
        // Without framing, a live server that sent the last bytes and closes has most likely finished.
        Some(outstanding) if outstanding.phase == Phase::AwaitingResponse || died(server) => {
            failure(client, symptom, outstanding)
        }
        Some(_) | None => Detection::IdleClose(client),
    }
}

fn is_upgraded(server: Option<&Endpoint>) -> bool {
    server.is_some_and(|server| server.http.upgraded)
}

fn died(server: Option<&Endpoint>) -> bool {
    server.and_then(|endpoint| endpoint.close.as_ref()).is_some_and(|close| close.task.exiting)
}

fn closed_first(world: &World, at: Stamp, client: Cookie) -> Detection {
    let Some(endpoint) = world.sockets.get(client) else { return Detection::Nothing };
    let Some(close) = endpoint.close.as_ref().filter(|close| close.first) else { return Detection::Nothing };
    let server = world.sockets.peer(client);
    let begun = endpoint.http.begun_at.unwrap_or(endpoint.opened);
    let (outstanding, requested) = match progress(endpoint, server) {
        Progress::Outstanding { phase, head } => (Outstanding { phase, headers_complete: head, opaque: false }, begun),
        progress @ (Progress::Idle
        | Progress::UntilClose
        | Progress::Opaque
        | Progress::Uncertain
        | Progress::Preexisting) => {
            let sent = || server.filter(|_| progress == Progress::Idle).and_then(|server| under_way(endpoint, server));
            let waits = || sent().map(|phase| (phase, begun));
            match dropped_on_the_way(world, at, endpoint, server).or_else(waits) {
                Some((phase, requested)) => (Outstanding::in_phase(phase), requested),
                None => return Detection::Nothing,
            }
        }
    };
    if close.task.exiting {
        return failure(client, Symptom::ClientDied, outstanding);
    }
    let silent_since = endpoint.last_received.map_or(requested, |received| received.max(requested));
    let symptom = if at.since(silent_since) >= PATIENCE { Symptom::Silence } else { Symptom::Cancelled };
    failure(client, symptom, outstanding)
}

/// What is outstanding although framing does not show it, because packets were dropped: the phase, and since when
/// nothing arrived. Framing is recorded at the sender, so a response may be dropped after it was recorded, and a request
/// that the client's own filter drops is never recorded.
fn dropped_on_the_way(
    world: &World,
    at: Stamp,
    endpoint: &Endpoint,
    server: Option<&Endpoint>,
) -> Option<(Phase, Stamp)> {
    if endpoint.http.opaque || server.is_some_and(|server| server.http.opaque) || endpoint.established.is_none() {
        return None;
    }
    let container = world.route(endpoint.socket.cookie, at).and_then(|route| route.container);
    let packets = world.dropped_of(endpoint, container.as_ref(), at);
    let mut payload = packets.iter().filter(|dropped| dropped.payload);
    let own = || packets.iter().filter(|dropped| dropped.payload && dropped.source == endpoint.socket.local);
    if let Some(last) = own().next_back()
        && endpoint.is_unacknowledged(last.at)
    {
        return own().next().map(|first| (Phase::AwaitingResponse, first.at));
    }
    if server.is_none()
        && endpoint.unacknowledged > 0
        && world.overflowed(endpoint, container.as_ref(), at) == Some(true)
    {
        return Some((Phase::AwaitingResponse, endpoint.opened));
    }
    let requested = endpoint.http.begun_at?;
    let received = endpoint.last_received.unwrap_or(endpoint.opened);
    let response =
        payload.any(|dropped| dropped.destination == endpoint.socket.local && dropped.at > requested.max(received));
    let phase = if received > requested { Phase::ReceivingBody } else { Phase::AwaitingResponse };
    response.then_some((phase, requested))
}
