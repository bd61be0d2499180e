//! From what a client's socket got to the class that httpx raises on it (httpx over anyio, httpcore 1.x).
//!
//! The class goes by the socket, whatever the client is. Measured, not deduced: a reset is `ReadError` even while the
//! request's body is being sent, because httpcore swallows the write error and meets it again when it reads.

use crate::model::incident::{ClientError, Detail, HttpxClass, Phase};

use crate::engine::failures::table::Symptom;

/// What the class is derived from.
#[derive(Clone, Debug)]
pub struct Evidence {
    pub symptom: Symptom,
    pub phase: Phase,
    /// The header of its answer is complete.
    pub head: bool,
    pub errno: Option<String>,
}

/// `retried` is left false: policy decides it.
#[must_use]
pub fn client_error(evidence: &Evidence) -> ClientError {
    use HttpxClass::{ConnectError, ConnectTimeout, ReadError, ReadTimeout, RemoteProtocolError, WriteTimeout};
    let phase = evidence.phase;
    let kernel_gave_up = evidence.errno.is_some();
    let cut = if evidence.head { Detail::IncompleteBody } else { Detail::NoResponse };
    let (httpx, or, detail) = match evidence.symptom {
        Symptom::Refused => (ConnectError, None, Some(Detail::Refused)),
        Symptom::Unreachable => (ConnectError, None, Some(Detail::Unreachable)),
        Symptom::SynUnanswered if kernel_gave_up => (ConnectError, None, Some(Detail::SynTimeout)),
        Symptom::SynUnanswered => (ConnectTimeout, None, Some(Detail::SynTimeout)),
        Symptom::Fin => (RemoteProtocolError, None, Some(cut)),
        Symptom::Reset => (ReadError, None, Some(Detail::Reset)),
        // An event loop that saw the FIN before the RST tells its reader of the end, also when it had written meanwhile.
        Symptom::ResetAfterFin => (ReadError, Some(RemoteProtocolError), Some(Detail::ResetAfterFin)),
        Symptom::TimedOut => (ReadError, None, Some(Detail::TimedOut)),
        Symptom::Malformed => (RemoteProtocolError, None, Some(Detail::Malformed)),
        // A client whose request is stuck half way waits for room to write, or for an answer that it reads meanwhile.
        Symptom::Silence if phase == Phase::Sending => (WriteTimeout, Some(ReadTimeout), Some(Detail::NoData)),
        Symptom::Silence => (ReadTimeout, None, Some(Detail::NoData)),
        Symptom::NameRefused => (ConnectError, None, Some(Detail::Dns)),
        // Whose patience ends first, the client's or its resolver's, decides.
        Symptom::NameUnanswered => (ConnectTimeout, Some(ConnectError), Some(Detail::Dns)),
        Symptom::Cancelled | Symptom::Died => (HttpxClass::None, None, None),
    };
    let errno = match evidence.symptom {
        Symptom::Fin | Symptom::Malformed | Symptom::Silence | Symptom::Cancelled | Symptom::Died => None,
        Symptom::Refused
        | Symptom::Unreachable
        | Symptom::SynUnanswered
        | Symptom::Reset
        | Symptom::ResetAfterFin
        | Symptom::TimedOut
        | Symptom::NameRefused
        | Symptom::NameUnanswered => evidence.errno.clone(),
    };
    ClientError { httpx, or, detail, errno, phase, retried: false }
}

#[cfg(test)]
mod tests {
    use super::{Evidence, client_error};
    use crate::engine::failures::table::Symptom;
    use crate::model::incident::{Detail, HttpxClass, Phase};

    fn class(symptom: Symptom, phase: Phase, errno: Option<&str>) -> (HttpxClass, Option<Detail>) {
        let errno = errno.map(str::to_owned);
        let head = phase == Phase::ReceivingBody;
        let error = client_error(&Evidence { symptom, phase, head, errno });
        (error.httpx, error.detail)
    }

    #[test]
    fn a_reset_is_a_read_error_even_while_the_body_is_sent() {
        let found = class(Symptom::Reset, Phase::Sending, Some("ECONNRESET"));
        assert_eq!(found, (HttpxClass::ReadError, Some(Detail::Reset)));
    }

    #[test]
    fn a_reset_after_the_fin_may_be_read_as_the_fin() {
        let (symptom, errno) = (Symptom::ResetAfterFin, Some("EPIPE".to_owned()));
        let error = client_error(&Evidence { symptom, phase: Phase::AwaitingResponse, head: false, errno });
        assert_eq!((error.httpx, error.or), (HttpxClass::ReadError, Some(HttpxClass::RemoteProtocolError)));
    }

    #[test]
    fn a_fin_is_told_apart_by_how_far_the_answer_was() {
        let none = class(Symptom::Fin, Phase::AwaitingResponse, None);
        assert_eq!(none, (HttpxClass::RemoteProtocolError, Some(Detail::NoResponse)));
        let half = class(Symptom::Fin, Phase::ReceivingBody, None);
        assert_eq!(half, (HttpxClass::RemoteProtocolError, Some(Detail::IncompleteBody)));
    }

    #[test]
    fn an_unanswered_syn_is_a_timeout_unless_the_kernel_gave_up_first() {
        assert_eq!(class(Symptom::SynUnanswered, Phase::Connecting, None).0, HttpxClass::ConnectTimeout);
        assert_eq!(class(Symptom::SynUnanswered, Phase::Connecting, Some("ETIMEDOUT")).0, HttpxClass::ConnectError);
    }
}
