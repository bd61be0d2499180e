//! Failed connections and connection attempts: whether a change of one endpoint is a failure for its client.
//!
//! Opens when: a connect fails, also before a packet left; a FIN or RST reaches a client with an outstanding response; the kernel times a
//! connection out; a response stops being HTTP; a client closes after at least [`PATIENCE`] of silence; a request that was
//! sent after the server's FIN is never acknowledged.
//! Stays silent when: nothing is outstanding (an idle connection closed by either side; without framing, one on which the
//! server sent the last bytes at least [`RECENT`] ago), the client closed first and early, only TLS's own closing is
//! observed, or a live server closes an upgraded connection. Closes nothing.

use crate::engine::failures::table::Symptom;
use crate::engine::world::World;
use crate::engine::world::tcp::endpoint::Endpoint;
use crate::engine::world::tcp::http_state::{Progress, opaque_phase, progress, receiving, request_begun, under_way};
use crate::engine::world::tcp::sockets::SocketChange;
use crate::model::event::TcpState;
use crate::model::ids::Cookie;
use crate::model::incident::Phase;
use crate::model::time::{Nanos, Stamp};

/// A client that closes after less silence than this has cancelled; after more it has timed out.
pub const PATIENCE: Nanos = Nanos::from_millis(500);

/// Without framing, a connection on which the server sent the last bytes is idle from this time on; before it, a response
/// may have been cut.
const RECENT: Nanos = Nanos::from_secs(1);

/// Without framing, what a client sends so soon after the FIN on an idle connection is its own closing.
const FAREWELL: Nanos = Nanos::from_millis(100);

/// What a client's socket received while a response, or the connect itself, was outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detected {
    pub client: Cookie,
    pub symptom: Symptom,
    pub phase: Phase,
    /// The header section of the response is complete.
    pub headers_complete: bool,
    pub opaque: bool,
    /// The connection may have been idle: without framing, and the server sent the last bytes.
    pub maybe_idle: bool,
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
        SocketChange::ConnectFailed { client, errno, dying } => {
            let sent = world.sockets.get(*client).is_some_and(|endpoint| endpoint.socket.local.port() != 0);
            connect_failed(*client, errno.as_deref(), sent, *dying)
        }
        SocketChange::FinArrived { client } => arrived(world, at, *client, Symptom::Fin),
        SocketChange::ResetArrived { client } => {
            let state = world.sockets.get(*client).and_then(|endpoint| endpoint.rst_in).map(|(_, state)| state);
            let after_fin = state == Some(TcpState::CloseWait);
            arrived(world, at, *client, if after_fin { Symptom::ResetAfterFin } else { Symptom::Reset })
        }
        SocketChange::TimedOut { client, .. } => {
            // The client reads the end of the stream before it notices that nothing acknowledges what it sent since.
            let ended = world.sockets.get(*client).is_some_and(|endpoint| endpoint.fin_in.is_some());
            arrived(world, at, *client, if ended { Symptom::Fin } else { Symptom::TimedOut })
        }
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
    Detection::Failure(Detected { client, symptom, phase, headers_complete, opaque, maybe_idle: false })
}

fn connect_failed(client: Cookie, errno: Option<&str>, sent: bool, dying: bool) -> Detection {
    let symptom = match errno {
        _ if dying => Symptom::ClientDied,
        _ if !sent => Symptom::NotSent,
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
        // On a connection that is older than the monitor too, who sent last tells whether a request is under way.
        Progress::Uncertain | Progress::Preexisting => {
            let phase = opaque_phase(endpoint).filter(|phase| *phase == Phase::AwaitingResponse);
            phase.map(Outstanding::by_tcp)
        }
        Progress::Idle => None,
    }
}

fn arrived(world: &World, at: Stamp, client: Cookie, symptom: Symptom) -> Detection {
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
        Some(outstanding) if outstanding.phase == Phase::AwaitingResponse => {
            if is_farewell(endpoint) {
                Detection::IdleClose(client)
            } else {
                failure(client, symptom, outstanding)
            }
        }
        // Without framing, a live server that sent the last bytes and closes has most likely finished.
        Some(outstanding) if died(server) && is_recent(endpoint, at) => {
            let Outstanding { phase, headers_complete, opaque } = outstanding;
            Detection::Failure(Detected { client, symptom, phase, headers_complete, opaque, maybe_idle: true })
        }
        Some(_) | None => Detection::IdleClose(client),
    }
}

/// Whether the server sent bytes so shortly before that they may be the beginning of a longer response.
fn is_recent(endpoint: &Endpoint, at: Stamp) -> bool {
    endpoint.last_received.is_some_and(|received| at.since(received) < RECENT)
}

/// Whether the bytes that a client sent on an idle connection respond to the server's FIN: the closing message of its
/// protocol (TLS close_notify, HTTP/2 GOAWAY, PostgreSQL Terminate), not a request.
fn is_farewell(endpoint: &Endpoint) -> bool {
    let fin = endpoint.fin_in.filter(|_| endpoint.idle_at_fin);
    fin.zip(request_begun(endpoint)).is_some_and(|(fin, sent)| sent.since(fin) < FAREWELL)
}

/// A WebSocket, or another protocol that the response switched to; a tunnel carries any protocol.
fn is_upgraded(server: Option<&Endpoint>) -> bool {
    server.is_some_and(|server| server.http.upgraded && !server.http.tunnel)
}

fn died(server: Option<&Endpoint>) -> bool {
    server.and_then(|endpoint| endpoint.close.as_ref()).is_some_and(|close| close.task.exiting)
}

fn closed_first(world: &World, at: Stamp, client: Cookie) -> Detection {
    let Some(endpoint) = world.sockets.get(client) else { return Detection::Nothing };
    let Some(close) = endpoint.close.as_ref() else { return Detection::Nothing };
    if !close.first {
        return unacknowledged_after_fin(world, client, endpoint);
    }
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

/// A request that was sent after the server's FIN to a host that neither acknowledged nor reset it: the network of a dead
/// container is gone. The client reads the end of the stream.
fn unacknowledged_after_fin(world: &World, client: Cookie, endpoint: &Endpoint) -> Detection {
    let close_is_of_dying = endpoint.close.as_ref().is_some_and(|close| close.task.exiting);
    if endpoint.unacknowledged == 0 || endpoint.rst_in.is_some() || close_is_of_dying || is_farewell(endpoint) {
        return Detection::Nothing;
    }
    let sent = endpoint.fin_in.zip(request_begun(endpoint)).is_some_and(|(fin, begun)| begun > fin);
    match outstanding(world, client).filter(|outstanding| sent && outstanding.phase != Phase::ReceivingBody) {
        Some(outstanding) => failure(client, Symptom::Fin, outstanding),
        None => Detection::Nothing,
    }
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
