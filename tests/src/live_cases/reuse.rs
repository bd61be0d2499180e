//! Kept connections that are reused while the server closes them.

use crate::client::{Client, Request};
use crate::expect::{Broken, Expected, Moment, RESET, broken, entry, seen};
use crate::live_case::{LiveCase, live_case};
use crate::stage::{Server, Stage};
use crate::witness::WallNanos;
use anyhow::{Context, Result, ensure};

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case(
            "keepalive-race",
            "a request that is released before the server's close and written after it breaks",
            raced_by("busy"),
        ),
        live_case(
            "keepalive-race-noticed",
            "the same for a client that reads the FIN before the reset",
            raced_by("on"),
        ),
        live_case(
            "closed-with-the-next-unread",
            "a close over the next request, unread, is a race that the server's close decides",
            next_met(Next {
                path: "/unread-next",
                request: |url| Request::get(url),
                kind: "keepalive_race",
                phase: "awaiting_response",
            }),
        ),
        live_case(
            "closed-with-the-next-upload-unread",
            "a close that meets the header section of an upload is a race as well",
            next_met(Next {
                path: "/unread-next",
                request: |url| Request::upload(url, 32 << 20),
                kind: "keepalive_race",
                phase: "sending",
            }),
        ),
        live_case(
            "closed-with-part-of-the-next-read",
            "a close over the next request, read in part, is an abort by the application",
            next_met(Next {
                path: "/part-of-next",
                request: |url| Request::get(url),
                kind: "app_aborted",
                phase: "awaiting_response",
            }),
        ),
        live_case(
            "reuse-near-the-close",
            "of reuses within four milliseconds of the server's close, those that break are reported",
            races(0.004),
        ),
        live_case("reuse-at-the-close", "the same within less than a millisecond", races(0.000_6)),
        live_case("reuse-about-the-close", "the same within fifty milliseconds", races(0.05)),
    ]
}

/// uvicorn closes a kept connection after this.
const KEEP_ALIVE: f64 = 1.0;
/// So many concurrent connections make a race likely in some of the runs.
const CONNECTIONS: usize = 60;
/// Breaks with a longer silence between them are incidents of their own.
const ONE_INCIDENT: WallNanos = 1_000_000_000;

/// What the client then sees is its own scheduling's choice; that it breaks is none.
fn raced_by(hold: &'static str) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let server = stage.server(stage.recipe("core"), "core", &["http", "--keep-alive", "1"])?;
        let client = stage.client("web")?;
        let all = lost(&server, &client, Request::get(&server.url("/ok")).held_back(1, hold))?;
        ensure!(!all.is_empty(), "the race broke nothing");
        raced(&server, all)
    }
}

/// Whether one breaks is chance; `spread` is by how many seconds a reuse misses the server's timeout at most.
fn races(spread: f64) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let server = stage.server(stage.recipe("core"), "core", &["http", "--keep-alive", "1"])?;
        let client = stage.client("web")?;
        let asked = Request::get(&server.url("/ok")).reused(CONNECTIONS, KEEP_ALIVE, spread);
        let all = lost(&server, &client, asked)?;
        if all.is_empty() { Ok(vec![]) } else { raced(&server, all) }
    }
}

/// The requests that broke, by the client's own account.
fn lost(server: &Server, client: &Client, asked: Request) -> Result<Vec<Broken>> {
    let mut all = Vec::new();
    for outcome in client.ask(asked)? {
        if let Some((how, phase)) = seen(&outcome, false)? {
            let names = (client.name().map(str::to_owned), Some(server.container.name().to_owned()));
            all.push(entry(names, None, outcome, how, phase)?);
        }
    }
    Ok(all)
}

/// All of one round in one incident.
fn raced(server: &Server, mut all: Vec<Broken>) -> Result<Vec<Expected>> {
    all.sort_by_key(|broken| broken.outcome.at);
    let instants = || all.iter().map(|broken| broken.outcome.at);
    let near = instants().zip(instants().skip(1)).all(|(one, next)| next - one < ONE_INCIDENT);
    ensure!(near, "the machine is too slow for one round to be one incident");
    closed(server, "keepalive_race", all)
}

fn closed(server: &Server, kind: &'static str, all: Vec<Broken>) -> Result<Vec<Expected>> {
    let ports = all.iter().map(|broken| broken.outcome.local.map(|(_, port)| port).context("a port"));
    let moment = Moment::FirstClose(ports.collect::<Result<_>>()?);
    Ok(vec![Expected::living(kind, &server.container, Some(server.pid), moment).breaking(all)])
}

/// The fate of the second request on the kept connection.
struct Next {
    path: &'static str,
    request: fn(&str) -> Request,
    kind: &'static str,
    phase: &'static str,
}

fn next_met(next: Next) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let server = stage.server(stage.recipe("core"), "core", &["raw"])?;
        let client = stage.client("web")?;
        client.ask_well(Request::get(&server.url(next.path)).session("kept"))?;
        let outcomes = client.ask((next.request)(&server.url("/ok")).session("kept"))?;
        closed(&server, next.kind, broken(&client, &server.container, outcomes, RESET, next.phase)?)
    }
}
