//! The client leaves first: never the server's fault.

use anyhow::{Context, ensure};
use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::expect::{Expected, LEFT, Moment, NO_DATA, broken};
use gaia_monitor_tests::play::live;

#[test]
fn a_client_that_cancels_is_no_incident() {
    live("client-cancels", &[], |case| {
        let server = case.uvicorn("core")?;
        let client = case.client("web")?;
        let outcomes = client.ask(Request::get(&server.url("/slow?seconds=2")).cancel_after(0.3))?;
        ensure!(outcomes.iter().all(|outcome| outcome.class == "TimeoutError"), "{outcomes:?}");
        let outcomes = client.ask(Request::get(&server.url("/stream?chunks=50&pause=0.05")).cancel_after(0.4))?;
        ensure!(outcomes.iter().all(|outcome| outcome.class == "TimeoutError"), "{outcomes:?}");
        Ok(vec![])
    });
}

#[test]
fn a_client_that_cancels_is_told_when_that_is_asked_for() {
    live("client-cancels-included", &["--include-cancelled"], |case| {
        let server = case.uvicorn("core")?;
        let client = case.client("web")?;
        let request = Request::get(&server.url("/slow?seconds=2")).cancel_after(0.3);
        let outcomes = client.ask(request)?;
        let (_, port) = outcomes.first().and_then(|outcome| outcome.local).context("the client's port")?;
        let broken = broken(&client, &server.container, outcomes, LEFT, "awaiting_response")?;
        let pid = client.container.pid()?;
        let moment = Moment::ClientClose(port);
        Ok(vec![Expected::living("client_cancelled", &client.container, Some(pid), moment).breaking(broken)])
    });
}

#[test]
fn a_client_that_gives_up_on_a_silent_server_says_that_it_was_slow() {
    live("server-slow", &[], |case| {
        let server = case.uvicorn("core")?;
        let client = case.client("web")?;
        let request = Request::get(&server.url("/slow?seconds=4")).read_timeout(1.0);
        let outcomes = client.ask(request)?;
        let (_, port) = outcomes.first().and_then(|outcome| outcome.local).context("the client's port")?;
        let broken = broken(&client, &server.container, outcomes, NO_DATA, "awaiting_response")?;
        let moment = Moment::ClientClose(port);
        let slow = Expected::living("server_slow", &server.container, Some(server.pid), moment);
        Ok(vec![slow.likely().breaking(broken)])
    });
}
