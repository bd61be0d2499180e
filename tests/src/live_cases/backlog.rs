//! A listener whose process never accepts, with and without room in its queue.

use crate::client::Request;
use crate::expect::{Expected, Moment, NO_DATA, SYN_TIMEOUT, broken};
use crate::live_case::{LiveCase, live_case};
use crate::stage::Stage;
use crate::witness::now;
use anyhow::Result;

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case("backlog-full", "a connect to a full queue is a backlog overflow", backlog_full),
        live_case("backlog-room", "a connection that is never accepted has a slow server", backlog_room),
    ]
}

fn backlog_full(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.server(stage.recipe("core"), "core", &["hoard", "--fill", "2"])?;
    let client = stage.client("web")?;
    let after = now();
    let outcomes = client.ask(Request::get(&server.url("/ok")).connect_timeout(1.5))?;
    let broken = broken(&client, &server.container, outcomes, SYN_TIMEOUT, "connecting")?;
    let moment = Moment::Syn { to: server.address, after };
    Ok(vec![Expected::living("backlog_overflow", &server.container, Some(server.pid), moment).breaking(broken)])
}

fn backlog_room(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.server(stage.recipe("core"), "core", &["hoard"])?;
    let client = stage.client("web")?;
    let outcomes = client.ask(Request::get(&server.url("/ok")).read_timeout(1.5))?;
    let port = outcomes.first().and_then(|outcome| outcome.local).map_or(0, |(_, port)| port);
    let broken = broken(&client, &server.container, outcomes, NO_DATA, "awaiting_response")?;
    let slow = Expected::living("server_slow", &server.container, None, Moment::ClientClose(port));
    Ok(vec![slow.likely().breaking(broken)])
}
