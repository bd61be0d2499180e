//! Clients on another host: only the server has a socket here.

use crate::expect::{Expected, Killer, Moment, NO_RESPONSE, RESET, broken_at_remote_client};
use crate::live_case::{LiveCase, live_case};
use crate::remote_client::{Asked, RemoteClient};
use crate::stage::{Server, Stage};
use crate::witness::ExitStatus;
use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case("outside-killed", "a client on another host is affected by a death", outside_killed),
        live_case("outside-reset", "a client on another host is reset by the application", outside_reset),
        live_case("outside-served", "a client on another host that has its response is no incident", outside_served),
    ]
}

/// A server whose port is published to the other host, and that host's request to it.
fn asked(stage: &Stage, mode: &str, path: &str) -> Result<(Server, Asked)> {
    let remote = RemoteClient::begin(stage.port)?;
    let recipe = stage.recipe("core").option("--publish", &format!("{}::{}", remote.this_host(), stage.port));
    let server = stage.server(recipe, "core", &[mode])?;
    let port = server.container.published_port(stage.port)?;
    let host = remote.address();
    let request = remote.ask(port, format!("GET {path} HTTP/1.1\r\nHost: core\r\nUser-Agent: {host}\r\n\r\n"));
    Ok((server, request))
}

fn outside_killed(stage: &Stage) -> Result<Vec<Expected>> {
    let (server, request) = asked(stage, "http", "/slow?seconds=60")?;
    server.entered("/slow", 1)?;
    server.signal_from_host(server.pid, Signal::SIGKILL)?;
    let outcome = request.ended()?;
    let broken = broken_at_remote_client(&server.container, outcome, NO_RESPONSE, "awaiting_response")?;
    let killed = Expected::death("process_killed", &server.container, server.pid, ExitStatus::SIGKILL);
    Ok(vec![killed.by(Killer::Host(std::process::id())).breaking(vec![broken])])
}

fn outside_reset(stage: &Stage) -> Result<Vec<Expected>> {
    let (server, request) = asked(stage, "raw", "/linger")?;
    let outcome = request.ended()?;
    let (_, port) = outcome.local.unwrap_or(([0, 0, 0, 0].into(), 0));
    let broken = broken_at_remote_client(&server.container, outcome, RESET, "awaiting_response")?;
    let moment = Moment::ServerClose(port);
    Ok(vec![Expected::living("app_aborted", &server.container, Some(server.pid), moment).breaking(vec![broken])])
}

fn outside_served(stage: &Stage) -> Result<Vec<Expected>> {
    let (server, request) = asked(stage, "http", "/ok")?;
    server.entered("/ok", 1)?;
    // The keep-alive ends before the request's limit.
    let outcome = request.ended()?;
    ensure!(outcome.message.starts_with("HTTP/1.1 200"), "{outcome:?}");
    Ok(Vec::new())
}
