//! Responses that an operator may not like and that break no connection: statuses, and every clean end of a connection.

use crate::client::Request;
use crate::expect::Expected;
use crate::gaia::Gaia;
use crate::live_case::{LiveCase, live_case};
use crate::stage::Stage;
use anyhow::{Result, ensure};
use serde_json::json;

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case(
            "handler-raises",
            "a handler that raises responds with 500, and nothing broke",
            answered("http", "/raise", 500),
        ),
        live_case(
            "handler-exits",
            "a handler that raises SystemExit responds with 500, and the process stays alive",
            answered("http", "/system-exit", 500),
        ),
        live_case("unavailable", "a lasting 503 is retried, and nothing broke", unavailable),
        live_case("connection-close", "a close after a complete response is silent", answered("http", "/close", 200)),
        live_case("http10", "a response that ends with the close is silent", answered("raw", "/http10", 200)),
        live_case("no-content", "a 204 has no body", answered("raw", "/no-content", 204)),
        live_case(
            "not-modified",
            "a 304 has no body, whatever its Content-Length",
            answered("raw", "/not-modified", 304),
        ),
        live_case("head", "a response to HEAD has no body, whatever its Content-Length", head),
        live_case("early-hints", "a 103 precedes the response", answered("raw", "/early-hints", 200)),
        live_case("client-closes", "a client that closes after its response is silent", answered("http", "/ok", 200)),
        live_case("whole-stream", "a complete chunked response is silent", answered("http", "/stream", 200)),
    ]
}

fn answered(mode: &'static str, path: &'static str, status: u16) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let gaia = Gaia::begin(stage, |recipe| recipe, &[mode])?;
        let request = gaia.web.send(gaia.retried(Request::get(&gaia.core.url(path))))?;
        let (attempts, last) = gaia.web.attempts(&request)?;
        ensure!(attempts.len() == 1 && last.status == Some(status), "{attempts:?}");
        gaia.web.ask_well(Request::get(&gaia.core.url(path)).by_requests())?;
        Ok(vec![])
    }
}

fn head(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.server(stage.recipe("core"), "core", &["raw"])?;
    let client = stage.client("web")?;
    client.ask_well(Request::get(&server.url("/head")).with("method", json!("HEAD")))?;
    Ok(vec![])
}

fn unavailable(stage: &Stage) -> Result<Vec<Expected>> {
    let gaia = Gaia::begin(stage, |recipe| recipe, &["http"])?;
    let unavailable = Request::get(&gaia.core.url("/status?code=503"));
    let request = gaia.web.send(unavailable.retried_for_statuses(&gaia.candidate.url("/ok")))?;
    let (attempts, last) = gaia.web.attempts(&request)?;
    ensure!(attempts.len() == 4 && last.status == Some(200), "{attempts:?}");
    Ok(vec![])
}
