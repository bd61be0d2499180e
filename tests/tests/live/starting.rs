//! The container runs and its port is not open yet.

use anyhow::Context;
use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::expect::{Expected, Moment, REFUSED, Until, broken};
use gaia_monitor_tests::play::live;

#[test]
fn a_request_refused_while_the_server_starts_is_over_when_it_listens() {
    live("refused-while-starting", &[], |case| {
        let client = case.client("web")?;
        let server = case.server_that_starts(case.recipe("core"), "core", &["http", "--delay", "3"])?;
        let outcomes = client.ask(Request::get(&server.url("/ok")))?;
        let after = outcomes.first().context("one outcome")?.at;
        server.listening(1)?;
        let broken = broken(&client, &server.container, outcomes, REFUSED, "connecting")?;
        let moment = Moment::Refused(server.address);
        let starting = Expected::living("not_listening", &server.container, None, moment);
        let listening = Until::Listening { port: case.port, after };
        Ok(vec![starting.under("not_listening", listening).breaking(broken)])
    });
}
