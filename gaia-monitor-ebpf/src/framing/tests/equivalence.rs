//! Comparison of feeding by words, as the kernel does it, with feeding single bytes: after every packet both have made
//! the same reports and have the same state, so that whatever follows, a break included, finds the same facts.

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use super::Endpoint;
use crate::framing::{Direction, Flow, SECTION_MAX};

/// Packets with their direction, and the number of bytes before them that no hook saw.
type Packets = Vec<(bool, Vec<u8>, usize)>;

/// Plays the packets both ways, and compares after each.
fn compare(new: fn() -> Endpoint, window: u32, packets: &Packets) -> Result<(), proptest::test_runner::TestCaseError> {
    let mut by_bytes = new().by_bytes();
    let mut by_words = new().by_words(window);
    for (out, packet, missed) in packets {
        let direction = if *out { Direction::Out } else { Direction::In };
        for endpoint in [&mut by_bytes, &mut by_words] {
            endpoint.miss(direction, *missed);
            endpoint.pass(direction, packet);
        }
        prop_assert_eq!(&by_bytes.reports, &by_words.reports);
        prop_assert_eq!(&by_bytes.flow, &by_words.flow);
    }
    Ok(())
}

const OPENINGS: [fn() -> Endpoint; 4] =
    [Endpoint::new, Endpoint::older, Endpoint::with_request_in_handshake, Endpoint::with_remote_peer];

/// Pieces of traffic, valid and not: what makes the parser change its state.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::sample::select(vec![
            "GET / HTTP/1.1\r\n", "HEAD /a?b=c HTTP/1.1\r\n", "POST /upload HTTP/1.0\r\n", "CONNECT a:443 HTTP/1.1\r\n",
            "get\t/ HTTP/1.1\r\n", "GET /\u{7f} HTTP/1.1\r\n", "GET / HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "HTTP/1.1 200 OK\r\n", "HTTP/1.0 404 Not Found\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 204 \r\n",
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "HTTP/1.1 304\r\n", "HTTP/1.1 101 Switching\r\n\r\n",
            "HTTP/1.2 200 OK\r\n", "HTTP/11 200 OK\r\n", "HTTQ/1.1 200 OK\r\n", "HTTP/1.1 20 OK\r\n",
            "Content-Length: 0\r\n", "content-length:11\r\n", "CONTENT-LENGTH: 3, 3\r\n", "Content-Length: x\r\n",
            "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip, chunked\r\n", "transfer-encoding: gzip\r\n",
            "Connection: close\r\n", "Connection: keep-alive, Upgrade\r\n", "X-Long_name.1: va\tlue \u{e9}\r\n",
            "Content-Lengths: 5\r\n", "X: a\r\n b: folded\r\n", "X : y\r\n", "no colon\r\n", "X: a\u{b}b\r\n", "X: a\rb\r\n",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        2 => proptest::sample::select(vec![
            "\r\n", "\n", "0\r\n\r\n", "3\r\nabc\r\n", "B;ext=\"v\"\r\nhello world\r\n", "0\r\nTrailer: x\r\n\r\n", "g\r\n",
            "hello world", "\u{0}\u{16}\u{3}\u{1}",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => "[A-Za-z0-9-]{1,40}: [ -~]{0,60}\r\n".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..24),
    ]
}

/// The bytes of one direction, and the lengths of its packets.
fn stream() -> impl Strategy<Value = (Vec<Vec<u8>>, Vec<usize>)> {
    let cut = prop_oneof![Just(1_usize), 1_usize..10, 1_usize..70, Just(usize::MAX)];
    (proptest::collection::vec(piece(), 0..16), proptest::collection::vec(cut, 1..8))
}

/// Two streams of pieces, each cut into packets of its own, interleaved in any order.
fn traffic() -> impl Strategy<Value = Packets> {
    let order = proptest::collection::vec((any::<bool>(), prop_oneof![9 => Just(0_usize), 1 => 1_usize..6]), 0..60);
    (stream(), stream(), order).prop_map(|(sent, received, order)| {
        let [mut sent, mut received] = [sent, received].map(|(pieces, cuts)| packets_of(&pieces.concat(), &cuts));
        let mut packets = Vec::new();
        for (out, missed) in order {
            let source = if out { &mut sent } else { &mut received };
            if let Some(packet) = source.pop() {
                packets.push((out, packet, missed));
            }
        }
        packets.extend(sent.into_iter().rev().map(|packet| (true, packet, 0)));
        packets.extend(received.into_iter().rev().map(|packet| (false, packet, 0)));
        packets
    })
}

/// The packets of a stream, the first one last.
fn packets_of(bytes: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut packets: Vec<Vec<u8>> = super::random::in_pieces(bytes, cuts).into_iter().map(<[u8]>::to_vec).collect();
    packets.reverse();
    packets
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn words_and_bytes_give_the_same_facts(opening in 0_usize..4, window in 1_u32..40, packets in traffic()) {
        compare(OPENINGS[opening], window, &packets)?;
    }
}

/// Each place where a message can be cut in two packets.
#[test]
fn words_and_bytes_agree_at_every_cut() {
    let request = b"POST /v1/mcp?x=1 HTTP/1.1\r\nHost: server:8000\r\nUser-Agent: python-httpx/0.27.0\r\n\
        Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n";
    let response = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nserver: uvicorn\r\n\
        Content-Type: application/json\r\ncontent-length: 17\r\nConnection: keep-alive\r\n\r\n{\"status\": \"okay\"}";
    let cuts_of_request = (1..request.len()).map(|cut| (cut, response.len() / 2));
    let cuts_of_response = (1..response.len()).map(|cut| (request.len() / 2, cut));
    for (cut_request, cut_response) in cuts_of_request.chain(cuts_of_response) {
        let (begin, rest) = request.split_at(cut_request);
        let (answer, tail) = response.split_at(cut_response);
        let packets = [(false, begin), (false, rest), (true, answer), (true, tail)];
        compare(Endpoint::new, 32, &packets.map(|(out, bytes)| (out, bytes.to_vec(), 0)).to_vec()).unwrap();
    }
}

/// The byte that exceeds the limit of a section is the same one.
#[test]
fn words_and_bytes_agree_at_the_limit_of_a_section() {
    for len in SECTION_MAX as usize - 60..SECTION_MAX as usize + 20 {
        let header = format!("HTTP/1.1 200 OK\r\nX-{}: {}", "a".repeat(len / 2), "b".repeat(len / 2));
        let packets = vec![(false, b"GET / HTTP/1.1\r\n\r\n".to_vec(), 0), (true, header.into_bytes(), 0)];
        compare(Endpoint::new, 32, &packets).unwrap();
    }
}

#[test]
fn begins_as_zeros() {
    // SAFETY: integers and enums of which the first variant is 0, without padding.
    let bytes: [u8; size_of::<Flow>()] = unsafe { std::mem::transmute(Flow::EMPTY) };
    assert!(bytes.iter().all(|byte| *byte == 0), "{bytes:?}");
}
