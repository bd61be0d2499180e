//! The server is alive, and the connection breaks nevertheless.

use crate::client::Request;
use crate::expect::{Break, Broken, Expected, INCOMPLETE_BODY, NO_RESPONSE, RESET, broken};
use crate::gaia::{Caller, Gaia, by_gaps, server_close};
use crate::live_case::{LiveCase, live_case};
use crate::stage::{Server, Stage};
use anyhow::Result;

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case(
            "exception-in-chunked-response",
            "an exception in a chunked response is a close by the application",
            closes(Close {
                program: &["http"],
                request: |server| Request::get(&server.url("/raise-stream")),
                kind: "app_closed",
                caller: Caller::Retries,
                how: INCOMPLETE_BODY,
                phase: "receiving_body",
            }),
        ),
        live_case(
            "exception-in-chunked-response-by-h11",
            "the same for uvicorn with asyncio and h11",
            closes(Close {
                program: &["http", "--loop", "asyncio", "--http", "h11"],
                request: |server| Request::get(&server.url("/raise-stream")),
                kind: "app_closed",
                caller: Caller::Retries,
                how: INCOMPLETE_BODY,
                phase: "receiving_body",
            }),
        ),
        live_case(
            "exception-before-content-length",
            "an exception before the content length is a close by the application",
            closes(Close {
                program: &["http"],
                request: |server| Request::get(&server.url("/raise-length")),
                kind: "app_closed",
                caller: Caller::Retries,
                how: INCOMPLETE_BODY,
                phase: "receiving_body",
            }),
        ),
        live_case(
            "closed-without-response",
            "a connection closed without a response is a close by the application",
            closes(Close {
                program: &["http"],
                request: |server| Request::get(&server.url("/hang-up")),
                kind: "app_closed",
                caller: Caller::Retries,
                how: NO_RESPONSE,
                phase: "awaiting_response",
            }),
        ),
        live_case(
            "aborted-without-response",
            "an abort of a transport that was read to its end is a close by the application",
            closes(Close {
                program: &["http"],
                request: |server| Request::get(&server.url("/abort-transport")),
                kind: "app_closed",
                caller: Caller::Retries,
                how: NO_RESPONSE,
                phase: "awaiting_response",
            }),
        ),
        live_case(
            "half-a-header",
            "half a header section is no response",
            closes(Close {
                program: &["raw"],
                request: |server| Request::get(&server.url("/half-header")),
                kind: "app_closed",
                caller: Caller::Retries,
                how: NO_RESPONSE,
                phase: "awaiting_response",
            }),
        ),
        live_case(
            "only-continue",
            "a provisional response is not the response",
            closes(Close {
                program: &["raw"],
                request: |server| Request::get(&server.url("/only-continue")),
                kind: "app_closed",
                caller: Caller::Retries,
                how: NO_RESPONSE,
                phase: "awaiting_response",
            }),
        ),
        live_case(
            "linger-zero",
            "a linger of zero is an abort by the application",
            closes(Close {
                program: &["http"],
                request: |server| Request::get(&server.url("/linger")),
                kind: "app_aborted",
                caller: Caller::Plain,
                how: RESET,
                phase: "awaiting_response",
            }),
        ),
        live_case(
            "closed-over-unread-upload",
            "a close over an unread upload is an abort by the application",
            closes(Close {
                program: &["raw"],
                request: |server| Request::upload(&server.url("/unread"), 32 << 20),
                kind: "app_aborted",
                caller: Caller::Loses,
                how: RESET,
                phase: "sending",
            }),
        ),
    ]
}

/// A live server's own close, seen by one request.
struct Close {
    program: &'static [&'static str],
    request: fn(&Server) -> Request,
    kind: &'static str,
    caller: Caller,
    how: Break,
    phase: &'static str,
}

fn closes(close: Close) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        if close.caller == Caller::Plain {
            let server = stage.server(stage.recipe("core"), "core", close.program)?;
            let client = stage.client("web")?;
            let outcomes = client.ask((close.request)(&server))?;
            let broken = broken(&client, &server.container, outcomes, close.how, close.phase)?;
            return by_gaps(broken, |first| closed(&close, &server, first));
        }
        let gaia = Gaia::begin(stage, |recipe| recipe, close.program)?;
        let request = gaia.web.send(gaia.retried((close.request)(&gaia.core)))?;
        let fate = gaia.ended(&request, close.how, close.phase)?;
        let broken = if close.caller == Caller::Loses { fate.lost()? } else { fate.by_the_candidate()? };
        by_gaps(broken, |first| Ok(closed(&close, &gaia.core, first)?.role("primary")))
    }
}

fn closed(close: &Close, server: &Server, first: &Broken) -> Result<Expected> {
    Ok(Expected::living(close.kind, &server.container, Some(server.pid), server_close(first)?))
}
