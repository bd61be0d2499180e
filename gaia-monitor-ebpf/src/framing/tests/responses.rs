//! Responses, reported at the server's socket.

use super::Report::{Begun, Complete, Informational, Malformed, Opaque, Upgraded};
use super::{Endpoint, closing_headers, headers, response_reports, server_reports};
use crate::framing::{Body, Direction, SECTION_MAX};

const GET: &str = "GET / HTTP/1.1\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\n\r\n";

#[test]
fn ends_the_body_where_its_framing_says() {
    for (response, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Body::Length(5)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Body::Length(0)),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Body::Length(0)),
        ("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", Body::Length(0)),
        ("HTTP/1.1 200 G\u{e4}nz\tgut\nContent-Length: 1\n\nx", Body::Length(1)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Body::Chunked),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n",
            Body::Chunked,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n00000005;name=\"v\" ;x\r\nhello\r\n0 ;last\r\nDigest: x\r\n folded\r\n\r\n",
            Body::Chunked,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 \t\r\nhello\r\n0\r\nContent-Length: nonsense\n\n",
            Body::Chunked,
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", Body::Chunked),
    ] {
        assert_eq!(response_reports(response.as_bytes()), [Begun, headers(200, body), Complete], "{response:?}");
    }
}

#[test]
fn expects_no_body_when_status_or_method_excludes_one() {
    for status in [204, 304] {
        let response = format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(response_reports(response.as_bytes()), [Begun, headers(status, Body::Empty), Complete]);
    }
    let reports = server_reports(&[
        (HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (HEAD, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("head / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
    ]);
    let no_body = [Begun, headers(200, Body::Empty), Complete];
    assert_eq!(reports, [no_body, no_body, [Begun, headers(200, Body::Length(1)), Complete]].concat());
}

#[test]
fn reads_until_close_when_the_length_is_unknown() {
    for (response, reports) in [
        ("HTTP/1.1 200 OK\r\n\r\nbody\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", headers(200, Body::UntilClose)),
        ("HTTP/1.0 200 OK\r\n\r\nbody", closing_headers(200, Body::UntilClose)),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", closing_headers(200, Body::UntilClose)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\nabcd", headers(200, Body::UntilClose)),
    ] {
        assert_eq!(response_reports(response.as_bytes()), [Begun, reports], "{response:?}");
    }
}

#[test]
fn detects_close_from_version_and_connection_field() {
    let whole = |version: &str, connection: &str| {
        response_reports(format!("HTTP/{version} 200 OK\r\n{connection}Content-Length: 0\r\n\r\n").as_bytes())
    };
    let open = [Begun, headers(200, Body::Length(0)), Complete];
    let closing = [Begun, closing_headers(200, Body::Length(0)), Complete];
    assert_eq!(whole("1.1", ""), open);
    assert_eq!(whole("1.1", "Connection: keep-alive\r\n"), open);
    assert_eq!(whole("1.1", "Connection: enclose, closed\r\n"), open);
    assert_eq!(whole("1.1", "connection:CLOSE\r\n"), closing);
    assert_eq!(whole("1.1", "Connection: Upgrade , close\r\n"), closing);
    assert_eq!(whole("1.1", "Connection: Upgrade\r\nConnection:\r\n\tclose\r\n"), closing);
    assert_eq!(whole("1.0", ""), closing);
    assert_eq!(whole("1.0", "Connection: Keep-Alive\r\n"), open);
    assert_eq!(whole("1.0", "Connection: keep-alive, close\r\n"), closing);
}

#[test]
fn keeps_the_request_outstanding_when_the_response_is_informational() {
    let reports = server_reports(&[
        (HEAD, b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    ]);
    let response = [Begun, headers(200, Body::Empty), Complete];
    assert_eq!(reports, [vec![Begun, Informational(100), Begun, Informational(103)], response.to_vec()].concat());
}

#[test]
fn stops_parsing_after_an_upgrade() {
    let upgrade = "GET /chat HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello";
    assert_eq!(server_reports(&[(upgrade, switched), ("\u{1}\u{2}", b"HTTP/1.1 200 OK\r\n")]), [Begun, Upgraded]);

    let connect = "CONNECT a:443 HTTP/1.1\r\n\r\n";
    let connected = b"HTTP/1.1 200 Connected\r\nContent-Length: 5\r\n\r\n\x16\x03";
    assert_eq!(server_reports(&[(connect, connected), ("x", b"y")]), [Begun, headers(200, Body::Empty), Upgraded]);
    let refused = b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno";
    assert_eq!(server_reports(&[(connect, refused)]), [Begun, headers(403, Body::Length(2)), Complete]);
}

#[test]
fn reports_malformed_once_when_a_response_does_not_start_as_http() {
    for response in [
        b"this is not http\r\n\r\n".as_slice(),
        b"\x15\x03\x03\x00\x02\x02\x0a",
        b"HTTQ/1.1 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"HTTP/1,1 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/11 200 OK\r\n\r\n",
    ] {
        let mut server = Endpoint::new();
        server.pass(Direction::In, GET.as_bytes());
        server.pass(Direction::Out, response);
        server.pass(Direction::Out, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(server.take_reports(), [Malformed], "{:?}", String::from_utf8_lossy(response));
    }
}

#[test]
fn reports_malformed_once_when_a_response_breaks_its_framing() {
    let chunked = |rest: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{rest}");
    let chunks = [
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "5\nhello",
        "5\rhello",
        ";x\r\n",
        "5x\r\n",
        "0x5\r\n",
        "5;ext\nhello",
        "5\r\nhellO!",
        "5\r\nhello\n",
        "5\r\nhello\rX",
        "000000000000000000005\r\n",
        "0\r\nbad trailer\r\n",
        "0\r\n x: y\r\n\r\n",
        "0\r\nx: y\rz",
    ];
    for rest in chunks {
        let reports = response_reports(chunked(rest).as_bytes());
        assert_eq!(reports, [Begun, headers(200, Body::Chunked), Malformed], "{rest:?}");
    }
    for response in [
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "HTTP/1.1 200 OK\rX",
        "HTTP/1.1 200 OK\r\nbad header line\r\n\r\n",
        "HTTP/1.1 200 OK\r\nname : value\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: value\r\n\r\n",
        "HTTP/1.1 200 OK\r\n leading: fold\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n\rb",
        "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5,\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 123456789012345678901\r\n\r\n",
    ] {
        assert_eq!(response_reports(response.as_bytes()), [Begun, Malformed], "{response:?}");
    }
}

#[test]
fn reports_malformed_when_headers_exceed_100_kib() {
    let response_of = |len: usize| {
        let frame = "HTTP/1.1 204 x\r\nX: \r\n\r\n".len();
        format!("HTTP/1.1 204 x\r\nX: {}\r\n\r\n", "a".repeat(len - frame)).into_bytes()
    };
    assert_eq!(response_reports(&response_of(SECTION_MAX as usize + 1)), [Begun, headers(204, Body::Empty), Complete]);
    assert_eq!(response_reports(&response_of(SECTION_MAX as usize + 2)), [Begun, Malformed]);
    let line = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;{}", "e".repeat(SECTION_MAX as usize));
    assert_eq!(response_reports(line.as_bytes()), [Begun, headers(200, Body::Chunked), Malformed]);
}

#[test]
fn does_not_report_malformed_when_a_valid_response_is_cut() {
    let whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n";
    for cut in 1..whole.len() {
        let reports = response_reports(&whole[..cut]);
        assert_eq!(reports.first(), Some(&Begun), "{cut}");
        assert!(!reports.contains(&Malformed) && !reports.contains(&Complete), "{cut}: {reports:?}");
    }
}

#[test]
fn reports_surplus_bytes_as_malformed_only_when_another_request_follows() {
    let response = b"HTTP/1.1 204 No Content\r\n\r\nbody that must not be";
    let first = [Begun, headers(204, Body::Empty), Complete];
    assert_eq!(server_reports(&[(GET, response)]), first);
    let reports = server_reports(&[(GET, response), (GET, b"HTTP/1.1 204 No Content\r\n\r\n")]);
    assert_eq!(reports, [first.as_slice(), &[Malformed]].concat());
}

#[test]
fn ignores_an_empty_line_after_a_response() {
    let response = b"HTTP/1.1 204 No Content\r\n\r\n\r\n";
    let whole = [Begun, headers(204, Body::Empty), Complete];
    assert_eq!(server_reports(&[(GET, response), (GET, response)]), [whole, whole].concat());
}

#[test]
fn reports_an_unsolicited_response() {
    let mut server = Endpoint::new();
    server.pass(Direction::In, GET.as_bytes());
    server.pass(Direction::Out, b"HTTP/1.1 204 x\r\n\r\n");
    server.pass(Direction::Out, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let first = [Begun, headers(204, Body::Empty), Complete];
    assert_eq!(server.take_reports(), [first, [Begun, closing_headers(408, Body::Length(0)), Complete]].concat());
}

#[test]
fn reports_opaque_once_when_the_server_uses_another_protocol() {
    let mut server = Endpoint::new();
    server.pass(Direction::In, b"\x16\x03\x01\x00");
    server.pass(Direction::Out, b"\x16\x03\x03\x00");
    server.pass(Direction::Out, b"HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(server.take_reports(), [Opaque]);
}

#[test]
fn reports_opaque_when_too_many_requests_are_outstanding() {
    let mut server = Endpoint::new();
    server.pass(Direction::In, GET.repeat(65).as_bytes());
    server.pass(Direction::Out, b"HTTP/1.1 204 x\r\n\r\n");
    assert_eq!(server.take_reports(), [Begun, Opaque]);
}
