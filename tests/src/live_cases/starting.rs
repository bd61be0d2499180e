//! The container runs and its port is not open yet.

use crate::client::Request;
use crate::expect::{Broken, Expected, Moment, REFUSED, Until, broken};
use crate::gaia::{Gaia, around};
use crate::live_case::{LiveCase, live_case};
use crate::stage::{Server, Stage};
use anyhow::{Context, Result};

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case(
            "refused-while-starting",
            "a request refused while the server starts is over when it listens",
            refused_while_starting,
        ),
        live_case(
            "refused-while-importing",
            "retries that meet an application still importing end at the candidate",
            refused_while(&["http", "--importing", "5"]),
        ),
        live_case(
            "refused-in-lifespan",
            "the same while its lifespan starts",
            refused_while(&["http", "--starting", "5"]),
        ),
        live_case(
            "refused-while-workers-import",
            "the same for workers whose parent has bound the port and does not listen",
            refused_while(&["http", "--workers", "2", "--importing", "5"]),
        ),
        live_case(
            "retries-reach-what-starts",
            "retries that reach the port when it opens leave one incident",
            retries_reach_what_starts,
        ),
    ]
}

fn starting(server: &Server, refused: Vec<Broken>) -> Result<Expected> {
    let after = refused.last().context("one refusal")?.outcome.at;
    server.listening(1)?;
    let moment = Moment::Refused(server.address);
    let starting = Expected::living("not_listening", &server.container, None, moment);
    let listening = Until::Listening { port: server.address.port(), after };
    Ok(starting.under("not_listening", listening).breaking(refused))
}

fn refused_while_starting(stage: &Stage) -> Result<Vec<Expected>> {
    let client = stage.client("web")?;
    let server = stage.server_that_starts(stage.recipe("core"), "core", &["http", "--delay", "3"])?;
    let outcomes = client.ask(Request::get(&server.url("/ok")))?;
    let broken = broken(&client, &server.container, outcomes, REFUSED, "connecting")?;
    Ok(vec![starting(&server, broken)?])
}

fn refused_while(program: &'static [&'static str]) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let gaia = meets(stage, program)?;
        let request = gaia.web.send(gaia.retried(Request::get(&gaia.core.url("/ok"))))?;
        let broken = gaia.ended(&request, REFUSED, "connecting")?.by_the_candidate()?;
        Ok(vec![starting(&gaia.core, broken)?.role("primary")])
    }
}

/// The primary comes last, and is not waited for.
fn meets(stage: &Stage, program: &[&str]) -> Result<Gaia> {
    let (candidate, web) = around(stage)?;
    let core = stage.server_that_starts(stage.recipe("core"), "core", program)?;
    Ok(Gaia { core, candidate, web })
}

fn retries_reach_what_starts(stage: &Stage) -> Result<Vec<Expected>> {
    let gaia = meets(stage, &["raw", "--delay", "1.2"])?;
    let request = gaia.web.send(gaia.retried(Request::get(&gaia.core.url("/ok"))))?;
    let broken = gaia.ended(&request, REFUSED, "connecting")?.by_the_primary()?;
    Ok(vec![starting(&gaia.core, broken)?.role("primary")])
}
