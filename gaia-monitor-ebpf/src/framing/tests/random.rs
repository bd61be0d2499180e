//! Property tests: messages built from parts and split anywhere, and random bytes.

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::Report::{Begun, Complete, Informational};
use super::{Endpoint, Report};
use crate::framing::{Body, Direction};

/// A request, its response, and the expected reports of the server.
#[derive(Clone, Debug)]
struct Exchange {
    request: Vec<u8>,
    response: Vec<u8>,
    reports: Vec<Report>,
}

#[derive(Clone, Debug)]
enum Payload {
    None,
    Length(Vec<u8>),
    Chunked { chunks: Vec<Vec<u8>>, extension: String, trailer: String },
}

impl Payload {
    fn header(&self) -> String {
        match self {
            Payload::None => String::new(),
            Payload::Length(body) => format!("Content-LENGTH:{}\r\n", body.len()),
            Payload::Chunked { .. } => "transfer-encoding: chunked\r\n".to_owned(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Payload::None => Vec::new(),
            Payload::Length(body) => body.clone(),
            Payload::Chunked { chunks, extension, trailer } => {
                let mut bytes = Vec::new();
                for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                    bytes.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
                bytes
            }
        }
    }
}

/// Bodies that contain message delimiters.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<Vec<u8>>(),
        Just(b"\r\n\r\n".to_vec()),
        Just(b"0\r\n\r\n".to_vec()),
        Just(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        Just(b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ];
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        body().prop_map(Payload::Length),
        (proptest::collection::vec(body(), 0..5), "(;[a-z]{1,5}(=[a-z0-9]{1,5})?)?", "(X-[a-z]{1,5}: [ -~]{0,9}\r\n)?")
            .prop_map(|(chunks, extension, trailer)| Payload::Chunked { chunks, extension, trailer }),
    ]
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let headers = "(X-[A-Za-z]{1,9}: ?[!-~]{0,20}\r\n){0,4}";
    let request = (
        proptest::sample::select(vec!["GET", "HEAD", "POST", "PUT", "DELETE"]),
        "/[!-~]{0,30}",
        headers,
        prop_oneof![Just(Payload::None), payload()],
    );
    let response =
        (proptest::collection::vec(100_u16..200, 0..3), 200_u16..600, "[ -~]{0,10}", headers, payload(), any::<bool>());
    (request, response).prop_map(|(request, response)| {
        let (method, target, headers, payload) = request;
        let mut request = format!("{method} {target} HTTP/1.1\r\n{headers}{}\r\n", payload.header()).into_bytes();
        request.extend(payload.bytes());

        let (informational, status, reason, headers, payload, close) = response;
        let mut response = Vec::new();
        let mut reports = Vec::new();
        for status in informational.into_iter().filter(|status| *status != 101) {
            response.extend_from_slice(format!("HTTP/1.1 {status} x\r\n{headers}\r\n").as_bytes());
            reports.extend([Begun, Informational(status)]);
        }
        let connection = if close { "Connection: close\r\n" } else { "" };
        let start = format!("HTTP/1.1 {status} {reason}\r\n{headers}{connection}{}\r\n", payload.header());
        response.extend_from_slice(start.as_bytes());
        let body = if method == "HEAD" || status == 204 || status == 304 {
            Body::Empty
        } else {
            response.extend(payload.bytes());
            match payload {
                Payload::Length(body) => Body::Length(body.len() as u64),
                Payload::Chunked { .. } => Body::Chunked,
                Payload::None => Body::UntilClose,
            }
        };
        reports.extend([Begun, Report::Headers { status, body, close }, Complete]);
        Exchange { request, response, reports }
    })
}

/// Packet lengths, repeated as often as needed.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(prop_oneof![1_usize..4, 1_usize..60, 1_usize..3_000], 1..20)
}

pub(super) fn in_pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    let mut lengths = cuts.iter().cycle();
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(rest.len().min(*lengths.next().unwrap()));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reports_do_not_depend_on_segmentation(
        exchanges in proptest::collection::vec(exchange(), 1..4),
        request_cuts in cuts(),
        response_cuts in cuts(),
        repeated in any::<bool>(),
    ) {
        let mut client = Endpoint::new();
        let mut server = Endpoint::new();
        let mut expected = Vec::new();
        for exchange in &exchanges {
            for piece in in_pieces(&exchange.request, &request_cuts) {
                client.pass(Direction::Out, piece);
                server.pass(Direction::In, piece);
                if repeated {
                    client.retransmit(Direction::Out, piece, b"");
                    server.retransmit(Direction::In, piece, b"");
                }
            }
            for piece in in_pieces(&exchange.response, &response_cuts) {
                server.pass(Direction::Out, piece);
                client.pass(Direction::In, piece);
                if repeated {
                    server.retransmit(Direction::Out, piece, b"");
                }
            }
            expected.extend(&exchange.reports);
        }
        prop_assert_eq!(client.take_reports(), [Begun, Complete].repeat(exchanges.len()));
        prop_assert_eq!(server.take_reports(), expected);
    }

    /// All requests first, then all responses; segments cross message boundaries.
    #[test]
    fn reports_do_not_depend_on_pipelining(
        exchanges in proptest::collection::vec(exchange(), 1..6),
        request_cuts in cuts(),
        response_cuts in cuts(),
    ) {
        let mut server = Endpoint::new();
        let requests: Vec<u8> = exchanges.iter().flat_map(|exchange| exchange.request.clone()).collect();
        let responses: Vec<u8> = exchanges.iter().flat_map(|exchange| exchange.response.clone()).collect();
        for piece in in_pieces(&requests, &request_cuts) {
            server.pass(Direction::In, piece);
        }
        for piece in in_pieces(&responses, &response_cuts) {
            server.pass(Direction::Out, piece);
        }
        let expected: Vec<Report> = exchanges.iter().flat_map(|exchange| exchange.reports.clone()).collect();
        prop_assert_eq!(server.take_reports(), expected);
    }

    /// Random bytes cause no panic, no loop and no duplicate final report; each byte costs at most one step.
    #[test]
    fn bounds_the_work_when_bytes_are_random(
        packets in proptest::collection::vec((any::<bool>(), noise(), 0_usize..3), 0..30),
        fresh in any::<bool>(),
    ) {
        let mut socket = if fresh { Endpoint::new() } else { Endpoint::older() };
        let mut bytes = 0;
        for (out, packet, missed) in packets {
            let direction = if out { Direction::Out } else { Direction::In };
            bytes += packet.len();
            socket.miss(direction, missed / 2);
            socket.pass(direction, &packet);
        }
        prop_assert!(socket.steps <= bytes);
        for last in [Report::Opaque, Report::Malformed] {
            prop_assert!(socket.reports.iter().filter(|report| **report == last).count() <= 1);
        }
    }

    /// One changed byte in a valid response does not increase the number of steps.
    #[test]
    fn bounds_the_work_when_a_byte_is_changed(exchange in exchange(), at in any::<usize>(), byte in any::<u8>()) {
        let mut socket = Endpoint::new();
        socket.pass(Direction::In, &exchange.request);
        let mut response = exchange.response.clone();
        let place = at % response.len();
        response[place] = byte;
        socket.pass(Direction::Out, &response);
        prop_assert!(socket.steps <= response.len() + exchange.request.len());
    }
}

/// Packets that resemble HTTP.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<Vec<u8>>(),
        proptest::sample::select(vec![
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"HTTP/1.1 200 OK\r\n".to_vec(),
            b"Content-Length: 18446744073709551615\r\n".to_vec(),
            b"Content-Length: 99999999999999999999\r\n".to_vec(),
            b"Transfer-Encoding: chunked\r\n".to_vec(),
            b"\r\n".to_vec(),
            b"ffffffffffffffff\r\n".to_vec(),
            b"ffffffffffffffffffff\r\n".to_vec(),
            b"0\r\n\r\n".to_vec(),
        ]),
    ];
    proptest::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}
