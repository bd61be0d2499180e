//! What is asked of Docker: silent where it broke nothing, one incident for all that it broke where it did.

use std::thread;

use crate::case::{Case, Server};
use crate::client::Request;
use crate::container::Recipe;
use crate::docker::docker;
use crate::expect::{Expected, Killer, NAME_UNKNOWN, NO_RESPONSE, REFUSED, RESOLVING, Until, broken};
use crate::gaia::Gaia;
use crate::instrument::ExitStatus;
use crate::row::{Row, row};
use anyhow::{Context, Result, anyhow, ensure};

pub fn rows() -> Vec<Row> {
    vec![
        row("stop-grace-honoured", "a stop whose grace lets every answer out is silent", stop_grace_honoured),
        row("stop-grace-exceeded", "a stop whose grace runs out is pinned to the exit", stop_grace_exceeded),
        row("refused-during-grace", "a request refused during the grace belongs to the stop", refused_during_grace),
        row(
            "stop-graceful-500",
            "a stop whose server answers 500 when its own patience ends is silent",
            stop_graceful_500,
        ),
        row("stop-blocked-loop", "a stop of a server that cannot look up is pinned to the exit", stop_blocked_loop),
        row(
            "stop-then-look-up",
            "what asks for the name after an orderly stop makes the stop an incident",
            stop_then_look_up,
        ),
        row("stop-under-init", "a stop under an init that lets the answer out is silent", stop_under_init),
        row("restart", "a restart that breaks a request is over when the port listens again", restart),
        row("recreated", "a container that Compose replaces is back when its successor listens", recreated),
        row("rm-force", "a removal by force is a kill by Docker", rm_force),
        row(
            "stop-with-idle-connection",
            "a stop that closes only an idle connection is silent",
            stop_with_idle_connection,
        ),
        row(
            "stop-grace-exceeded-idle",
            "a stop whose grace runs out and breaks nothing is silent",
            stop_grace_exceeded_idle,
        ),
    ]
}

const SIGKILL: ExitStatus = ExitStatus::Signal(9);

fn stop_grace_honoured(case: &Case) -> Result<Vec<Expected>> {
    answered_in_the_grace(case, case.recipe("core"))
}

fn answered_in_the_grace(case: &Case, recipe: Recipe) -> Result<Vec<Expected>> {
    let server = case.server(recipe, "core", &["http"])?;
    let client = case.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=1")))?;
    server.container.stop(Some(10))?;
    let outcomes = client.ended(&request)?;
    ensure!(outcomes.iter().all(|outcome| outcome.status == Some(200)), "{outcomes:?}");
    Ok(vec![])
}

fn stop_grace_exceeded(case: &Case) -> Result<Vec<Expected>> {
    cut_by_the_graces_end(case, "/slow")
}

/// `path`: where the primary spends longer than its grace.
fn cut_by_the_graces_end(case: &Case, path: &str) -> Result<Vec<Expected>> {
    let gaia = Gaia::begin(case, |recipe| recipe, &["http"])?;
    let request = gaia.holds(path, Request::get(&gaia.core.url(&format!("{path}?seconds=60"))))?;
    gaia.core.container.stop(Some(1))?;
    let broken = gaia.ended(&request, NO_RESPONSE, "awaiting_response")?.by_the_candidate()?;
    Ok(vec![stopped(&gaia.core, SIGKILL).role("primary").breaking(broken)])
}

fn stopped(server: &Server, end: ExitStatus) -> Expected {
    Expected::death("container_stopped", &server.container, server.pid, end).by(Killer::Docker("docker stop"))
}

fn refused_during_grace(case: &Case) -> Result<Vec<Expected>> {
    let gaia = Gaia::begin(case, |recipe| recipe, &["http"])?;
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
    Ok(vec![stopped(&gaia.core, SIGKILL).role("primary").breaking(all)])
}

fn stop_graceful_500(case: &Case) -> Result<Vec<Expected>> {
    let gaia = Gaia::begin(case, |recipe| recipe, &["http", "--grace", "1"])?;
    let request = gaia.holds("/slow", Request::get(&gaia.core.url("/slow?seconds=60")))?;
    gaia.core.container.stop(Some(10))?;
    let (_, last) = gaia.web.attempts(&request)?;
    ensure!(last.status == Some(500), "the caller saw {last:?}");
    Ok(vec![])
}

fn stop_blocked_loop(case: &Case) -> Result<Vec<Expected>> {
    cut_by_the_graces_end(case, "/block")
}

fn stop_then_look_up(case: &Case) -> Result<Vec<Expected>> {
    let gaia = Gaia::begin(case, |recipe| recipe, &["http"])?;
    gaia.web.ask_well(Request::get(&gaia.core.url("/ok")).session("kept"))?;
    gaia.core.container.stop(Some(10))?;
    let request = gaia.web.send(gaia.retried(Request::get(&gaia.core.url("/ok"))))?;
    let broken = gaia.ended(&request, NAME_UNKNOWN, RESOLVING)?.by_the_candidate()?;
    Ok(vec![stopped(&gaia.core, ExitStatus::Code(0)).role("primary").breaking(broken)])
}

fn stop_under_init(case: &Case) -> Result<Vec<Expected>> {
    answered_in_the_grace(case, case.recipe("core").init())
}

fn restart(case: &Case) -> Result<Vec<Expected>> {
    let gaia = Gaia::begin(case, |recipe| recipe, &["http"])?;
    let request = gaia.holds("/slow", Request::get(&gaia.core.url("/slow?seconds=60&once=slow")))?;
    docker(["restart", "--time", "1", gaia.core.container.name()])?;
    gaia.core.listening(2)?;
    let broken = gaia.ended(&request, NO_RESPONSE, "awaiting_response")?.served()?;
    let after = broken.first().context("one outcome")?.outcome.at;
    let again = Until::Listening { port: case.port, after };
    Ok(vec![stopped(&gaia.core, SIGKILL).role("primary").breaking(broken).under("container_down", again)])
}

fn recreated(case: &Case) -> Result<Vec<Expected>> {
    let server = case.uvicorn("core")?;
    let client = case.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    // As Compose does it with `up --force-recreate`: the old one is renamed, and goes when the new one stands.
    server.container.stop(Some(1))?;
    let outcomes = client.ended(&request)?;
    let old = format!("{}_{}", &server.container.id()[..12], server.container.name());
    docker(["rename", server.container.name(), &old])?;
    let after = outcomes.first().context("one outcome")?.at;
    let new = case.uvicorn("core")?;
    new.listening(2)?;
    docker(["rm", "--force", &old])?;
    client.ask_well(Request::get(&new.url("/ok")))?;
    // By the name that it had when it failed.
    let broken = broken(&client, &server.container, outcomes, NO_RESPONSE, "awaiting_response")?;
    let again = Until::Listening { port: case.port, after };
    let stopped = Expected::death("container_stopped", &server.container, server.pid, SIGKILL);
    Ok(vec![stopped.by(Killer::Docker("docker stop")).breaking(broken).under("container_down", again)])
}

fn rm_force(case: &Case) -> Result<Vec<Expected>> {
    let server = case.uvicorn("core")?;
    let client = case.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    docker(["rm", "--force", server.container.name()])?;
    let broken = broken(&client, &server.container, client.ended(&request)?, NO_RESPONSE, "awaiting_response")?;
    let killed = Expected::death("container_killed", &server.container, server.pid, SIGKILL);
    Ok(vec![killed.by(Killer::Docker("docker kill")).breaking(broken)])
}

fn stop_with_idle_connection(case: &Case) -> Result<Vec<Expected>> {
    let server = case.uvicorn("core")?;
    let client = case.client("web")?;
    client.ask_well(Request::get(&server.url("/ok")).session("kept"))?;
    server.container.stop(Some(10))?;
    Ok(vec![])
}

fn stop_grace_exceeded_idle(case: &Case) -> Result<Vec<Expected>> {
    // A first process without a handler never sees the SIGTERM.
    let server = case.server(case.recipe("core"), "core", &["raw"])?;
    let client = case.client("web")?;
    client.ask_well(Request::get(&server.url("/ok")))?;
    server.container.stop(Some(1))?;
    Ok(vec![])
}
