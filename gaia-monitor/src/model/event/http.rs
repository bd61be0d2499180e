//! Facts of HTTP framing, by the probe: what was seen of a message, never any of its bytes.

use serde::{Deserialize, Serialize};

use crate::model::ids::Cookie;

/// What the framing of plain HTTP/1.x shows, seen at the egress of the side that sent the bytes; of a side on another
/// host, at the ingress of the one that got them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpFact {
    /// The sender's socket; the receiver's if `received`.
    pub cookie: Cookie,
    #[serde(default, skip_serializing_if = "is_false")]
    pub received: bool,
    pub what: HttpWhat,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpWhat {
    RequestBegun,
    RequestComplete,
    /// The first byte of an answer.
    AnswerBegun,
    /// A 1xx answer other than 101: not the answer that is owed.
    Informational {
        status: u16,
    },
    /// The end of the header; with an empty body also of the answer.
    AnswerHead {
        status: u16,
        body: BodyFraming,
        close: bool,
    },
    AnswerComplete,
    /// 101, or a successful CONNECT: what follows is not HTTP.
    Upgraded,
    /// Bytes that break the framing of HTTP/1.x after it had begun.
    Malformed,
    /// Not HTTP/1.x (TLS, HTTP/2 …), or the framing could not be followed.
    Opaque,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyFraming {
    Empty,
    Length { bytes: u64 },
    Chunked,
    UntilClose,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(value: &bool) -> bool {
    !value
}
