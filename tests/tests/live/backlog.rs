//! A listener that nobody accepts from, with and without room in its queue.

use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::expect::{Expected, Moment, NO_DATA, SYN_TIMEOUT, broken};
use gaia_monitor_tests::instrument::now;
use gaia_monitor_tests::play::live;

#[test]
fn a_connect_to_a_full_queue_is_a_backlog_overflow() {
    live("backlog-full", &[], |case| {
        let server = case.server(case.recipe("core"), "core", &["hoard", "--fill", "2"])?;
        let client = case.client("web")?;
        let after = now();
        let outcomes = client.ask(Request::get(&server.url("/ok")).connect_timeout(1.5))?;
        let broken = broken(&client, &server.container, outcomes, SYN_TIMEOUT, "connecting")?;
        let moment = Moment::Syn { to: server.address, after };
        Ok(vec![Expected::living("backlog_overflow", &server.container, Some(server.pid), moment).breaking(broken)])
    });
}

#[test]
fn a_connection_that_is_never_accepted_has_a_slow_server() {
    live("backlog-room", &[], |case| {
        let server = case.server(case.recipe("core"), "core", &["hoard"])?;
        let client = case.client("web")?;
        let outcomes = client.ask(Request::get(&server.url("/ok")).read_timeout(1.5))?;
        let port = outcomes.first().and_then(|outcome| outcome.local).map_or(0, |(_, port)| port);
        let broken = broken(&client, &server.container, outcomes, NO_DATA, "awaiting_response")?;
        let slow = Expected::living("server_slow", &server.container, None, Moment::ClientClose(port));
        Ok(vec![slow.likely().breaking(broken)])
    });
}
