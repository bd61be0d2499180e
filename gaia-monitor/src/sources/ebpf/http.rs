//! Decoder for records of the HTTP framing. Facts are returned in the order in which they happened.

use gaia_monitor_abi::framing::{Body, Facts};
use gaia_monitor_abi::{HTTP_CLOSE, HTTP_RECEIVED, HTTP_RESPONSE, HttpRecord};

use crate::model::event::{BodyFraming, HttpFact, HttpWhat};
use crate::model::ids::Cookie;

/// All kinds of facts, in order.
const ORDER: [Facts; 7] = [
    Facts::BEGUN,
    Facts::INFORMATIONAL,
    Facts::HEADERS,
    Facts::COMPLETE,
    Facts::UPGRADED,
    Facts::MALFORMED,
    Facts::OPAQUE,
];

pub(super) fn facts(record: HttpRecord) -> impl Iterator<Item = HttpFact> {
    ORDER.into_iter().filter_map(move |fact| {
        let what = what(&record, fact)?;
        let received = record.flags & HTTP_RECEIVED != 0;
        Some(HttpFact { cookie: Cookie(record.cookie), received, what })
    })
}

fn what(record: &HttpRecord, fact: Facts) -> Option<HttpWhat> {
    if !Facts::from_bits(record.facts).has(fact) {
        return None;
    }
    let is_response = record.flags & HTTP_RESPONSE != 0;
    let what = match fact {
        Facts::BEGUN if is_response => HttpWhat::ResponseBegun,
        Facts::BEGUN => HttpWhat::RequestBegun,
        // The header section of a response without a body already implies completion.
        Facts::COMPLETE if is_response && ends_with_headers(record) => return None,
        Facts::COMPLETE if is_response => HttpWhat::ResponseComplete,
        Facts::COMPLETE => HttpWhat::RequestComplete,
        Facts::INFORMATIONAL => HttpWhat::Informational { status: record.status },
        Facts::HEADERS => HttpWhat::ResponseHeaders {
            status: record.status,
            body: body(record),
            close: record.flags & HTTP_CLOSE != 0,
        },
        Facts::UPGRADED => HttpWhat::Upgraded,
        Facts::MALFORMED => HttpWhat::Malformed,
        Facts::OPAQUE => HttpWhat::Opaque,
        _unknown => return None,
    };
    Some(what)
}

fn ends_with_headers(record: &HttpRecord) -> bool {
    Facts::from_bits(record.facts).has(Facts::HEADERS) && body(record) == BodyFraming::Empty
}

/// An unknown number can only come from another version of the probe; the end of the body is then unknown as well.
fn body(record: &HttpRecord) -> BodyFraming {
    match Body::of(record.body, record.length) {
        Some(Body::Empty) => BodyFraming::Empty,
        Some(Body::Length(bytes)) => BodyFraming::Length { bytes },
        Some(Body::Chunked) => BodyFraming::Chunked,
        Some(Body::UntilClose) | None => BodyFraming::UntilClose,
    }
}

#[cfg(test)]
mod tests {
    use gaia_monitor_abi::framing::{Body, Facts};
    use gaia_monitor_abi::{HTTP_CLOSE, HTTP_RECEIVED, HTTP_RESPONSE, Header, HttpRecord};

    use super::facts;
    use crate::model::event::{BodyFraming, HttpWhat};
    use crate::model::ids::Cookie;

    fn record(reported: &[Facts], flags: u8) -> HttpRecord {
        HttpRecord {
            header: Header { kind: 10, len: 48, cpu: 0, reserved: 0, boot_ns: 1 },
            cookie: 7,
            length: 5,
            facts: reported.iter().fold(Facts::NONE, |all, fact| all.and(*fact)).bits(),
            status: 200,
            body: Body::Length(5).number(),
            flags,
        }
    }

    fn whats(reported: &[Facts], flags: u8) -> Vec<HttpWhat> {
        facts(record(reported, flags)).map(|fact| fact.what).collect()
    }

    #[test]
    fn returns_the_facts_of_a_record_in_order() {
        assert_eq!(whats(&[Facts::COMPLETE, Facts::BEGUN], 0), [HttpWhat::RequestBegun, HttpWhat::RequestComplete]);
        let head = HttpWhat::ResponseHeaders { status: 200, body: BodyFraming::Length { bytes: 5 }, close: true };
        assert_eq!(
            whats(&[Facts::HEADERS, Facts::BEGUN, Facts::COMPLETE], HTTP_RESPONSE | HTTP_CLOSE),
            [HttpWhat::ResponseBegun, head, HttpWhat::ResponseComplete]
        );
        assert_eq!(
            whats(&[Facts::BEGUN, Facts::INFORMATIONAL], HTTP_RESPONSE),
            [HttpWhat::ResponseBegun, HttpWhat::Informational { status: 200 }]
        );
        assert_eq!(whats(&[Facts::OPAQUE], 0), [HttpWhat::Opaque]);
        assert_eq!(whats(&[Facts::MALFORMED], HTTP_RESPONSE), [HttpWhat::Malformed]);
        assert_eq!(whats(&[Facts::UPGRADED], HTTP_RESPONSE), [HttpWhat::Upgraded]);
        assert_eq!(whats(&[], 0), []);
    }

    #[test]
    fn omits_completion_of_a_response_without_a_body() {
        let empty =
            HttpRecord { body: Body::Empty.number(), ..record(&[Facts::HEADERS, Facts::COMPLETE], HTTP_RESPONSE) };
        let head = HttpWhat::ResponseHeaders { status: 200, body: BodyFraming::Empty, close: false };
        let whats: Vec<HttpWhat> = facts(empty).map(|fact| fact.what).collect();
        assert_eq!(whats, [head]);
    }

    #[test]
    fn assigns_facts_to_the_sender() {
        let fact = facts(record(&[Facts::BEGUN], 0)).next().unwrap();
        assert_eq!((fact.cookie, fact.received), (Cookie(7), false));
    }

    #[test]
    fn assigns_facts_of_remote_senders_to_the_receiver() {
        let fact = facts(record(&[Facts::BEGUN], HTTP_RESPONSE | HTTP_RECEIVED)).next().unwrap();
        assert_eq!((fact.what, fact.received), (HttpWhat::ResponseBegun, true));
    }
}
