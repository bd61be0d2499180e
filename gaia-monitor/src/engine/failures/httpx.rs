//! The exception class that httpx raises for what a client's socket received (httpx over anyio, httpcore 1.x).
//!
//! The class is derived from the socket, whatever the client is. Measured, not deduced: a reset is `ReadError` even while
//! the request body is being sent, because httpcore swallows the write error and meets it again when it reads.

use crate::model::incident::{ClientError, Detail, HttpxClass, Phase};

use crate::engine::failures::table::Symptom;

/// What the class is derived from.
#[derive(Clone, Debug)]
pub struct SocketEvidence {
    pub symptom: Symptom,
    pub phase: Phase,
    /// The header section of the response is complete.
    pub headers_complete: bool,
    pub errno: Option<String>,
}

/// `retried` is left false: the client's policy decides it (see [`super::retry_policy`]).
#[must_use]
pub fn client_error(evidence: &SocketEvidence) -> ClientError {
    use HttpxClass::{ConnectError, ConnectTimeout, ReadError, ReadTimeout, RemoteProtocolError, WriteTimeout};
    let phase = evidence.phase;
    let kernel_timeout = evidence.errno.is_some();
    let cut = if evidence.headers_complete { Detail::IncompleteBody } else { Detail::NoResponse };
    let (httpx, also_possible, detail) = match evidence.symptom {
        Symptom::Refused => (ConnectError, None, Some(Detail::Refused)),
        Symptom::Unreachable | Symptom::NotSent => (ConnectError, None, Some(Detail::Unreachable)),
        Symptom::SynUnanswered if kernel_timeout => (ConnectError, None, Some(Detail::SynTimeout)),
        Symptom::SynUnanswered => (ConnectTimeout, None, Some(Detail::SynTimeout)),
        Symptom::Fin => (RemoteProtocolError, None, Some(cut)),
        Symptom::Reset => (ReadError, None, Some(Detail::Reset)),
        // A client that still writes may meet the RST first. One that only waits reads the end of the stream before it.
        Symptom::ResetAfterFin if phase == Phase::Sending => {
            (ReadError, Some(RemoteProtocolError), Some(Detail::ResetAfterFin))
        }
        Symptom::ResetAfterFin => (RemoteProtocolError, Some(ReadError), Some(cut)),
        // httpx's synchronous back end maps the kernel's ETIMEDOUT to its own timeout.
        Symptom::TimedOut => (ReadError, Some(ReadTimeout), Some(Detail::TimedOut)),
        Symptom::Malformed => (RemoteProtocolError, None, Some(Detail::Malformed)),
        // A client with a partly sent request waits for room to write, or for a response that it reads meanwhile.
        Symptom::Silence if phase == Phase::Sending => (WriteTimeout, Some(ReadTimeout), Some(Detail::NoData)),
        Symptom::Silence => (ReadTimeout, None, Some(Detail::NoData)),
        Symptom::NameRefused => (ConnectError, None, Some(Detail::Dns)),
        // The resolver reports EAI_AGAIN, unless the client's own timeout was shorter.
        Symptom::NameUnanswered => (ConnectError, Some(ConnectTimeout), Some(Detail::Dns)),
        Symptom::Cancelled | Symptom::ClientDied => (HttpxClass::None, None, None),
    };
    let errno = match evidence.symptom {
        Symptom::Fin | Symptom::Malformed | Symptom::Silence | Symptom::Cancelled | Symptom::ClientDied => None,
        Symptom::ResetAfterFin if phase != Phase::Sending => None,
        Symptom::Refused
        | Symptom::Unreachable
        | Symptom::NotSent
        | Symptom::SynUnanswered
        | Symptom::Reset
        | Symptom::ResetAfterFin
        | Symptom::TimedOut
        | Symptom::NameRefused
        | Symptom::NameUnanswered => evidence.errno.clone(),
    };
    ClientError { httpx, also_possible, detail, errno, phase, retried: false }
}

#[cfg(test)]
mod tests {
    use super::{SocketEvidence, client_error};
    use crate::engine::failures::table::Symptom;
    use crate::model::incident::{Detail, HttpxClass, Phase};

    fn class(symptom: Symptom, phase: Phase, errno: Option<&str>) -> (HttpxClass, Option<Detail>) {
        let errno = errno.map(str::to_owned);
        let headers_complete = phase == Phase::ReceivingBody;
        let error = client_error(&SocketEvidence { symptom, phase, headers_complete, errno });
        (error.httpx, error.detail)
    }

    #[test]
    fn maps_reset_to_read_error_even_while_sending() {
        let found = class(Symptom::Reset, Phase::Sending, Some("ECONNRESET"));
        assert_eq!(found, (HttpxClass::ReadError, Some(Detail::Reset)));
    }

    #[test]
    fn reads_the_end_of_the_stream_before_the_reset_when_the_request_is_complete() {
        let error = |phase| {
            let (symptom, errno) = (Symptom::ResetAfterFin, Some("EPIPE".to_owned()));
            let headers_complete = phase == Phase::ReceivingBody;
            let found = client_error(&SocketEvidence { symptom, phase, headers_complete, errno });
            (found.httpx, found.also_possible, found.detail, found.errno)
        };
        let (protocol, read) = (HttpxClass::RemoteProtocolError, HttpxClass::ReadError);
        assert_eq!(error(Phase::AwaitingResponse), (protocol, Some(read), Some(Detail::NoResponse), None));
        assert_eq!(error(Phase::ReceivingBody), (protocol, Some(read), Some(Detail::IncompleteBody), None));
        let sending = (read, Some(protocol), Some(Detail::ResetAfterFin), Some("EPIPE".to_owned()));
        assert_eq!(error(Phase::Sending), sending);
    }

    #[test]
    fn separates_fin_by_progress_of_the_response() {
        let none = class(Symptom::Fin, Phase::AwaitingResponse, None);
        assert_eq!(none, (HttpxClass::RemoteProtocolError, Some(Detail::NoResponse)));
        let half = class(Symptom::Fin, Phase::ReceivingBody, None);
        assert_eq!(half, (HttpxClass::RemoteProtocolError, Some(Detail::IncompleteBody)));
    }

    #[test]
    fn an_unanswered_syn_is_a_timeout_unless_the_kernel_timeout_first() {
        assert_eq!(class(Symptom::SynUnanswered, Phase::Connecting, None).0, HttpxClass::ConnectTimeout);
        assert_eq!(class(Symptom::SynUnanswered, Phase::Connecting, Some("ETIMEDOUT")).0, HttpxClass::ConnectError);
    }
}
