//! Packets: retransmitted, missing, of older connections, and both ways of one socket.

use super::Told::{Begun, Complete, Malformed, Opaque};
use super::{End, head};
use crate::framing::{Body, Way};

const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[test]
fn pipelined_answers_know_their_methods() {
    let mut end = End::new();
    end.pass(Way::In, b"HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\nHEAD / HTTP/1.1\r\n\r\n");
    let no_body = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    end.pass(Way::Out, &[no_body, HELLO, no_body].concat());
    let (empty, length) = (head(200, Body::Empty), head(200, Body::Length(5)));
    assert_eq!(end.news(), [Begun, empty, Complete, Begun, length, Complete, Begun, empty, Complete]);
}

#[test]
fn an_answer_may_come_before_its_request_is_complete() {
    let mut end = End::new();
    end.pass(Way::In, b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nbegin");
    end.pass(Way::Out, b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(end.news(), [Begun, head(413, Body::Length(0)), Complete]);
}

#[test]
fn retransmitted_bytes_count_once() {
    let mut end = End::new();
    end.pass(Way::In, GET);
    let (first, rest) = HELLO.split_at(20);
    end.pass(Way::Out, first);
    end.again(Way::Out, first, b"");
    end.again(Way::Out, &first[10..], rest);
    end.again(Way::Out, HELLO, b"");
    assert_eq!(end.news(), [Begun, head(200, Body::Length(5)), Complete]);
}

#[test]
fn missing_bytes_matter_unless_they_are_body() {
    let mut end = End::new();
    end.pass(Way::In, GET);
    end.pass(Way::Out, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    end.miss(Way::Out, 60);
    end.pass(Way::Out, &[b'x'; 40]);
    end.pass(Way::In, GET);
    end.pass(Way::Out, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n");
    end.miss(Way::Out, 100);
    end.pass(Way::Out, b"\r\n0\r\n\r\n");
    let told = [Begun, head(200, Body::Length(100)), Complete, Begun, head(200, Body::Chunked), Complete];
    assert_eq!(end.news(), told);
    end.pass(Way::In, GET);
    end.pass(Way::Out, b"HTTP/1.1 200 OK\r\n");
    end.miss(Way::Out, 1);
    end.pass(Way::Out, b"\r\n");
    end.pass(Way::Out, HELLO);
    assert_eq!(end.news(), [Begun, Opaque]);
}

#[test]
fn missing_body_that_ends_the_answer_is_told_with_the_next_packet() {
    let mut end = End::new();
    end.pass(Way::In, GET);
    end.pass(Way::Out, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    end.miss(Way::Out, 5);
    end.pass(Way::In, GET);
    end.pass(Way::Out, b"HTTP/1.1 204 x\r\n\r\n");
    let told = [Begun, head(200, Body::Length(5)), Complete, Begun, head(204, Body::Empty), Complete];
    assert_eq!(end.news(), told);
}

#[test]
fn a_request_that_was_missed_on_arrival_spoils_no_later_one() {
    let mut end = End::new();
    end.pass(Way::In, GET);
    end.pass(Way::Out, HELLO);
    end.miss(Way::In, GET.len());
    end.pass(Way::In, b"second half of something");
    end.pass(Way::Out, HELLO);
    end.pass(Way::In, b"HEAD / HTTP/1.1\r\n\r\n");
    end.pass(Way::Out, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    let whole = [Begun, head(200, Body::Length(5)), Complete];
    assert_eq!(end.news(), [whole, whole, [Begun, head(200, Body::Empty), Complete]].concat());
}

#[test]
fn an_older_connection_is_followed_from_its_next_request() {
    let mut client = End::older();
    client.pass(Way::Out, b"rest of an upload");
    client.pass(Way::In, HELLO);
    client.pass(Way::Out, GET);
    client.pass(Way::In, HELLO);
    client.pass(Way::Out, b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n");
    client.pass(Way::Out, b"GET /");
    assert_eq!(client.news(), [Begun, Complete, Begun, Complete]);

    let mut server = End::older();
    server.pass(Way::Out, b"rest of a download");
    server.pass(Way::In, b"HEAD / HTTP/1.1\r\n\r\n");
    server.pass(Way::Out, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    server.pass(Way::In, GET);
    server.pass(Way::Out, b"nonsense");
    assert_eq!(server.news(), [Begun, head(200, Body::Empty), Complete, Malformed]);
}

#[test]
fn a_request_that_came_with_the_handshake_is_taken_for_a_get() {
    let mut end = End::answering();
    end.pass(Way::Out, HELLO);
    end.pass(Way::In, b"HEAD / HTTP/1.1\r\n\r\n");
    end.pass(Way::Out, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    let whole = [Begun, head(200, Body::Length(5)), Complete];
    assert_eq!(end.news(), [whole, [Begun, head(200, Body::Empty), Complete]].concat());
}

#[test]
fn an_older_connection_of_something_else_stays_silent() {
    let mut end = End::older();
    for _ in 0..3 {
        end.pass(Way::Out, b"\x17\x03\x03\x00\x05hello");
        end.pass(Way::In, b"GET almost a request");
    }
    assert_eq!(end.news(), []);
}

#[test]
fn every_message_is_told_at_its_sender_only() {
    let mut client = End::new();
    client.pass(Way::Out, GET);
    client.pass(Way::In, HELLO);
    assert_eq!(client.news(), [Begun, Complete]);
    let mut server = End::new();
    server.pass(Way::In, GET);
    assert_eq!(server.news(), []);
}

#[test]
fn what_a_server_on_another_host_answers_is_told_where_it_arrives() {
    let mut end = End::to_another_host();
    end.pass(Way::Out, b"HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    assert_eq!(end.news(), [Begun, Complete, Begun, Complete]);
    end.pass(Way::In, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(end.news(), [Begun, head(200, Body::Empty), Complete]);
    end.pass(Way::In, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
    assert_eq!(end.news(), [Begun, head(200, Body::Length(5))]);
    end.pass(Way::In, b"lo");
    assert_eq!(end.news(), [Complete]);
}

#[test]
fn what_a_client_on_another_host_asks_is_told_where_it_arrives() {
    let mut end = End::to_another_host();
    end.pass(Way::In, b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nab");
    assert_eq!(end.news(), [Begun]);
    end.pass(Way::In, b"cd");
    end.pass(Way::Out, b"HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(end.news(), [Complete, Begun, head(204, Body::Empty), Complete]);
}

#[test]
fn a_hole_in_a_chunk_line_from_another_host_makes_the_answers_opaque() {
    let mut end = End::to_another_host();
    end.pass(Way::Out, b"GET / HTTP/1.1\r\n\r\n");
    end.pass(Way::In, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n");
    end.news();
    end.miss(Way::In, 8);
    end.pass(Way::In, b"\r\n\r\n");
    assert_eq!(end.news(), [Opaque]);
}
