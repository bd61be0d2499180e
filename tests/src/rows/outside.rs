//! Clients on another host: only the server's end has a socket here.

use crate::case::{Case, Server};
use crate::elsewhere::{Asked, Elsewhere};
use crate::expect::{Expected, Killer, Moment, NO_RESPONSE, RESET, broken_elsewhere};
use crate::instrument::ExitStatus;
use crate::row::{Row, row};
use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

pub fn rows() -> Vec<Row> {
    vec![
        row("outside-killed", "a client on another host is told of a death", outside_killed),
        row("outside-reset", "a client on another host is reset by the application", outside_reset),
        row("outside-served", "a client on another host that has its answer is no incident", outside_served),
    ]
}

/// A server whose port is published to the other host, and that host's request to it.
fn asked(case: &Case, mode: &str, path: &str) -> Result<(Server, Asked)> {
    let elsewhere = Elsewhere::begin(case.port)?;
    let recipe = case.recipe("core").option("--publish", &format!("{}::{}", elsewhere.this_host(), case.port));
    let server = case.server(recipe, "core", &[mode])?;
    let port = server.container.published_port(case.port)?;
    let host = elsewhere.address();
    let request = elsewhere.ask(port, format!("GET {path} HTTP/1.1\r\nHost: core\r\nUser-Agent: {host}\r\n\r\n"));
    Ok((server, request))
}

fn outside_killed(case: &Case) -> Result<Vec<Expected>> {
    let (server, request) = asked(case, "http", "/slow?seconds=60")?;
    server.entered("/slow", 1)?;
    server.signal_from_host(server.pid, Signal::SIGKILL)?;
    let outcome = request.ended()?;
    let broken = broken_elsewhere(&server.container, outcome, NO_RESPONSE, "awaiting_response")?;
    let killed = Expected::death("process_killed", &server.container, server.pid, ExitStatus::Signal(9));
    Ok(vec![killed.by(Killer::Host(std::process::id())).breaking(vec![broken])])
}

fn outside_reset(case: &Case) -> Result<Vec<Expected>> {
    let (server, request) = asked(case, "raw", "/linger")?;
    let outcome = request.ended()?;
    let (_, port) = outcome.local.unwrap_or(([0, 0, 0, 0].into(), 0));
    let broken = broken_elsewhere(&server.container, outcome, RESET, "awaiting_response")?;
    let moment = Moment::ServerClose(port);
    Ok(vec![Expected::living("app_aborted", &server.container, Some(server.pid), moment).breaking(vec![broken])])
}

fn outside_served(case: &Case) -> Result<Vec<Expected>> {
    let (server, request) = asked(case, "http", "/ok")?;
    server.entered("/ok", 1)?;
    // The keep-alive ends before the request's limit.
    let outcome = request.ended()?;
    ensure!(outcome.message.starts_with("HTTP/1.1 200"), "{outcome:?}");
    Ok(Vec::new())
}
