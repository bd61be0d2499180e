//! How far the exchange on a connection had come: is an answer owed, and in which phase?
//!
//! Both ends are read: the client's end shows what was asked, the server's end what was answered. Nothing is guessed
//! from byte counts; where the framing is not known, [`Progress::Opaque`] or [`Progress::Preexisting`] says so.

use crate::model::event::BodyFraming;
use crate::model::incident::Phase;
use crate::model::time::Stamp;

use crate::engine::world::tcp::endpoint::Endpoint;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Every request that was begun has its complete answer.
    Idle,
    /// An answer is owed. `head`: its header is complete.
    Outstanding { phase: Phase, head: bool },
    /// The answer ends with the connection: a FIN completes it, a reset does not.
    UntilClose,
    /// TLS, HTTP/2, an upgrade or anything else: only TCP's own facts tell.
    Opaque,
    /// Events were lost since its last request: what the server sent last most likely ended its answer.
    Uncertain,
    /// The connection is preexisting than the monitor and nothing was asked since.
    Preexisting,
}

#[must_use]
pub fn progress(client: &Endpoint, server: Option<&Endpoint>) -> Progress {
    let asked = &client.http;
    let Some(server) = server else {
        // What was answered is not known without the server's end.
        return if asked.begun == 0 && !asked.opaque { Progress::Idle } else { Progress::Opaque };
    };
    let answered = &server.http;
    if asked.opaque || answered.opaque {
        return Progress::Opaque;
    }
    if asked.doubtful || answered.doubtful {
        return Progress::Uncertain;
    }
    if client.preexisting && asked.begun == 0 {
        return Progress::Preexisting;
    }
    if asked.begun <= answered.complete {
        return Progress::Idle;
    }
    if answered.header_sections > answered.complete {
        return match answered.body {
            Some(BodyFraming::UntilClose) => Progress::UntilClose,
            Some(BodyFraming::Empty | BodyFraming::Length { .. } | BodyFraming::Chunked) | None => {
                Progress::Outstanding { phase: receiving(client, server), head: true }
            }
        };
    }
    let phase = if asks_still(client, server) { Phase::Sending } else { Phase::AwaitingResponse };
    Progress::Outstanding { phase, head: false }
}

/// The phase in which the body of an answer comes: a server may begin it before it has the whole request.
#[must_use]
pub fn receiving(client: &Endpoint, server: &Endpoint) -> Phase {
    if asks_still(client, server) { Phase::Sending } else { Phase::ReceivingBody }
}

/// The request whose answer is owed first is not complete. Of pipelined ones, later requests do not matter.
fn asks_still(client: &Endpoint, server: &Endpoint) -> bool {
    client.http.complete <= server.http.complete
}

/// The phase in which a client waits for an answer that was sent to its end and had not arrived when it closed. Answers are
/// told where they are sent, and what arrived is known of an end of this host alone. Asked of a client that has just closed:
/// its last arrival is told with that.
#[must_use]
pub fn under_way(client: &Endpoint, server: &Endpoint) -> Option<Phase> {
    if client.socket.cookie.is_outside() || server.socket.cookie.is_outside() || client.last_sent.is_none() {
        return None;
    }
    let arrived = |sent: Option<Stamp>| sent.is_none_or(|sent| client.last_received.is_some_and(|last| last >= sent));
    if arrived(server.http.ended_at) {
        return None;
    }
    Some(if arrived(server.http.begun_at) { Phase::ReceivingBody } else { Phase::AwaitingResponse })
}

/// By TCP alone: the last bytes came from the client, or from the server, or none went either way.
#[must_use]
pub fn opaque_phase(client: &Endpoint) -> Option<Phase> {
    match (client.last_sent, client.last_received) {
        (None, None) => None,
        (Some(_), None) => Some(Phase::AwaitingResponse),
        (None, Some(_)) => Some(Phase::ReceivingBody),
        (Some(sent), Some(received)) => {
            Some(if sent > received { Phase::AwaitingResponse } else { Phase::ReceivingBody })
        }
    }
}
