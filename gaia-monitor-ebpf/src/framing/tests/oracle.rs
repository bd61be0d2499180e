//! Another parser's opinion: where httparse finds the end of a head or a chunk's size, this finds it, too.

use httparse::{EMPTY_HEADER, Status};
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use super::Told::{Begun, Complete, Malformed};
use super::{Told, answered, asked, head};
use crate::framing::Body;

/// Bytes of which header lines are made, the awkward ones often.
fn line_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        6 => b'a'..=b'z',
        2 => proptest::sample::select(b": \t,;-0123456789\"\x80\xff".to_vec()),
        1 => proptest::sample::select(b"\r\n".to_vec()),
    ];
    proptest::collection::vec(byte, 0..40)
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}",
        proptest::sample::select(vec![
            "Content-Lengths".to_owned(),
            "ConnectionX".to_owned(),
            "Xfer-Encoding".to_owned()
        ]),
    ]
    // Those that decide about the body have tests of their own.
    .prop_filter("decides about the body", |name| {
        !["content-length", "transfer-encoding", "connection"].contains(&name.to_ascii_lowercase().as_str())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Heads that httparse takes end at the same byte: a body of one byte is complete, none is not.
    #[test]
    fn a_head_ends_where_httparse_ends_it(
        fields in proptest::collection::vec((name(), "[ -~]{0,40}"), 0..8),
        status in 200_u16..600,
        reason in "[ -~]{0,20}",
    ) {
        proptest::prop_assume!(status != 204 && status != 304);
        let mut text = format!("HTTP/1.1 {status} {reason}\r\n");
        for (name, value) in &fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("Content-Length: 1\r\n\r\n");
        let mut headers = [EMPTY_HEADER; 16];
        let mut parsed = httparse::Response::new(&mut headers);
        let Ok(Status::Complete(end)) = parsed.parse(text.as_bytes()) else {
            return Err(proptest::test_runner::TestCaseError::fail("httparse refuses a valid head"));
        };
        prop_assert_eq!(end, text.len());
        prop_assert_eq!(parsed.code, Some(status));
        let told = head(status, Body::Length(1));
        prop_assert_eq!(answered(text.as_bytes()), vec![Begun, told]);
        prop_assert_eq!(answered(&text.as_bytes()[..end - 1]), vec![Begun]);
        prop_assert_eq!(answered(format!("{text}x").as_bytes()), vec![Begun, told, Complete]);
    }

    /// Lines of awkward bytes: what httparse takes is taken, and ends at the same byte.
    #[test]
    fn what_httparse_takes_is_taken(lines in proptest::collection::vec(line_bytes(), 0..4)) {
        let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
        for line in &lines {
            bytes.extend_from_slice(line);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        let mut headers = [EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut headers);
        if let Ok(Status::Complete(end)) = parsed.parse(&bytes) {
            let told = answered(&bytes[..end]);
            prop_assert_eq!(told, vec![Begun, head(200, Body::UntilClose)]);
        }
    }

    #[test]
    fn a_request_head_ends_where_httparse_ends_it(
        method in "[A-Z]{1,10}",
        target in "[!-~]{1,60}",
        fields in proptest::collection::vec((name(), "[ -~]{0,40}"), 0..8),
    ) {
        let mut text = format!("{method} {target} HTTP/1.1\r\n");
        for (name, value) in &fields {
            text.push_str(&format!("{name}:{value}\r\n"));
        }
        text.push_str("\r\n");
        let mut headers = [EMPTY_HEADER; 16];
        let mut parsed = httparse::Request::new(&mut headers);
        if let Ok(Status::Complete(end)) = parsed.parse(text.as_bytes()) {
            prop_assert_eq!(asked(&text.as_bytes()[..end]), vec![Begun, Complete]);
            prop_assert_eq!(asked(&text.as_bytes()[..end - 1]), vec![Begun]);
        }
    }

    /// Sizes of chunks, valid or not: what httparse reads as n, n bytes of data complete. (A line without a digit it reads
    /// as 0, which no other parser does.)
    #[test]
    fn a_chunk_is_as_long_as_httparse_says(
        line in prop_oneof!["[0-9a-fA-F]{1,3}", "[0-9a-f]{1,3}[ ;xg\t]{0,3}[a-z=\"]{0,5}"],
        extra in any::<bool>(),
    ) {
        let start = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let Ok(Status::Complete((_, size))) = httparse::parse_chunk_size(format!("{line}\r\n").as_bytes()) else {
            return Ok(());
        };
        let data = "x".repeat(usize::try_from(size).unwrap() + usize::from(extra));
        let last = if size == 0 { "" } else { "0\r\n" };
        let end = if size == 0 { "\r\n".to_owned() } else { format!("{data}\r\n") };
        let told = answered(format!("{start}{line}\r\n{end}{last}\r\n").as_bytes());
        let fate: Told = if extra && size > 0 { Malformed } else { Complete };
        prop_assert_eq!(told, vec![Begun, head(200, Body::Chunked), fate], "{}", line);
    }
}
