//! The direction of the answers, at the server's socket.

use super::Told::{Begun, Complete, Informational, Malformed, Opaque, Upgraded};
use super::{End, answered, head, last_head, served};
use crate::framing::{Body, HEAD_MAX, Way};

const GET: &str = "GET / HTTP/1.1\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\n\r\n";

#[test]
fn every_kind_of_body_ends_where_it_says() {
    for (answer, body) in [
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
        assert_eq!(answered(answer.as_bytes()), [Begun, head(200, body), Complete], "{answer:?}");
    }
}

#[test]
fn statuses_and_methods_that_have_no_body() {
    for status in [204, 304] {
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(answered(answer.as_bytes()), [Begun, head(status, Body::Empty), Complete]);
    }
    let told = served(&[
        (HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (HEAD, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("head / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
    ]);
    let no_body = [Begun, head(200, Body::Empty), Complete];
    assert_eq!(told, [no_body, no_body, [Begun, head(200, Body::Length(1)), Complete]].concat());
}

#[test]
fn a_body_that_nothing_ends_ends_with_the_connection() {
    for (answer, told) in [
        ("HTTP/1.1 200 OK\r\n\r\nbody\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", head(200, Body::UntilClose)),
        ("HTTP/1.0 200 OK\r\n\r\nbody", last_head(200, Body::UntilClose)),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", last_head(200, Body::UntilClose)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\nabcd", head(200, Body::UntilClose)),
    ] {
        assert_eq!(answered(answer.as_bytes()), [Begun, told], "{answer:?}");
    }
}

#[test]
fn who_closes_says_so() {
    let whole = |version: &str, connection: &str| {
        answered(format!("HTTP/{version} 200 OK\r\n{connection}Content-Length: 0\r\n\r\n").as_bytes())
    };
    let open = [Begun, head(200, Body::Length(0)), Complete];
    let closing = [Begun, last_head(200, Body::Length(0)), Complete];
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
fn an_informational_answer_is_not_the_one_that_is_owed() {
    let told = served(&[
        (HEAD, b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    ]);
    let answer = [Begun, head(200, Body::Empty), Complete];
    assert_eq!(told, [vec![Begun, Informational(100), Begun, Informational(103)], answer.to_vec()].concat());
}

#[test]
fn after_an_upgrade_nothing_is_http() {
    let upgrade = "GET /chat HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello";
    assert_eq!(served(&[(upgrade, switched), ("\u{1}\u{2}", b"HTTP/1.1 200 OK\r\n")]), [Begun, Upgraded]);

    let connect = "CONNECT a:443 HTTP/1.1\r\n\r\n";
    let connected = b"HTTP/1.1 200 Connected\r\nContent-Length: 5\r\n\r\n\x16\x03";
    assert_eq!(served(&[(connect, connected), ("x", b"y")]), [Begun, head(200, Body::Empty), Upgraded]);
    let refused = b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno";
    assert_eq!(served(&[(connect, refused)]), [Begun, head(403, Body::Length(2)), Complete]);
}

#[test]
fn bytes_that_are_no_answer_to_a_request_are_malformed_once() {
    for answer in [
        b"this is not http\r\n\r\n".as_slice(),
        b"\x15\x03\x03\x00\x02\x02\x0a",
        b"HTTQ/1.1 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"HTTP/1,1 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/11 200 OK\r\n\r\n",
    ] {
        let mut end = End::new();
        end.pass(Way::In, GET.as_bytes());
        end.pass(Way::Out, answer);
        end.pass(Way::Out, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(end.news(), [Malformed], "{:?}", String::from_utf8_lossy(answer));
    }
}

#[test]
fn an_answer_that_breaks_its_framing_is_malformed_once() {
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
        let told = answered(chunked(rest).as_bytes());
        assert_eq!(told, [Begun, head(200, Body::Chunked), Malformed], "{rest:?}");
    }
    for answer in [
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
        assert_eq!(answered(answer.as_bytes()), [Begun, Malformed], "{answer:?}");
    }
}

#[test]
fn a_head_above_100_kib_is_malformed() {
    let head_of = |len: usize| {
        let frame = "HTTP/1.1 204 x\r\nX: \r\n\r\n".len();
        format!("HTTP/1.1 204 x\r\nX: {}\r\n\r\n", "a".repeat(len - frame)).into_bytes()
    };
    assert_eq!(answered(&head_of(HEAD_MAX as usize + 1)), [Begun, head(204, Body::Empty), Complete]);
    assert_eq!(answered(&head_of(HEAD_MAX as usize + 2)), [Begun, Malformed]);
    let line = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;{}", "e".repeat(HEAD_MAX as usize));
    assert_eq!(answered(line.as_bytes()), [Begun, head(200, Body::Chunked), Malformed]);
}

#[test]
fn a_valid_beginning_is_not_malformed() {
    let whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n";
    for cut in 1..whole.len() {
        let told = answered(&whole[..cut]);
        assert_eq!(told.first(), Some(&Begun), "{cut}");
        assert!(!told.contains(&Malformed) && !told.contains(&Complete), "{cut}: {told:?}");
    }
}

#[test]
fn bytes_after_an_answer_break_the_next_one_only_if_somebody_asks() {
    let answer = b"HTTP/1.1 204 No Content\r\n\r\nbody that must not be";
    let first = [Begun, head(204, Body::Empty), Complete];
    assert_eq!(served(&[(GET, answer)]), first);
    let told = served(&[(GET, answer), (GET, b"HTTP/1.1 204 No Content\r\n\r\n")]);
    assert_eq!(told, [first.as_slice(), &[Malformed]].concat());
}

#[test]
fn an_empty_line_after_an_answer_does_no_harm() {
    let answer = b"HTTP/1.1 204 No Content\r\n\r\n\r\n";
    let whole = [Begun, head(204, Body::Empty), Complete];
    assert_eq!(served(&[(GET, answer), (GET, answer)]), [whole, whole].concat());
}

#[test]
fn an_answer_that_nobody_asked_for_is_told() {
    let mut end = End::new();
    end.pass(Way::In, GET.as_bytes());
    end.pass(Way::Out, b"HTTP/1.1 204 x\r\n\r\n");
    end.pass(Way::Out, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let first = [Begun, head(204, Body::Empty), Complete];
    assert_eq!(end.news(), [first, [Begun, last_head(408, Body::Length(0)), Complete]].concat());
}

#[test]
fn a_server_of_something_else_is_opaque_once() {
    let mut end = End::new();
    end.pass(Way::In, b"\x16\x03\x01\x00");
    end.pass(Way::Out, b"\x16\x03\x03\x00");
    end.pass(Way::Out, b"HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(end.news(), [Opaque]);
}

#[test]
fn more_requests_than_are_remembered_make_the_answers_opaque() {
    let mut end = End::new();
    end.pass(Way::In, GET.repeat(65).as_bytes());
    end.pass(Way::Out, b"HTTP/1.1 204 x\r\n\r\n");
    assert_eq!(end.news(), [Begun, Opaque]);
}
