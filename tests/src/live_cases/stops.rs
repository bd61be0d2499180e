//! Requests to Docker: silent if nothing broke, otherwise one incident for everything that broke.

use std::thread;

use crate::client::Request;
use crate::container::Recipe;
use crate::docker::docker;
use crate::expect::{Expected, Killer, NAME_UNKNOWN, NO_RESPONSE, REFUSED, RESOLVING, Until, broken};
use crate::gaia::Gaia;
use crate::live_case::{LiveCase, live_case};
use crate::stage::{Server, Stage};
use crate::witness::ExitStatus;
use anyhow::{Context, Result, anyhow, ensure};

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case("stop-grace-honoured", "a stop whose grace covers every response is silent", stop_grace_honoured),
        live_case("stop-grace-exceeded", "a stop whose grace runs out is dated by the exit", stop_grace_exceeded),
        live_case(
            "refused-during-grace",
            "a request refused during the grace belongs to the stop",
            refused_during_grace,
        ),
        live_case(
            "stop-graceful-500",
            "a stop whose server responds with 500 at the end of its own grace is silent",
            stop_graceful_500,
        ),
        live_case(
            "stop-blocked-loop",
            "a stop of a server that cannot handle the signal is dated by the exit",
            stop_blocked_loop,
        ),
        live_case(
            "stop-then-lookup",
            "a lookup of the name after an orderly stop makes the stop an incident",
            stop_then_look_up,
        ),
        live_case("stop-under-init", "a stop under an init whose grace covers the response is silent", stop_under_init),
        live_case("restart", "a restart that breaks a request is over when the port listens again", restart),
        live_case("recreated", "a container that Compose replaces is back when its successor listens", recreated),
        live_case("rm-force", "a removal by force is a kill by Docker", rm_force),
        live_case(
            "stop-with-idle-connection",
            "a stop that closes only an idle connection is silent",
            stop_with_idle_connection,
        ),
        live_case(
            "stop-grace-exceeded-idle",
            "a stop whose grace runs out and breaks nothing is silent",
            stop_grace_exceeded_idle,
        ),
    ]
}

fn stop_grace_honoured(stage: &Stage) -> Result<Vec<Expected>> {
    answered_in_the_grace(stage, stage.recipe("core"))
}

fn answered_in_the_grace(stage: &Stage, recipe: Recipe) -> Result<Vec<Expected>> {
    let server = stage.server(recipe, "core", &["http"])?;
    let client = stage.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=1")))?;
    server.container.stop(Some(10))?;
    let outcomes = client.ended(&request)?;
    ensure!(outcomes.iter().all(|outcome| outcome.status == Some(200)), "{outcomes:?}");
    Ok(vec![])
}

fn stop_grace_exceeded(stage: &Stage) -> Result<Vec<Expected>> {
    cut_by_the_graces_end(stage, "/slow")
}

/// `path`: where the primary spends longer than its grace.
fn cut_by_the_graces_end(stage: &Stage, path: &str) -> Result<Vec<Expected>> {
    let gaia = Gaia::begin(stage, |recipe| recipe, &["http"])?;
    let request = gaia.holds(path, Request::get(&gaia.core.url(&format!("{path}?seconds=60"))))?;
    gaia.core.container.stop(Some(1))?;
    let broken = gaia.ended(&request, NO_RESPONSE, "awaiting_response")?.by_the_candidate()?;
    Ok(vec![stopped(&gaia.core, ExitStatus::SIGKILL).role("primary").breaking(broken)])
}

fn stopped(server: &Server, end: ExitStatus) -> Expected {
    Expected::death("container_stopped", &server.container, server.pid, end).by(Killer::Docker("docker stop"))
}

fn refused_during_grace(stage: &Stage) -> Result<Vec<Expected>> {
    let gaia = Gaia::begin(stage, |recipe| recipe, &["http"])?;
    let slow = Request::get(&gaia.core.url("/slow?seconds=60"));
    let held = gaia.core.holds(&gaia.web, "/slow", slow)?;
    let (refused, stop) = thread::scope(|scope| {
        let stop = scope.spawn(|| gaia.core.container.stop(Some(3)));
        let asked = gaia.core.closed().and_then(|()| gaia.web.send(gaia.retried(Request::get(&gaia.core.url("/ok")))));
        (asked.and_then(|asked| gaia.ended(&asked, REFUSED, "connecting")), stop.join())
    });
    stop.map_err(|_| anyhow!("the stopping thread panicked"))?.context("docker stop")?;
    let mut all = refused?.by_the_candidate()?;
    let (web, core) = (&gaia.web, &gaia.core.container);
    all.extend(broken(web, core, web.ended(&held)?, NO_RESPONSE, "awaiting_response")?);
    Ok(vec![stopped(&gaia.core, ExitStatus::SIGKILL).role("primary").breaking(all)])
}

fn stop_graceful_500(stage: &Stage) -> Result<Vec<Expected>> {
    let gaia = Gaia::begin(stage, |recipe| recipe, &["http", "--grace", "1"])?;
    let request = gaia.holds("/slow", Request::get(&gaia.core.url("/slow?seconds=60")))?;
    gaia.core.container.stop(Some(10))?;
    let (_, last) = gaia.web.attempts(&request)?;
    ensure!(last.status == Some(500), "the caller saw {last:?}");
    Ok(vec![])
}

fn stop_blocked_loop(stage: &Stage) -> Result<Vec<Expected>> {
    cut_by_the_graces_end(stage, "/block")
}

fn stop_then_look_up(stage: &Stage) -> Result<Vec<Expected>> {
    let gaia = Gaia::begin(stage, |recipe| recipe, &["http"])?;
    gaia.web.ask_well(Request::get(&gaia.core.url("/ok")).session("kept"))?;
    gaia.core.container.stop(Some(10))?;
    let request = gaia.web.send(gaia.retried(Request::get(&gaia.core.url("/ok"))))?;
    let broken = gaia.ended(&request, NAME_UNKNOWN, RESOLVING)?.by_the_candidate()?;
    Ok(vec![stopped(&gaia.core, ExitStatus::Code(0)).role("primary").breaking(broken)])
}

fn stop_under_init(stage: &Stage) -> Result<Vec<Expected>> {
    answered_in_the_grace(stage, stage.recipe("core").init())
}

fn restart(stage: &Stage) -> Result<Vec<Expected>> {
    let gaia = Gaia::begin(stage, |recipe| recipe, &["http"])?;
    let request = gaia.holds("/slow", Request::get(&gaia.core.url("/slow?seconds=60&once=slow")))?;
    docker(["restart", "--time", "1", gaia.core.container.name()])?;
    gaia.core.listening(2)?;
    let broken = gaia.ended(&request, NO_RESPONSE, "awaiting_response")?.served()?;
    let after = broken.first().context("one outcome")?.outcome.at;
    let again = Until::Listening { port: stage.port, after };
    Ok(vec![stopped(&gaia.core, ExitStatus::SIGKILL).role("primary").breaking(broken).under("container_down", again)])
}

fn recreated(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    // As Compose does it with `up --force-recreate`: the old one is renamed, and is removed when the new one runs.
    server.container.stop(Some(1))?;
    let outcomes = client.ended(&request)?;
    let old = format!("{}_{}", &server.container.id()[..12], server.container.name());
    docker(["rename", server.container.name(), &old])?;
    let after = outcomes.first().context("one outcome")?.at;
    let new = stage.uvicorn("core")?;
    new.listening(2)?;
    docker(["rm", "--force", &old])?;
    client.ask_well(Request::get(&new.url("/ok")))?;
    // By the name that it had when it failed.
    let broken = broken(&client, &server.container, outcomes, NO_RESPONSE, "awaiting_response")?;
    let again = Until::Listening { port: stage.port, after };
    let stopped = Expected::death("container_stopped", &server.container, server.pid, ExitStatus::SIGKILL);
    Ok(vec![stopped.by(Killer::Docker("docker stop")).breaking(broken).under("container_down", again)])
}

fn rm_force(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    docker(["rm", "--force", server.container.name()])?;
    let broken = broken(&client, &server.container, client.ended(&request)?, NO_RESPONSE, "awaiting_response")?;
    let killed = Expected::death("container_killed", &server.container, server.pid, ExitStatus::SIGKILL);
    Ok(vec![killed.by(Killer::Docker("docker kill")).breaking(broken)])
}

fn stop_with_idle_connection(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    client.ask_well(Request::get(&server.url("/ok")).session("kept"))?;
    server.container.stop(Some(10))?;
    Ok(vec![])
}

fn stop_grace_exceeded_idle(stage: &Stage) -> Result<Vec<Expected>> {
    // A first process without a handler never sees the SIGTERM.
    let server = stage.server(stage.recipe("core"), "core", &["raw"])?;
    let client = stage.client("web")?;
    client.ask_well(Request::get(&server.url("/ok")))?;
    server.container.stop(Some(1))?;
    Ok(vec![])
}
