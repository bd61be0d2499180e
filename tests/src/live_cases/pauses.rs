//! Frozen containers: Docker's pause, and SIGSTOP.

use crate::client::{Client, Outcome, Request};
use crate::expect::{Expected, Killer, Moment, NO_DATA, Until, broken};
use crate::live_case::{LiveCase, live_case};
use crate::stage::{Server, Stage};
use crate::witness::now;
use anyhow::{Result, ensure};

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case("paused", "a pause longer than the client's timeout is dated by Docker's event", paused),
        live_case("paused-shortly", "a pause that ends before the client's timeout is silent", paused_shortly),
        live_case(
            "request-while-paused",
            "a request to a container that is paused belongs to the pause",
            asked_while_paused,
        ),
        live_case("client-paused", "a client that is paused and served in the end is silent", client_paused),
        live_case("sigstop", "a SIGSTOP is a pause that the signal begins and SIGCONT ends", sigstop),
    ]
}

fn paused(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = Request::get(&server.url("/slow?seconds=60")).read_timeout(2.0);
    let request = server.holds(&client, "/slow", request)?;
    server.container.verb("pause")?;
    let outcomes = client.ended(&request)?;
    server.container.verb("unpause")?;
    by_docker(stage, &server, &client, outcomes)
}

/// Docker's pause, over by now, that was longer than the client's timeout.
fn by_docker(stage: &Stage, server: &Server, client: &Client, outcomes: Vec<Outcome>) -> Result<Vec<Expected>> {
    let broken = broken(client, &server.container, outcomes, NO_DATA, "awaiting_response")?;
    let moment = Moment::Docker { fact: "docker_pause", at: stage.docker_event(&server.container, "pause")? };
    let until = Until::Docker(stage.docker_event(&server.container, "unpause")?);
    let paused = Expected::living("container_paused", &server.container, None, moment);
    Ok(vec![paused.under("paused", until).breaking(broken)])
}

fn paused_shortly(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=0.3")))?;
    server.container.verb("pause")?;
    // The response was due meanwhile.
    let again = stage.client("again")?;
    server.container.verb("unpause")?;
    let outcomes = client.ended(&request)?;
    ensure!(outcomes.iter().all(|outcome| outcome.status == Some(200)), "{outcomes:?}");
    drop(again);
    Ok(vec![])
}

fn client_paused(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=0.5")))?;
    client.container.verb("pause")?;
    // The response arrived meanwhile.
    let again = stage.client("again")?;
    again.ask_well(Request::get(&server.url("/slow?seconds=0.6")))?;
    client.container.verb("unpause")?;
    let outcomes = client.ended(&request)?;
    ensure!(outcomes.iter().all(|outcome| outcome.status == Some(200)), "{outcomes:?}");
    Ok(vec![])
}

fn asked_while_paused(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    server.container.verb("pause")?;
    let outcomes = client.ask(Request::get(&server.url("/ok")).read_timeout(1.5))?;
    server.container.verb("unpause")?;
    by_docker(stage, &server, &client, outcomes)
}

fn sigstop(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = Request::get(&server.url("/slow?seconds=60")).read_timeout(2.0);
    let request = server.holds(&client, "/slow", request)?;
    server.container.kill("STOP")?;
    let outcomes = client.ended(&request)?;
    let after = now();
    server.container.kill("CONT")?;
    let broken = broken(&client, &server.container, outcomes, NO_DATA, "awaiting_response")?;
    let moment = Moment::Signal { pid: server.pid, signal: 19 };
    let paused = Expected::living("container_paused", &server.container, None, moment);
    let until = Until::Continued { pid: server.pid, after };
    Ok(vec![paused.by(Killer::Docker("docker kill")).under("paused", until).breaking(broken)])
}
