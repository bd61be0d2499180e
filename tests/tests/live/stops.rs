//! What is asked of Docker: silent where it broke nothing, one incident for all that it broke where it did.

use std::thread;

use anyhow::{Context, anyhow};
use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::docker::docker;
use gaia_monitor_tests::expect::{Expected, Killer, NO_RESPONSE, REFUSED, Until, broken};
use gaia_monitor_tests::instrument::ExitStatus;
use gaia_monitor_tests::play::live;

const SIGKILL: ExitStatus = ExitStatus::Signal(9);

#[test]
fn a_stop_whose_grace_lets_every_answer_out_is_silent() {
    live("stop-grace-honoured", &[], |case| {
        let server = case.uvicorn("core")?;
        let client = case.client("web")?;
        let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=1")))?;
        server.container.stop(Some(10))?;
        let outcomes = client.ended(&request)?;
        anyhow::ensure!(outcomes.iter().all(|outcome| outcome.status == Some(200)), "{outcomes:?}");
        Ok(vec![])
    });
}

#[test]
fn a_stop_whose_grace_runs_out_is_pinned_to_the_exit() {
    live("stop-grace-exceeded", &[], |case| {
        let server = case.uvicorn("core")?;
        let client = case.client("web")?;
        let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
        server.container.stop(Some(1))?;
        let broken = broken(&client, &server.container, client.ended(&request)?, NO_RESPONSE, "awaiting_response")?;
        let stopped = Expected::death("container_stopped", &server.container, server.pid, SIGKILL);
        Ok(vec![stopped.by(Killer::Docker("docker stop")).breaking(broken)])
    });
}

#[test]
fn a_request_refused_during_the_grace_belongs_to_the_stop() {
    live("refused-during-grace", &[], |case| {
        let server = case.uvicorn("core")?;
        let client = case.client("web")?;
        let held = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
        let (refused, stopped) = thread::scope(|scope| {
            let stop = scope.spawn(|| server.container.stop(Some(3)));
            let refused = server.closed().and_then(|()| client.ask(Request::get(&server.url("/ok"))));
            (refused, stop.join())
        });
        stopped.map_err(|_| anyhow!("the stopping thread panicked"))?.context("docker stop")?;
        let mut all = broken(&client, &server.container, refused?, REFUSED, "connecting")?;
        all.extend(broken(&client, &server.container, client.ended(&held)?, NO_RESPONSE, "awaiting_response")?);
        let stopped = Expected::death("container_stopped", &server.container, server.pid, SIGKILL);
        Ok(vec![stopped.by(Killer::Docker("docker stop")).breaking(all)])
    });
}

#[test]
fn a_restart_that_breaks_a_request_is_over_when_the_port_listens_again() {
    live("restart", &[], |case| {
        let server = case.uvicorn("core")?;
        let client = case.client("web")?;
        let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
        docker(["restart", "--time", "1", server.container.name()])?;
        server.listening(2)?;
        let broken = broken(&client, &server.container, client.ended(&request)?, NO_RESPONSE, "awaiting_response")?;
        let after = broken.first().context("one outcome")?.outcome.at;
        let stopped = Expected::death("container_stopped", &server.container, server.pid, SIGKILL);
        let again = Until::Listening { port: case.port, after };
        Ok(vec![stopped.by(Killer::Docker("docker stop")).breaking(broken).under("container_down", again)])
    });
}

#[test]
fn a_removal_by_force_is_a_kill_by_docker() {
    live("rm-force", &[], |case| {
        let server = case.uvicorn("core")?;
        let client = case.client("web")?;
        let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
        docker(["rm", "--force", server.container.name()])?;
        let broken = broken(&client, &server.container, client.ended(&request)?, NO_RESPONSE, "awaiting_response")?;
        let killed = Expected::death("container_killed", &server.container, server.pid, SIGKILL);
        Ok(vec![killed.by(Killer::Docker("docker kill")).breaking(broken)])
    });
}

#[test]
fn a_stop_that_closes_only_an_idle_connection_is_silent() {
    live("stop-with-idle-connection", &[], |case| {
        let server = case.uvicorn("core")?;
        let client = case.client("web")?;
        client.ask_well(Request::get(&server.url("/ok")).session("kept"))?;
        server.container.stop(Some(10))?;
        Ok(vec![])
    });
}

#[test]
fn a_stop_whose_grace_runs_out_and_breaks_nothing_is_silent() {
    live("stop-grace-exceeded-idle", &[], |case| {
        // A first process without a handler never sees the SIGTERM.
        let server = case.server(case.recipe("core"), "core", &["raw"])?;
        let client = case.client("web")?;
        client.ask_well(Request::get(&server.url("/ok")))?;
        server.container.stop(Some(1))?;
        Ok(vec![])
    });
}
