//! Kept connections that are used again while the server closes them.

use crate::case::{Case, Server};
use crate::client::{Client, Request};
use crate::expect::{Broken, Expected, Moment, RESET, broken, entry, seen};
use crate::instrument::WallNanos;
use crate::row::{Row, row};
use anyhow::{Context, Result, ensure};

pub fn rows() -> Vec<Row> {
    vec![
        row(
            "keepalive-race-near",
            "a reuse within four milliseconds of the server's close is told where it breaks",
            races(Race { spread: 0.004, rounds: 8, must: true }),
        ),
        row(
            "keepalive-race-narrow",
            "the same within less than a millisecond",
            races(Race { spread: 0.000_6, rounds: 8, must: true }),
        ),
        row(
            "keepalive-race-wide",
            "a reuse within fifty milliseconds seldom breaks, and what does not break is silent",
            races(Race { spread: 0.05, rounds: 1, must: false }),
        ),
        row(
            "closed-with-the-next-unread",
            "a close over the next request, unread, is a race that the server's close decides",
            closed_with_the_next_unread,
        ),
    ]
}

/// uvicorn closes a kept connection after this.
const KEEP_ALIVE: f64 = 1.0;
/// So many at once make one race likely.
const CONNECTIONS: usize = 60;
/// Breaks with a longer silence between them are incidents of their own.
const ONE_INCIDENT: WallNanos = 1_000_000_000;

struct Race {
    /// Seconds by which the reuse misses the server's timeout, at most.
    spread: f64,
    rounds: u32,
    /// Go on until one breaks.
    must: bool,
}

fn races(race: Race) -> impl Fn(&Case) -> Result<Vec<Expected>> {
    move |case| {
        let server = case.server(case.recipe("core"), "core", &["http", "--keep-alive", "1"])?;
        let client = case.client("web")?;
        for _ in 0..race.rounds {
            let asked = Request::get(&server.url("/ok")).reused(CONNECTIONS, KEEP_ALIVE, race.spread);
            let mut all = Vec::new();
            for outcome in client.ask(asked)? {
                if let Some((how, phase)) = seen(&outcome, false)? {
                    let names = (client.name().map(str::to_owned), Some(server.container.name().to_owned()));
                    all.push(entry(names, None, outcome, how, phase)?);
                }
            }
            if !all.is_empty() {
                return raced(&server, all);
            }
        }
        ensure!(!race.must, "no reuse met the server's close in {} rounds", race.rounds);
        Ok(vec![])
    }
}

/// All of one round in one incident.
fn raced(server: &Server, mut all: Vec<Broken>) -> Result<Vec<Expected>> {
    all.sort_by_key(|broken| broken.outcome.at);
    let instants = || all.iter().map(|broken| broken.outcome.at);
    let near = instants().zip(instants().skip(1)).all(|(one, next)| next - one < ONE_INCIDENT);
    ensure!(near, "the machine is too slow for one round to be one incident");
    let ports = all.iter().map(|broken| broken.outcome.local.map(|(_, port)| port).context("a port"));
    let moment = Moment::FirstClose(ports.collect::<Result<_>>()?);
    Ok(vec![Expected::living("keepalive_race", &server.container, Some(server.pid), moment).breaking(all)])
}

fn closed_with_the_next_unread(case: &Case) -> Result<Vec<Expected>> {
    let server = case.server(case.recipe("core"), "core", &["raw"])?;
    let client: Client = case.client("web")?;
    client.ask_well(Request::get(&server.url("/unread-next")).session("kept"))?;
    let outcomes = client.ask(Request::get(&server.url("/ok")).session("kept"))?;
    raced(&server, broken(&client, &server.container, outcomes, RESET, "awaiting_response")?)
}
