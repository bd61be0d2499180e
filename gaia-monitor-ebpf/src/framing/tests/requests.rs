//! Requests, reported at the client's socket.

use super::Report::{Begun, Complete, Opaque};
use super::{Endpoint, Report, request_reports};
use crate::framing::{Direction, SECTION_MAX};

const WHOLE: [Report; 2] = [Begun, Complete];

#[test]
fn completes_a_request_where_its_framing_ends() {
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET /\u{fc}?q=%20 HTTP/1.1\nHost: bare line feeds\n\n",
        "\r\n\r\nGET /after-empty-lines HTTP/1.1\r\n\r\n",
        "M-SEARCH * HTTP/1.1\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-LENGTH:5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nContent-Length: \t 5 \t\r\n\r\nhello",
        "POST / HTTP/1.1\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nContent-Length:\r\n 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nX-Content-Length: 9\r\nNot-Transfer-Encoding: chunked\r\nXransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab",
    ] {
        assert_eq!(request_reports(request.as_bytes()), WHOLE, "{request:?}");
    }
}

#[test]
fn reports_only_begun_when_a_request_is_incomplete() {
    for request in [
        "G",
        "GET",
        "GET /",
        "GET / HTTP/1.1",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ] {
        assert_eq!(request_reports(request.as_bytes()), [Begun], "{request:?}");
    }
}

#[test]
fn reports_opaque_once_when_the_protocol_is_not_http() {
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"GET /\r\n",
        b"GET / HTTP/1.1 \r\n",
        b"GET  / HTTP/1.1\r\n",
        b"GET /\t HTTP/1.1\r\n",
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.1 408 Request Timeout\r\n\r\n",
        b"\x81\x85\x00\x00\x00\x00hello",
        b"AWordThatIsNoMethodBecauseItIsTooLong / HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(request_reports(bytes), [Opaque], "{:?}", String::from_utf8_lossy(bytes));
    }
    let mut client = Endpoint::new();
    client.pass(Direction::Out, b"\x16\x03\x01\x00");
    client.pass(Direction::Out, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.take_reports(), [Opaque]);
}

#[test]
fn reports_opaque_when_a_request_breaks_its_framing() {
    for request in [
        "POST / HTTP/1.1\r\nContent-Length: five\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    ] {
        assert_eq!(request_reports(request.as_bytes()), [Begun, Opaque], "{request:?}");
    }
}

#[test]
fn separates_requests_in_one_packet_and_in_many() {
    let two = b"GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\n\r\n";
    assert_eq!(request_reports(two), [WHOLE, WHOLE, WHOLE].concat());
    let mut client = Endpoint::new();
    for byte in two {
        client.pass(Direction::Out, &[*byte]);
    }
    assert_eq!(client.take_reports(), [WHOLE, WHOLE, WHOLE].concat());
}

#[test]
fn accepts_headers_up_to_the_limit_of_httpcore() {
    let request_of = |len: usize| {
        let frame = "GET / HTTP/1.1\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(len - frame)).into_bytes()
    };
    // Headers one byte over the limit are complete before the limit is checked.
    assert_eq!(request_reports(&request_of(SECTION_MAX as usize + 1)), WHOLE);
    assert_eq!(request_reports(&request_of(SECTION_MAX as usize + 2)), [Begun, Opaque]);
}

#[test]
fn skips_a_body_by_its_length() {
    let mut client = Endpoint::new();
    client.pass(Direction::Out, b"POST / HTTP/1.1\r\nContent-Length: 6000000000\r\n\r\n");
    let steps = client.steps;
    let packet = vec![b'x'; 60_000];
    for _ in 0..100_000 {
        client.pass(Direction::Out, &packet);
    }
    assert_eq!(client.steps - steps, 100_000);
    assert_eq!(client.take_reports(), WHOLE);
}
