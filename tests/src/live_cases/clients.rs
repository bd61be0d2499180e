//! The client closes first: never a failure of the server.

use crate::client::Request;
use crate::expect::{Expected, LEFT, Moment, NO_DATA, broken};
use crate::live_case::{LiveCase, live_case};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case(
            "client-cancels",
            "a client that cancels before its response is no incident",
            client_cancels("/slow?seconds=2"),
        ),
        live_case(
            "client-cancels-mid-stream",
            "a client that cancels during its response is no incident",
            client_cancels("/stream?chunks=50&pause=0.05"),
        ),
        live_case(
            "client-cancels-included",
            "a client that cancels is reported with --include-cancelled",
            client_cancels_included,
        )
        .with(&["--include-cancelled"]),
        live_case(
            "server-slow",
            "a client that times out on a silent server has a slow server",
            gives_up(Slow { path: "/slow?seconds=4", phase: "awaiting_response" }),
        ),
        live_case(
            "server-slow-between-chunks",
            "the same in the middle of the response",
            gives_up(Slow { path: "/stream?chunks=2&pause=4", phase: "receiving_body" }),
        ),
        live_case(
            "server-blocked",
            "the same for a server with a blocked event loop",
            gives_up(Slow { path: "/block?seconds=3", phase: "awaiting_response" }),
        ),
    ]
}

fn client_cancels(path: &'static str) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let server = stage.uvicorn("core")?;
        let client = stage.client("web")?;
        let outcomes = client.ask(Request::get(&server.url(path)).cancel_after(0.4))?;
        ensure!(outcomes.iter().all(|outcome| outcome.class == "TimeoutError"), "{outcomes:?}");
        Ok(vec![])
    }
}

fn client_cancels_included(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = Request::get(&server.url("/slow?seconds=2")).cancel_after(0.3);
    let outcomes = client.ask(request)?;
    let (_, port) = outcomes.first().and_then(|outcome| outcome.local).context("the client's port")?;
    let broken = broken(&client, &server.container, outcomes, LEFT, "awaiting_response")?;
    let pid = client.container.pid()?;
    let moment = Moment::ClientClose(port);
    Ok(vec![Expected::living("client_cancelled", &client.container, Some(pid), moment).breaking(broken)])
}

/// A silence that the client does not wait out.
struct Slow {
    path: &'static str,
    phase: &'static str,
}

fn gives_up(slow: Slow) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let server = stage.server(stage.recipe("core"), "core", &["http"])?;
        let client = stage.client("web")?;
        let outcomes = client.ask(Request::get(&server.url(slow.path)).read_timeout(1.5))?;
        let (_, port) = outcomes.first().and_then(|outcome| outcome.local).context("the client's port")?;
        let broken = broken(&client, &server.container, outcomes, NO_DATA, slow.phase)?;
        let moment = Moment::ClientClose(port);
        let incident = Expected::living("server_slow", &server.container, Some(server.pid), moment);
        Ok(vec![incident.likely().breaking(broken)])
    }
}
