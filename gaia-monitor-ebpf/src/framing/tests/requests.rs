//! The direction of the requests, at the client's socket.

use super::Told::{Begun, Complete, Opaque};
use super::{End, Told, asked};
use crate::framing::{HEAD_MAX, Way};

const WHOLE: [Told; 2] = [Begun, Complete];

#[test]
fn a_request_is_complete_at_the_end_of_what_it_announces() {
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
        assert_eq!(asked(request.as_bytes()), WHOLE, "{request:?}");
    }
}

#[test]
fn an_unfinished_request_is_begun_only() {
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
        assert_eq!(asked(request.as_bytes()), [Begun], "{request:?}");
    }
}

#[test]
fn other_protocols_are_opaque_once() {
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
        assert_eq!(asked(bytes), [Opaque], "{:?}", String::from_utf8_lossy(bytes));
    }
    let mut end = End::new();
    end.pass(Way::Out, b"\x16\x03\x01\x00");
    end.pass(Way::Out, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(end.news(), [Opaque]);
}

#[test]
fn a_request_that_breaks_its_framing_is_opaque() {
    for request in [
        "POST / HTTP/1.1\r\nContent-Length: five\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    ] {
        assert_eq!(asked(request.as_bytes()), [Begun, Opaque], "{request:?}");
    }
}

#[test]
fn requests_follow_each_other_in_one_packet_and_in_many() {
    let two = b"GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\n\r\n";
    assert_eq!(asked(two), [WHOLE, WHOLE, WHOLE].concat());
    let mut end = End::new();
    for byte in two {
        end.pass(Way::Out, &[*byte]);
    }
    assert_eq!(end.news(), [WHOLE, WHOLE, WHOLE].concat());
}

#[test]
fn a_head_may_be_as_long_as_httpcore_takes() {
    let head = |len: usize| {
        let frame = "GET / HTTP/1.1\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(len - frame)).into_bytes()
    };
    // One byte more than the limit is complete before anybody sees that it is too long.
    assert_eq!(asked(&head(HEAD_MAX as usize + 1)), WHOLE);
    assert_eq!(asked(&head(HEAD_MAX as usize + 2)), [Begun, Opaque]);
}

#[test]
fn a_body_is_skipped_by_its_length() {
    let mut end = End::new();
    end.pass(Way::Out, b"POST / HTTP/1.1\r\nContent-Length: 6000000000\r\n\r\n");
    let steps = end.steps;
    let packet = vec![b'x'; 60_000];
    for _ in 0..100_000 {
        end.pass(Way::Out, &packet);
    }
    assert_eq!(end.steps - steps, 100_000);
    assert_eq!(end.news(), WHOLE);
}
