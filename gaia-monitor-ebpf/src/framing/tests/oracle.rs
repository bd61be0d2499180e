//! Comparison with httparse: header sections and chunk sizes end at the same byte.

use httparse::{EMPTY_HEADER, Status};
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use super::Report::{Begun, Complete, Malformed};
use super::{Report, headers, request_reports, response_reports};
use crate::framing::Body;

/// Bytes of header lines, biased towards delimiters and white space.
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
    // Fields that determine the body have their own tests.
    .prop_filter("determines the body", |name| {
        !["content-length", "transfer-encoding", "connection"].contains(&name.to_ascii_lowercase().as_str())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Header sections that httparse accepts end at the same byte: one body byte completes the response.
    #[test]
    fn ends_response_headers_where_httparse_does(
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
        let mut fields_buffer = [EMPTY_HEADER; 16];
        let mut parsed = httparse::Response::new(&mut fields_buffer);
        let Ok(Status::Complete(end)) = parsed.parse(text.as_bytes()) else {
            return Err(proptest::test_runner::TestCaseError::fail("httparse rejects valid headers"));
        };
        prop_assert_eq!(end, text.len());
        prop_assert_eq!(parsed.code, Some(status));
        let reports = headers(status, Body::Length(1));
        prop_assert_eq!(response_reports(text.as_bytes()), vec![Begun, reports]);
        prop_assert_eq!(response_reports(&text.as_bytes()[..end - 1]), vec![Begun]);
        prop_assert_eq!(response_reports(format!("{text}x").as_bytes()), vec![Begun, reports, Complete]);
    }

    /// Lines with unusual bytes: headers that httparse accepts are accepted, and end at the same byte.
    #[test]
    fn accepts_headers_that_httparse_accepts(lines in proptest::collection::vec(line_bytes(), 0..4)) {
        let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
        for line in &lines {
            bytes.extend_from_slice(line);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        let mut fields_buffer = [EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut fields_buffer);
        if let Ok(Status::Complete(end)) = parsed.parse(&bytes) {
            let reports = response_reports(&bytes[..end]);
            prop_assert_eq!(reports, vec![Begun, headers(200, Body::UntilClose)]);
        }
    }

    #[test]
    fn ends_request_headers_where_httparse_does(
        method in "[A-Z]{1,10}",
        target in "[!-~]{1,60}",
        fields in proptest::collection::vec((name(), "[ -~]{0,40}"), 0..8),
    ) {
        let mut text = format!("{method} {target} HTTP/1.1\r\n");
        for (name, value) in &fields {
            text.push_str(&format!("{name}:{value}\r\n"));
        }
        text.push_str("\r\n");
        let mut fields_buffer = [EMPTY_HEADER; 16];
        let mut parsed = httparse::Request::new(&mut fields_buffer);
        if let Ok(Status::Complete(end)) = parsed.parse(text.as_bytes()) {
            prop_assert_eq!(request_reports(&text.as_bytes()[..end]), vec![Begun, Complete]);
            prop_assert_eq!(request_reports(&text.as_bytes()[..end - 1]), vec![Begun]);
        }
    }

    /// Chunk sizes, valid or not: if httparse reads n, n bytes complete the chunk. (httparse reads a line without a
    /// digit as 0; the pattern excludes it, because no other parser does.)
    #[test]
    fn reads_chunk_sizes_as_httparse_does(
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
        let reports = response_reports(format!("{start}{line}\r\n{end}{last}\r\n").as_bytes());
        let last_report: Report = if extra && size > 0 { Malformed } else { Complete };
        prop_assert_eq!(reports, vec![Begun, headers(200, Body::Chunked), last_report], "{}", line);
    }
}
