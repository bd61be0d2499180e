//! Messages built from parts and cut anywhere, and bytes that mean nothing.

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::Told::{Begun, Complete, Informational};
use super::{End, Told};
use crate::framing::{Body, Way};

/// An exchange: the bytes of both sides, and what must be told of them.
#[derive(Clone, Debug)]
struct Exchange {
    request: Vec<u8>,
    answer: Vec<u8>,
    told: Vec<Told>,
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

/// Bodies that look like the end of something.
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
    let asked = (
        proptest::sample::select(vec!["GET", "HEAD", "POST", "PUT", "DELETE"]),
        "/[!-~]{0,30}",
        headers,
        prop_oneof![Just(Payload::None), payload()],
    );
    let answered =
        (proptest::collection::vec(100_u16..200, 0..3), 200_u16..600, "[ -~]{0,10}", headers, payload(), any::<bool>());
    (asked, answered).prop_map(|(asked, answered)| {
        let (method, target, headers, payload) = asked;
        let mut request = format!("{method} {target} HTTP/1.1\r\n{headers}{}\r\n", payload.header()).into_bytes();
        request.extend(payload.bytes());

        let (informational, status, reason, headers, payload, close) = answered;
        let mut answer = Vec::new();
        let mut told = Vec::new();
        for status in informational.into_iter().filter(|status| *status != 101) {
            answer.extend_from_slice(format!("HTTP/1.1 {status} x\r\n{headers}\r\n").as_bytes());
            told.extend([Begun, Informational(status)]);
        }
        let connection = if close { "Connection: close\r\n" } else { "" };
        let start = format!("HTTP/1.1 {status} {reason}\r\n{headers}{connection}{}\r\n", payload.header());
        answer.extend_from_slice(start.as_bytes());
        let body = if method == "HEAD" || status == 204 || status == 304 {
            Body::Empty
        } else {
            answer.extend(payload.bytes());
            match payload {
                Payload::Length(body) => Body::Length(body.len() as u64),
                Payload::Chunked { .. } => Body::Chunked,
                Payload::None => Body::UntilClose,
            }
        };
        told.extend([Begun, Told::Head { status, body, close }, Complete]);
        Exchange { request, answer, told }
    })
}

/// Where to cut, as a stretch length; the last one repeats.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(prop_oneof![1_usize..4, 1_usize..60, 1_usize..3_000], 1..20)
}

fn in_pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
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
    fn exchanges_are_told_alike_however_they_are_cut(
        exchanges in proptest::collection::vec(exchange(), 1..4),
        asking in cuts(),
        answering in cuts(),
        repeated in any::<bool>(),
    ) {
        let mut client = End::new();
        let mut server = End::new();
        let mut expected = Vec::new();
        for exchange in &exchanges {
            for piece in in_pieces(&exchange.request, &asking) {
                client.pass(Way::Out, piece);
                server.pass(Way::In, piece);
                if repeated {
                    client.again(Way::Out, piece, b"");
                    server.again(Way::In, piece, b"");
                }
            }
            for piece in in_pieces(&exchange.answer, &answering) {
                server.pass(Way::Out, piece);
                client.pass(Way::In, piece);
                if repeated {
                    server.again(Way::Out, piece, b"");
                }
            }
            expected.extend(&exchange.told);
        }
        prop_assert_eq!(client.news(), [Begun, Complete].repeat(exchanges.len()));
        prop_assert_eq!(server.news(), expected);
    }

    /// All requests first, then all answers; cut across their boundaries.
    #[test]
    fn pipelined_exchanges_are_told_alike(
        exchanges in proptest::collection::vec(exchange(), 1..6),
        asking in cuts(),
        answering in cuts(),
    ) {
        let mut server = End::new();
        let requests: Vec<u8> = exchanges.iter().flat_map(|exchange| exchange.request.clone()).collect();
        let answers: Vec<u8> = exchanges.iter().flat_map(|exchange| exchange.answer.clone()).collect();
        for piece in in_pieces(&requests, &asking) {
            server.pass(Way::In, piece);
        }
        for piece in in_pieces(&answers, &answering) {
            server.pass(Way::Out, piece);
        }
        let expected: Vec<Told> = exchanges.iter().flat_map(|exchange| exchange.told.clone()).collect();
        prop_assert_eq!(server.news(), expected);
    }

    /// Nothing panics, loops, or is told twice, whatever comes; each byte costs one step at most.
    #[test]
    fn random_bytes_do_no_harm(
        packets in proptest::collection::vec((any::<bool>(), noise(), 0_usize..3), 0..30),
        fresh in any::<bool>(),
    ) {
        let mut end = if fresh { End::new() } else { End::older() };
        let mut bytes = 0;
        for (out, packet, missed) in packets {
            let way = if out { Way::Out } else { Way::In };
            bytes += packet.len();
            end.miss(way, missed / 2);
            end.pass(way, &packet);
        }
        prop_assert!(end.steps <= bytes);
        for last in [Told::Opaque, Told::Malformed] {
            prop_assert!(end.told.iter().filter(|told| **told == last).count() <= 1);
        }
    }

    /// A valid answer with one byte changed never runs away, and is never told complete twice.
    #[test]
    fn a_changed_byte_does_no_harm(exchange in exchange(), at in any::<usize>(), byte in any::<u8>()) {
        let mut end = End::new();
        end.pass(Way::In, &exchange.request);
        let mut answer = exchange.answer.clone();
        let place = at % answer.len();
        answer[place] = byte;
        end.pass(Way::Out, &answer);
        prop_assert!(end.steps <= answer.len() + exchange.request.len());
    }
}

/// Packets that are nearly HTTP.
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
