//! Processes below the first one: workers, a child that its parent kills, the child of an init.

use std::time::Duration;

use crate::client::Request;
use crate::expect::{Expected, Killer, NO_RESPONSE, Until, broken};
use crate::gaia::Gaia;
use crate::live_case::{LiveCase, live_case};
use crate::stage::Stage;
use crate::witness::ExitStatus;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

/// What the witness saw is here within milliseconds.
const RECORD_LIMIT: Duration = Duration::from_secs(5);

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case(
            "uvicorn-worker-killed",
            "a killed worker of uvicorn is reported while its parent is alive",
            // Each of the two workers reports that it listens.
            killed_worker("http", 2),
        ),
        live_case(
            "gunicorn-worker-killed",
            "a killed worker of a preforking gunicorn is reported while its arbiter is alive",
            killed_worker("fork", 1),
        ),
        live_case(
            "worker-killed-by-exec",
            "a worker killed by a shell that was entered into its container names that container",
            worker_killed_by_exec,
        ),
        live_case(
            "uvicorn-worker-crashed",
            "a worker that crashes is reported with its signal",
            uvicorn_worker_crashed,
        ),
        live_case(
            "worker-oom",
            "a worker that exceeds the memory limit is reported while its parent is alive",
            worker_ends(End::Oom),
        ),
        live_case("worker-exits", "a worker that exits with a code is reported with it", worker_ends(End::Exit)),
        live_case(
            "idle-worker-killed",
            "a worker that never accepted anything counts nevertheless",
            idle_worker_killed,
        ),
        live_case(
            "all-workers-killed",
            "workers that die for the same reason within seconds are one incident",
            all_workers_killed,
        ),
        live_case(
            "gunicorn-worker-timeout",
            "a worker that its arbiter aborts, and that responds with 500 and exits cleanly, is silent",
            gunicorn_worker_timeout,
        ),
        live_case(
            "gunicorn-reload",
            "a reload that replaces every worker while requests are served is silent",
            gunicorn_reload,
        ),
        live_case("killed-by-parent", "a child killed by its parent names the parent", killed_by_parent),
    ]
}

/// `worker_died` of the worker with this pid of the host; the port stays open.
fn worker_died(
    server: &crate::stage::Server,
    pid: u32,
    how: &'static str,
    end: ExitStatus,
    killer: Killer,
) -> Expected {
    let death = Expected::death("worker_died", &server.container, pid, end).by(killer);
    Expected { how: Some(how), condition: None, ..death }
}

fn killed_worker(mode: &'static str, listening: usize) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let server = stage.server(stage.recipe("core"), "core", &[mode, "--workers", "2"])?;
        server.listening(listening)?;
        let client = stage.client("web")?;
        let request = client.send(Request::get(&server.url("/slow?seconds=60")))?;
        let inner = server.entered("/slow", 1)?.into_iter().next().unwrap_or_default();
        let pid = server.host_pid(inner)?;
        server.signal_from_host(pid, Signal::SIGKILL)?;
        let broken = broken(&client, &server.container, client.ended(&request)?, NO_RESPONSE, "awaiting_response")?;
        let killer = Killer::Host(std::process::id());
        Ok(vec![worker_died(&server, pid, "process_killed", ExitStatus::SIGKILL, killer).breaking(broken)])
    }
}

fn worker_killed_by_exec(stage: &Stage) -> Result<Vec<Expected>> {
    let gaia = Gaia::begin(stage, |recipe| recipe, &["http", "--workers", "2"])?;
    gaia.core.listening(2)?;
    let request = gaia.holds("/slow", Request::get(&gaia.core.url("/slow?seconds=60&once=slow")))?;
    let inner = gaia.core.entered("/slow", 1)?.into_iter().next().unwrap_or_default();
    let pid = gaia.core.host_pid(inner)?;
    gaia.core.container.exec(&["sh", "-c", &format!("kill -KILL {inner}")])?;
    let broken = gaia.ended(&request, NO_RESPONSE, "awaiting_response")?.by_the_primary()?;
    let killer = Killer::Container(gaia.core.container.name().to_owned());
    let died = worker_died(&gaia.core, pid, "process_killed", ExitStatus::SIGKILL, killer);
    Ok(vec![died.role("primary").breaking(broken)])
}

fn uvicorn_worker_crashed(stage: &Stage) -> Result<Vec<Expected>> {
    let gaia = Gaia::begin(stage, |recipe| recipe, &["http", "--workers", "2"])?;
    let workers = gaia.core.listening(2)?;
    let pids = workers.iter().map(|&inner| Ok((inner, gaia.core.host_pid(inner)?))).collect::<Result<Vec<_>>>()?;
    let request = gaia.holds("/segv", Request::get(&gaia.core.url("/segv?once=segv")))?;
    let inner = gaia.core.entered("/segv", 1)?.into_iter().next().unwrap_or_default();
    let pid = pids.iter().find(|(known, _)| *known == inner).map(|(_, pid)| *pid).unwrap_or_default();
    let broken = gaia.ended(&request, NO_RESPONSE, "awaiting_response")?.by_the_primary()?;
    let died = worker_died(&gaia.core, pid, "process_crashed", ExitStatus::SIGSEGV, Killer::NoSender);
    Ok(vec![died.role("primary").breaking(broken)])
}

#[derive(Clone, Copy)]
enum End {
    Oom,
    Exit,
}

fn worker_ends(end: End) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let (path, how, status) = match end {
            End::Oom => ("/oom?once=end", "oom_killed", ExitStatus::SIGKILL),
            End::Exit => ("/exit?code=5&once=end", "process_exited", ExitStatus::Code(5)),
        };
        let gaia = Gaia::begin(stage, |recipe| recipe.memory(192 << 20), &["http", "--workers", "2"])?;
        let workers = gaia.core.listening(2)?;
        let pids = workers.iter().map(|&inner| Ok((inner, gaia.core.host_pid(inner)?))).collect::<Result<Vec<_>>>()?;
        let bare = path.split('?').next().unwrap_or_default();
        let request = gaia.holds(bare, Request::get(&gaia.core.url(path)))?;
        let inner = gaia.core.entered(bare, 1)?.into_iter().next().unwrap_or_default();
        let pid = pids.iter().find(|(known, _)| *known == inner).map(|(_, pid)| *pid).unwrap_or_default();
        let broken = gaia.ended(&request, NO_RESPONSE, "awaiting_response")?.by_the_primary()?;
        let died = worker_died(&gaia.core, pid, how, status, Killer::NoSender);
        Ok(vec![died.role("primary").breaking(broken)])
    }
}

fn idle_worker_killed(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.server(stage.recipe("core"), "core", &["fork", "--workers", "2"])?;
    let children = format!("/proc/{0}/task/{0}/children", server.pid);
    let pid = crate::wait::until("gunicorn's workers", Duration::from_secs(20), || {
        let found: Vec<u32> =
            std::fs::read_to_string(&children)?.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        Ok((found.len() == 2).then(|| found.first().copied()).flatten())
    })?;
    server.signal_from_host(pid, Signal::SIGKILL)?;
    let killer = Killer::Host(std::process::id());
    Ok(vec![worker_died(&server, pid, "process_killed", ExitStatus::SIGKILL, killer)])
}

fn all_workers_killed(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.server(stage.recipe("core"), "core", &["http", "--workers", "2"])?;
    let workers = server.listening(2)?;
    let pids = workers.iter().map(|&inner| server.host_pid(inner)).collect::<Result<Vec<_>>>()?;
    for &pid in &pids {
        server.signal_from_host(pid, Signal::SIGKILL)?;
    }
    server.listening(4)?;
    // Which of the two went first is the scheduler's choice.
    let ends = pids.iter().map(|&pid| Ok((stage.witness.exit_of(pid, stage.began, RECORD_LIMIT)?.0, pid)));
    let (_, first) = ends.collect::<Result<Vec<_>>>()?.into_iter().min().context("two workers")?;
    let killer = Killer::Host(std::process::id());
    Ok(vec![worker_died(&server, first, "process_killed", ExitStatus::SIGKILL, killer).times(2)])
}

fn gunicorn_worker_timeout(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.server(stage.recipe("core"), "core", &["fork", "--workers", "2", "--patience", "1"])?;
    server.listening(1)?;
    let client = stage.client("web")?;
    let request = client.send(Request::get(&server.url("/slow?seconds=60")))?;
    let outcomes = client.ended(&request)?;
    ensure!(outcomes.iter().all(|outcome| outcome.status == Some(500)), "{outcomes:?}");
    Ok(vec![])
}

fn gunicorn_reload(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.server(stage.recipe("core"), "core", &["fork", "--workers", "2"])?;
    server.listening(1)?;
    let client = stage.client("web")?;
    client.ask_well(Request::get(&server.url("/")).session("kept"))?;
    let children = format!("/proc/{0}/task/{0}/children", server.pid);
    let workers = || -> Result<Vec<String>> {
        Ok(std::fs::read_to_string(&children)?.split_whitespace().map(str::to_owned).collect())
    };
    let before = workers()?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=2")))?;
    server.container.kill("HUP")?;
    crate::wait::until("gunicorn's new workers", Duration::from_secs(20), || {
        let now = workers()?;
        Ok((now.len() == 2 && now.iter().all(|worker| !before.contains(worker))).then_some(()))
    })?;
    let outcomes = client.ended(&request)?;
    ensure!(outcomes.iter().all(|outcome| outcome.status == Some(200)), "{outcomes:?}");
    client.ask_well(Request::get(&server.url("/")))?;
    Ok(vec![])
}

fn killed_by_parent(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.server(stage.recipe("core"), "core", &["front", "--then", "http"])?;
    let child = server.host_pid(server.listening(1)?.into_iter().next().unwrap_or_default())?;
    let client = stage.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    server.signal_from_host(server.pid, Signal::SIGUSR1)?;
    let broken = broken(&client, &server.container, client.ended(&request)?, NO_RESPONSE, "awaiting_response")?;
    let killer = Killer::Inside(server.container.name().to_owned(), server.pid);
    let died = worker_died(&server, child, "process_killed", ExitStatus::SIGKILL, killer);
    Ok(vec![died.under("not_listening", Until::Lasting).breaking(broken)])
}
