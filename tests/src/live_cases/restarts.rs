//! Deaths with a restart by policy.

use std::time::Duration;

use crate::client::Request;
use crate::expect::{Expected, Killer, NO_RESPONSE, REFUSED, Until, broken};
use crate::gaia::Gaia;
use crate::live_case::{LiveCase, live_case};
use crate::stage::Stage;
use crate::wait;
use crate::witness::ExitStatus;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case(
            "refused-after-restart",
            "refusals after a restart belong to the death until the port listens",
            refused_after_restart,
        ),
        live_case(
            "exit-and-restart",
            "an exit with a restart by policy is over when the port listens",
            comes_back(Fault::Exit),
        ),
        live_case("kill-and-restart", "the same for a kill from the host", comes_back(Fault::Host)),
        live_case(
            "docker-kill-defeats-the-policy",
            "a container that was killed through Docker is not restarted",
            docker_kill_defeats_the_policy,
        ),
        live_case("crash-loop", "a crash loop is one incident that counts its deaths", crash_loop),
    ]
}

const RESTART_LIMIT: Duration = Duration::from_secs(20);

fn refused_after_restart(stage: &Stage) -> Result<Vec<Expected>> {
    let recipe = stage.recipe("core").restart("always");
    let server = stage.server(recipe, "core", &["http", "--delay", "1.5"])?;
    let client = stage.client("web")?;
    let held = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    server.signal_from_host(server.pid, Signal::SIGKILL)?;
    let again = || Ok(server.container.pid().ok().filter(|&pid| pid != server.pid));
    wait::until("the container to come back", RESTART_LIMIT, again)?;
    let refused = client.ask(Request::get(&server.url("/ok")))?;
    let after = refused.first().context("one outcome")?.at;
    server.listening(2)?;
    let mut all = broken(&client, &server.container, client.ended(&held)?, NO_RESPONSE, "awaiting_response")?;
    all.extend(broken(&client, &server.container, refused, REFUSED, "connecting")?);
    let killed = Expected::death("process_killed", &server.container, server.pid, ExitStatus::SIGKILL);
    let listening = Until::Listening { port: stage.port, after };
    let killer = Killer::Host(std::process::id());
    Ok(vec![killed.by(killer).breaking(all).under("container_down", listening)])
}

#[derive(Clone, Copy)]
enum Fault {
    /// The request makes it exit, the first time.
    Exit,
    /// SIGKILL by this process.
    Host,
}

fn comes_back(fault: Fault) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let gaia = Gaia::begin(stage, |recipe| recipe.restart("unless-stopped"), &["http"])?;
        let core = &gaia.core;
        let (path, request) = match fault {
            Fault::Exit => ("/exit", Request::get(&core.url("/exit?code=1&once=exit"))),
            Fault::Host => ("/slow", Request::get(&core.url("/slow?seconds=60&once=slow"))),
        };
        let request = gaia.holds(path, request)?;
        let death = match fault {
            Fault::Exit => Expected::death("process_exited", &core.container, core.pid, ExitStatus::Code(1)),
            Fault::Host => {
                core.signal_from_host(core.pid, Signal::SIGKILL)?;
                let death = Expected::death("process_killed", &core.container, core.pid, ExitStatus::SIGKILL);
                death.by(Killer::Host(std::process::id()))
            }
        };
        let broken = gaia.ended(&request, NO_RESPONSE, "awaiting_response")?.served()?;
        core.listening(2)?;
        let after = broken.first().context("one outcome")?.outcome.at;
        let listening = Until::Listening { port: stage.port, after };
        Ok(vec![death.role("primary").breaking(broken).under("container_down", listening)])
    }
}

fn docker_kill_defeats_the_policy(stage: &Stage) -> Result<Vec<Expected>> {
    let gaia = Gaia::begin(stage, |recipe| recipe.restart("unless-stopped"), &["http"])?;
    let request = gaia.holds("/slow", Request::get(&gaia.core.url("/slow?seconds=60")))?;
    gaia.core.container.kill("KILL")?;
    let broken = gaia.ended(&request, NO_RESPONSE, "awaiting_response")?.by_the_candidate()?;
    let killed = Expected::death("container_killed", &gaia.core.container, gaia.core.pid, ExitStatus::SIGKILL);
    Ok(vec![killed.by(Killer::Docker("docker kill")).role("primary").breaking(broken)])
}

fn crash_loop(stage: &Stage) -> Result<Vec<Expected>> {
    let recipe = stage.recipe("core").restart("on-failure:2");
    let server = stage.server_that_starts(recipe, "core", &["die", "--delay", "1", "--code", "7"])?;
    wait::until("the last death", RESTART_LIMIT, || {
        let state = server.container.inspect("{{.State.Status}} {{.RestartCount}}")?;
        Ok((state == "exited 2").then_some(()))
    })?;
    Ok(vec![Expected::death("process_exited", &server.container, server.pid, ExitStatus::Code(7)).times(3)])
}
