//! Progress of the HTTP exchange on a connection: whether a response is outstanding, and its phase.
//!
//! Both endpoints are needed: the client's holds the requests, the server's holds the responses. Byte counts are never
//! interpreted; an unknown framing yields [`Progress::Opaque`] or [`Progress::Preexisting`].

use crate::model::event::BodyFraming;
use crate::model::incident::Phase;
use crate::model::time::Stamp;

use crate::engine::world::tcp::endpoint::Endpoint;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Every request has a complete response.
    Idle,
    /// A response is outstanding. `head`: its header section is complete.
    Outstanding { phase: Phase, head: bool },
    /// The response ends with the connection: a FIN completes it, a reset does not.
    UntilClose,
    /// TLS, HTTP/2, an upgraded connection or another protocol: only TCP facts are available.
    Opaque,
    /// Events were lost since the last request. The last bytes from the server most likely completed its response.
    Uncertain,
    /// The connection is older than the monitor, without a request since.
    Preexisting,
}

#[must_use]
pub fn progress(client: &Endpoint, server: Option<&Endpoint>) -> Progress {
    let requests = &client.http;
    let Some(server) = server else {
        // Without the server's endpoint the responses are unknown.
        return if requests.begun == 0 && !requests.opaque { Progress::Idle } else { Progress::Opaque };
    };
    let responses = &server.http;
    if requests.opaque || responses.opaque {
        return Progress::Opaque;
    }
    if requests.doubtful || responses.doubtful {
        return Progress::Uncertain;
    }
    if client.preexisting && requests.begun == 0 {
        return Progress::Preexisting;
    }
    if requests.begun <= responses.complete {
        return Progress::Idle;
    }
    if responses.header_sections > responses.complete {
        return match responses.body {
            Some(BodyFraming::UntilClose) => Progress::UntilClose,
            Some(BodyFraming::Empty | BodyFraming::Length { .. } | BodyFraming::Chunked) | None => {
                Progress::Outstanding { phase: receiving(client, server), head: true }
            }
        };
    }
    let phase = if is_sending_request(client, server) { Phase::Sending } else { Phase::AwaitingResponse };
    Progress::Outstanding { phase, head: false }
}

/// The phase while a response body arrives: a server may start it before the request is complete.
#[must_use]
pub fn receiving(client: &Endpoint, server: &Endpoint) -> Phase {
    if is_sending_request(client, server) { Phase::Sending } else { Phase::ReceivingBody }
}

/// Whether the first unanswered request is still being sent. Later pipelined requests do not matter.
fn is_sending_request(client: &Endpoint, server: &Endpoint) -> bool {
    client.http.complete <= server.http.complete
}

/// The phase of a response that was sent completely but had not arrived when the client closed. Responses are recorded
/// at the sender, and arrival is known only for endpoints of this host. Valid for a client that has just closed: the
/// close event carries the time of its last arrival.
#[must_use]
pub fn under_way(client: &Endpoint, server: &Endpoint) -> Option<Phase> {
    if client.socket.cookie.is_outside() || server.socket.cookie.is_outside() || client.last_sent.is_none() {
        return None;
    }
    let has_arrived =
        |sent: Option<Stamp>| sent.is_none_or(|sent| client.last_received.is_some_and(|last| last >= sent));
    if has_arrived(server.http.ended_at) {
        return None;
    }
    Some(if has_arrived(server.http.begun_at) { Phase::ReceivingBody } else { Phase::AwaitingResponse })
}

/// The first byte of the last request. Without framing it is known only of a connection that was idle when the server's FIN
/// arrived: what the client has sent since.
#[must_use]
pub fn request_begun(client: &Endpoint) -> Option<Stamp> {
    if client.http.opaque && client.idle_at_fin {
        return client.last_sent.filter(|sent| client.fin_in.is_some_and(|fin| *sent > fin));
    }
    client.http.begun_at
}

/// The phase from TCP alone, by the sender of the last bytes; `None` without any bytes.
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
