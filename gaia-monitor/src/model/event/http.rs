//! Facts about HTTP/1.x framing from the probe: the progress of messages, without any of their bytes.

use serde::{Deserialize, Serialize};

use crate::model::ids::Cookie;

/// One step of plain HTTP/1.x framing, observed at the egress of the sender. If the sender is on another host, it is
/// observed at the ingress of the receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpFact {
    /// The sender's socket; the receiver's if `received` is set.
    pub cookie: Cookie,
    /// Observed at the receiver.
    #[serde(default, skip_serializing_if = "is_false")]
    pub received: bool,
    pub what: HttpWhat,
}

/// The progress of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpWhat {
    /// The first byte of a request.
    RequestBegun,
    /// The last byte of a request.
    RequestComplete,
    /// The first byte of a response.
    ResponseBegun,
    /// An interim response (1xx other than 101); the final response is still outstanding.
    Informational { status: u16 },
    /// The end of the header section of a response; without a body also the end of the response.
    ResponseHeaders { status: u16, body: BodyFraming, close: bool },
    /// The last byte of a response with a body.
    ResponseComplete,
    /// Status 101 or a successful CONNECT: the bytes that follow are not HTTP.
    Upgraded,
    /// Bytes that violate HTTP/1.x framing after a message has begun.
    Malformed,
    /// Not HTTP/1.x (TLS, HTTP/2 …), or framing that could not be followed.
    Opaque,
}

/// How the end of a response's body is determined (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyFraming {
    Empty,
    Length { bytes: u64 },
    Chunked,
    UntilClose,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}
