//! Deaths that a restart policy answers.

use std::time::Duration;

use anyhow::Context;
use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::expect::{Expected, Killer, NO_RESPONSE, REFUSED, Until, broken};
use gaia_monitor_tests::instrument::ExitStatus;
use gaia_monitor_tests::play::live;
use gaia_monitor_tests::wait;
use nix::sys::signal::Signal;

const RESTART_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn refusals_after_a_comeback_belong_to_the_death_until_the_port_listens() {
    live("refused-after-comeback", &[], |case| {
        let recipe = case.recipe("core").restart("always");
        let server = case.server(recipe, "core", &["http", "--delay", "1.5"])?;
        let client = case.client("web")?;
        let held = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
        server.signal_from_host(server.pid, Signal::SIGKILL)?;
        let again = || Ok(server.container.pid().ok().filter(|&pid| pid != server.pid));
        wait::until("the container to come back", RESTART_LIMIT, again)?;
        let refused = client.ask(Request::get(&server.url("/ok")))?;
        let after = refused.first().context("one outcome")?.at;
        server.listening(2)?;
        let mut all = broken(&client, &server.container, client.ended(&held)?, NO_RESPONSE, "awaiting_response")?;
        all.extend(broken(&client, &server.container, refused, REFUSED, "connecting")?);
        let killed = Expected::death("process_killed", &server.container, server.pid, ExitStatus::Signal(9));
        let listening = Until::Listening { port: case.port, after };
        let killer = Killer::Host(std::process::id());
        Ok(vec![killed.by(killer).breaking(all).under("container_down", listening)])
    });
}

#[test]
fn a_crash_loop_is_one_incident_that_counts_its_deaths() {
    live("crash-loop", &[], |case| {
        let recipe = case.recipe("core").restart("on-failure:2");
        let server = case.server_that_starts(recipe, "core", &["die", "--delay", "1", "--code", "7"])?;
        wait::until("the last death", RESTART_LIMIT, || {
            let state = server.container.inspect("{{.State.Status}} {{.RestartCount}}")?;
            Ok((state == "exited 2").then_some(()))
        })?;
        Ok(vec![Expected::death("process_exited", &server.container, server.pid, ExitStatus::Code(7)).times(3)])
    });
}
