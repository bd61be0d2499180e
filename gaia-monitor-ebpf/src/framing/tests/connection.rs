//! Packets that are retransmitted or missed, older connections, and reports at the right socket.

use super::Report::{Begun, Complete, Malformed, Opaque};
use super::{Endpoint, headers};
use crate::framing::{Body, Direction};

const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn matches_pipelined_responses_with_their_request_methods() {
    let mut socket = Endpoint::new();
    socket.pass(Direction::In, b"HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\nHEAD / HTTP/1.1\r\n\r\n");
    let no_body = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    socket.pass(Direction::Out, &[no_body, HELLO, no_body].concat());
    let (empty, length) = (headers(200, Body::Empty), headers(200, Body::Length(5)));
    assert_eq!(socket.take_reports(), [Begun, empty, Complete, Begun, length, Complete, Begun, empty, Complete]);
}

#[test]
fn accepts_a_response_before_its_request_is_complete() {
    let mut socket = Endpoint::new();
    socket.pass(Direction::In, b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nbegin");
    socket.pass(Direction::Out, b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(socket.take_reports(), [Begun, headers(413, Body::Length(0)), Complete]);
}

#[test]
fn ignores_retransmitted_bytes() {
    let mut socket = Endpoint::new();
    socket.pass(Direction::In, GET);
    let (first, rest) = HELLO.split_at(20);
    socket.pass(Direction::Out, first);
    socket.retransmit(Direction::Out, first, b"");
    socket.retransmit(Direction::Out, &first[10..], rest);
    socket.retransmit(Direction::Out, HELLO, b"");
    assert_eq!(socket.take_reports(), [Begun, headers(200, Body::Length(5)), Complete]);
}

#[test]
fn tolerates_missing_bytes_only_in_a_body() {
    let mut socket = Endpoint::new();
    socket.pass(Direction::In, GET);
    socket.pass(Direction::Out, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    socket.miss(Direction::Out, 60);
    socket.pass(Direction::Out, &[b'x'; 40]);
    socket.pass(Direction::In, GET);
    socket.pass(Direction::Out, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n");
    socket.miss(Direction::Out, 100);
    socket.pass(Direction::Out, b"\r\n0\r\n\r\n");
    let reports = [Begun, headers(200, Body::Length(100)), Complete, Begun, headers(200, Body::Chunked), Complete];
    assert_eq!(socket.take_reports(), reports);
    socket.pass(Direction::In, GET);
    socket.pass(Direction::Out, b"HTTP/1.1 200 OK\r\n");
    socket.miss(Direction::Out, 1);
    socket.pass(Direction::Out, b"\r\n");
    socket.pass(Direction::Out, HELLO);
    assert_eq!(socket.take_reports(), [Begun, Opaque]);
}

#[test]
fn reports_complete_with_the_next_packet_when_the_end_of_the_body_is_missed() {
    let mut socket = Endpoint::new();
    socket.pass(Direction::In, GET);
    socket.pass(Direction::Out, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    socket.miss(Direction::Out, 5);
    socket.pass(Direction::In, GET);
    socket.pass(Direction::Out, b"HTTP/1.1 204 x\r\n\r\n");
    let reports = [Begun, headers(200, Body::Length(5)), Complete, Begun, headers(204, Body::Empty), Complete];
    assert_eq!(socket.take_reports(), reports);
}

#[test]
fn resumes_at_the_next_request_when_one_is_missed() {
    let mut socket = Endpoint::new();
    socket.pass(Direction::In, GET);
    socket.pass(Direction::Out, HELLO);
    socket.miss(Direction::In, GET.len());
    socket.pass(Direction::In, b"second half of something");
    socket.pass(Direction::Out, HELLO);
    socket.pass(Direction::In, b"HEAD / HTTP/1.1\r\n\r\n");
    socket.pass(Direction::Out, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    let whole = [Begun, headers(200, Body::Length(5)), Complete];
    assert_eq!(socket.take_reports(), [whole, whole, [Begun, headers(200, Body::Empty), Complete]].concat());
}

#[test]
fn follows_an_older_connection_from_its_next_request() {
    let mut client = Endpoint::older();
    client.pass(Direction::Out, b"rest of an upload");
    client.pass(Direction::In, HELLO);
    client.pass(Direction::Out, GET);
    client.pass(Direction::In, HELLO);
    client.pass(Direction::Out, b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n");
    client.pass(Direction::Out, b"GET /");
    assert_eq!(client.take_reports(), [Begun, Complete, Begun, Complete]);

    let mut server = Endpoint::older();
    server.pass(Direction::Out, b"rest of a download");
    server.pass(Direction::In, b"HEAD / HTTP/1.1\r\n\r\n");
    server.pass(Direction::Out, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    server.pass(Direction::In, GET);
    server.pass(Direction::Out, b"nonsense");
    assert_eq!(server.take_reports(), [Begun, headers(200, Body::Empty), Complete, Malformed]);
}

#[test]
fn assumes_a_get_when_the_request_arrived_in_the_handshake() {
    let mut socket = Endpoint::with_request_in_handshake();
    socket.pass(Direction::Out, HELLO);
    socket.pass(Direction::In, b"HEAD / HTTP/1.1\r\n\r\n");
    socket.pass(Direction::Out, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    let whole = [Begun, headers(200, Body::Length(5)), Complete];
    assert_eq!(socket.take_reports(), [whole, [Begun, headers(200, Body::Empty), Complete]].concat());
}

#[test]
fn reports_nothing_when_an_older_connection_is_not_http() {
    let mut socket = Endpoint::older();
    for _ in 0..3 {
        socket.pass(Direction::Out, b"\x17\x03\x03\x00\x05hello");
        socket.pass(Direction::In, b"GET almost a request");
    }
    assert_eq!(socket.take_reports(), []);
}

#[test]
fn reports_every_message_at_its_sender_only() {
    let mut client = Endpoint::new();
    client.pass(Direction::Out, GET);
    client.pass(Direction::In, HELLO);
    assert_eq!(client.take_reports(), [Begun, Complete]);
    let mut server = Endpoint::new();
    server.pass(Direction::In, GET);
    assert_eq!(server.take_reports(), []);
}

#[test]
fn reports_responses_at_the_client_when_the_server_is_remote() {
    let mut socket = Endpoint::with_remote_peer();
    socket.pass(Direction::Out, b"HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    assert_eq!(socket.take_reports(), [Begun, Complete, Begun, Complete]);
    socket.pass(Direction::In, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(socket.take_reports(), [Begun, headers(200, Body::Empty), Complete]);
    socket.pass(Direction::In, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
    assert_eq!(socket.take_reports(), [Begun, headers(200, Body::Length(5))]);
    socket.pass(Direction::In, b"lo");
    assert_eq!(socket.take_reports(), [Complete]);
}

#[test]
fn reports_requests_at_the_server_when_the_client_is_remote() {
    let mut socket = Endpoint::with_remote_peer();
    socket.pass(Direction::In, b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nab");
    assert_eq!(socket.take_reports(), [Begun]);
    socket.pass(Direction::In, b"cd");
    socket.pass(Direction::Out, b"HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(socket.take_reports(), [Complete, Begun, headers(204, Body::Empty), Complete]);
}

#[test]
fn reports_opaque_when_a_remote_chunk_line_has_a_gap() {
    let mut socket = Endpoint::with_remote_peer();
    socket.pass(Direction::Out, b"GET / HTTP/1.1\r\n\r\n");
    socket.pass(Direction::In, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n");
    socket.take_reports();
    socket.miss(Direction::In, 8);
    socket.pass(Direction::In, b"\r\n\r\n");
    assert_eq!(socket.take_reports(), [Opaque]);
}
