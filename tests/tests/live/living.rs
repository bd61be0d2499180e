//! The server lives, and the connection breaks all the same.

use anyhow::Context;
use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::expect::{
    Break, Expected, INCOMPLETE_BODY, MALFORMED, Moment, NO_DATA, NO_RESPONSE, RESET, Until, broken,
};
use gaia_monitor_tests::play::live;

/// A live server's own close, seen by one request.
struct Close {
    mode: &'static str,
    request: fn(&gaia_monitor_tests::case::Server) -> Request,
    kind: &'static str,
    how: Break,
    phase: &'static str,
}

fn closes(name: &str, close: Close) {
    live(name, &[], |case| {
        let server = case.server(case.recipe("core"), "core", &[close.mode])?;
        let client = case.client("web")?;
        let outcomes = client.ask((close.request)(&server))?;
        let (_, port) = outcomes.first().and_then(|outcome| outcome.local).context("the client's port")?;
        let broken = broken(&client, &server.container, outcomes, close.how, close.phase)?;
        let moment = Moment::ServerClose(port);
        Ok(vec![Expected::living(close.kind, &server.container, Some(server.pid), moment).breaking(broken)])
    });
}

#[test]
fn an_exception_in_a_chunked_answer_is_a_close_by_the_application() {
    let close = Close {
        mode: "http",
        request: |server| Request::get(&server.url("/raise-stream")),
        kind: "app_closed",
        how: INCOMPLETE_BODY,
        phase: "receiving_body",
    };
    closes("exception-in-chunked-answer", close);
}

#[test]
fn an_exception_before_the_content_length_is_a_close_by_the_application() {
    let close = Close {
        mode: "http",
        request: |server| Request::get(&server.url("/raise-length")),
        kind: "app_closed",
        how: INCOMPLETE_BODY,
        phase: "receiving_body",
    };
    closes("exception-before-content-length", close);
}

#[test]
fn a_connection_closed_without_an_answer_is_a_close_by_the_application() {
    let close = Close {
        mode: "http",
        request: |server| Request::get(&server.url("/hang-up")),
        kind: "app_closed",
        how: NO_RESPONSE,
        phase: "awaiting_response",
    };
    closes("closed-without-answer", close);
}

#[test]
fn half_a_header_is_no_response() {
    let close = Close {
        mode: "raw",
        request: |server| Request::get(&server.url("/half-header")),
        kind: "app_closed",
        how: NO_RESPONSE,
        phase: "awaiting_response",
    };
    closes("half-a-header", close);
}

#[test]
fn a_linger_of_zero_is_an_abort_by_the_application() {
    let close = Close {
        mode: "http",
        request: |server| Request::get(&server.url("/linger")),
        kind: "app_aborted",
        how: RESET,
        phase: "awaiting_response",
    };
    closes("linger-zero", close);
}

#[test]
fn a_close_over_an_unread_upload_is_an_abort_by_the_application() {
    let close = Close {
        mode: "raw",
        request: |server| Request::upload(&server.url("/unread"), 32 << 20),
        kind: "app_aborted",
        how: RESET,
        phase: "sending",
    };
    closes("closed-over-unread-upload", close);
}

#[test]
fn bytes_that_are_no_http_are_a_protocol_error() {
    live("no-http", &[], |case| {
        let server = case.server(case.recipe("core"), "core", &["raw"])?;
        let client = case.client("web")?;
        let outcomes = client.ask(Request::get(&server.url("/garbage")))?;
        let outcome = outcomes.first().context("one outcome")?;
        let moment = Moment::Between { fact: "malformed", from: outcome.started, to: outcome.at };
        let broken = broken(&client, &server.container, outcomes, MALFORMED, "awaiting_response")?;
        Ok(vec![Expected::living("protocol_error", &server.container, Some(server.pid), moment).breaking(broken)])
    });
}

#[test]
fn a_pause_that_outlasts_the_clients_patience_is_told_by_dockers_event() {
    live("paused", &[], |case| {
        let server = case.uvicorn("core")?;
        let client = case.client("web")?;
        let request = Request::get(&server.url("/slow?seconds=60")).read_timeout(2.0);
        let request = server.holds(&client, "/slow", request)?;
        server.container.verb("pause")?;
        let outcomes = client.ended(&request)?;
        server.container.verb("unpause")?;
        let broken = broken(&client, &server.container, outcomes, NO_DATA, "awaiting_response")?;
        let moment = Moment::Docker { fact: "docker_pause", at: case.docker_event(&server.container, "pause")? };
        let until = Until::Docker(case.docker_event(&server.container, "unpause")?);
        let paused = Expected::living("container_paused", &server.container, None, moment);
        Ok(vec![paused.under("paused", until).breaking(broken)])
    });
}
