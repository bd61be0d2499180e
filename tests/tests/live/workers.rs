//! Processes below the first one: workers, a child that its parent kills, the child of an init.

use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::expect::{Expected, Killer, Moment, NO_RESPONSE, Until, broken};
use gaia_monitor_tests::instrument::ExitStatus;
use gaia_monitor_tests::play::live;
use nix::sys::signal::Signal;

/// `worker_died` of the worker with this pid of the host; the port stays open.
fn worker_died(
    server: &gaia_monitor_tests::case::Server,
    pid: u32,
    how: &'static str,
    end: ExitStatus,
    killer: Killer,
) -> Expected {
    let death = Expected::death("worker_died", &server.container, pid, end).by(killer);
    Expected { how: Some(how), condition: None, ..death }
}

fn killed_worker(name: &str, mode: &'static str, listening: usize) {
    live(name, &[], |case| {
        let server = case.server(case.recipe("core"), "core", &[mode, "--workers", "2"])?;
        server.listening(listening)?;
        let client = case.client("web")?;
        let request = client.send(Request::get(&server.url("/slow?seconds=60")))?;
        let inner = server.entered("/slow", 1)?.into_iter().next().unwrap_or_default();
        let pid = server.host_pid(inner)?;
        server.signal_from_host(pid, Signal::SIGKILL)?;
        let broken = broken(&client, &server.container, client.ended(&request)?, NO_RESPONSE, "awaiting_response")?;
        let killer = Killer::Host(std::process::id());
        Ok(vec![worker_died(&server, pid, "process_killed", ExitStatus::Signal(9), killer).breaking(broken)])
    });
}

#[test]
fn a_killed_worker_of_uvicorn_is_told_while_its_parent_lives() {
    // Each of the two workers says that it listens.
    killed_worker("uvicorn-worker-killed", "http", 2);
}

#[test]
fn a_killed_worker_of_a_preforking_gunicorn_is_told_while_its_arbiter_lives() {
    killed_worker("gunicorn-worker-killed", "fork", 1);
}

#[test]
fn a_worker_that_crashes_is_told_with_how() {
    live("uvicorn-worker-crashed", &[], |case| {
        let server = case.server(case.recipe("core"), "core", &["http", "--workers", "2"])?;
        let workers = server.listening(2)?;
        let client = case.client("web")?;
        let pids =
            workers.iter().map(|&inner| Ok((inner, server.host_pid(inner)?))).collect::<anyhow::Result<Vec<_>>>()?;
        let request = client.send(Request::get(&server.url("/segv")))?;
        let inner = server.entered("/segv", 1)?.into_iter().next().unwrap_or_default();
        let pid = pids.iter().find(|(known, _)| *known == inner).map(|(_, pid)| *pid).unwrap_or_default();
        let broken = broken(&client, &server.container, client.ended(&request)?, NO_RESPONSE, "awaiting_response")?;
        let end = ExitStatus::Signal(11);
        Ok(vec![worker_died(&server, pid, "process_crashed", end, Killer::Nobody).breaking(broken)])
    });
}

#[test]
fn a_child_killed_by_its_parent_names_the_parent() {
    live("killed-by-parent", &[], |case| {
        let server = case.server(case.recipe("core"), "core", &["front", "--then", "http"])?;
        let child = server.host_pid(server.listening(1)?.into_iter().next().unwrap_or_default())?;
        let client = case.client("web")?;
        let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
        server.signal_from_host(server.pid, Signal::SIGUSR1)?;
        let broken = broken(&client, &server.container, client.ended(&request)?, NO_RESPONSE, "awaiting_response")?;
        let killer = Killer::Inside(server.container.name().to_owned(), server.pid);
        let died = worker_died(&server, child, "process_killed", ExitStatus::Signal(9), killer);
        Ok(vec![died.under("not_listening", Until::Lasting).breaking(broken)])
    });
}

#[test]
fn under_an_init_its_only_child_is_the_first_process() {
    live("abort-under-init", &[], |case| {
        let server = case.server(case.recipe("core").init(), "core", &["http"])?;
        let child = server.host_pid(server.listening(1)?.into_iter().next().unwrap_or_default())?;
        let client = case.client("web")?;
        let request = server.holds(&client, "/abort", Request::get(&server.url("/abort")))?;
        let broken = broken(&client, &server.container, client.ended(&request)?, NO_RESPONSE, "awaiting_response")?;
        let crashed = Expected::death("process_crashed", &server.container, child, ExitStatus::Signal(6));
        Ok(vec![Expected { moment: Moment::Exit(child), ..crashed }.breaking(broken)])
    });
}

#[test]
fn a_kill_by_docker_under_an_init_is_pinned_to_the_child() {
    live("docker-kill-under-init", &[], |case| {
        let server = case.server(case.recipe("core").init(), "core", &["http"])?;
        let child = server.host_pid(server.listening(1)?.into_iter().next().unwrap_or_default())?;
        let client = case.client("web")?;
        let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
        server.container.kill("KILL")?;
        let broken = broken(&client, &server.container, client.ended(&request)?, NO_RESPONSE, "awaiting_response")?;
        // Docker signals the init; the kernel ends the rest of its namespace with it.
        let killed = Expected::death("container_killed", &server.container, child, ExitStatus::Signal(9));
        Ok(vec![killed.by(Killer::Docker("docker kill")).breaking(broken)])
    });
}
