//! Where a server's process stands: below a shell, on the host's network, in another container's namespaces.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::case::{Case, Server};
use crate::client::{Client, Pending, Request};
use crate::expect::{Expected, Killer, NO_RESPONSE, broken};
use crate::instrument::ExitStatus;
use crate::row::{Row, row};

pub fn rows() -> Vec<Row> {
    vec![
        row(
            "kill-under-shell",
            "a server below a shell that ends with it is the one that was killed",
            kill_under_shell,
        ),
        row("exit-under-shell", "a server below a shell that ends with it is the one that exited", exit_under_shell),
        row(
            "killed-by-neighbour",
            "a kill from another container in the same pid namespace names it",
            killed_by_neighbour,
        ),
        row("shared-network", "a server in another container's network is told from its host", shared_network),
        row("host-network", "a death on the host's network is pinned as on a bridge", host_network),
    ]
}

/// The process that stands for the server is killed while it works on this request.
fn killed_from_the_host(server: &Server, pid: u32, client: &Client, request: &Pending) -> Result<Vec<Expected>> {
    server.signal_from_host(pid, Signal::SIGKILL)?;
    let broken = broken(client, &server.container, client.ended(request)?, NO_RESPONSE, "awaiting_response")?;
    let killed = Expected::death("process_killed", &server.container, pid, ExitStatus::Signal(9));
    Ok(vec![killed.by(Killer::Host(std::process::id())).breaking(broken)])
}

fn kill_under_shell(case: &Case) -> Result<Vec<Expected>> {
    let server = case.server(case.recipe("core"), "core", &["shell", "--then", "http"])?;
    let child = server.host_pid(server.listening(1)?.into_iter().next().context("a server")?)?;
    let client = case.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    killed_from_the_host(&server, child, &client, &request)
}

fn exit_under_shell(case: &Case) -> Result<Vec<Expected>> {
    let server = case.server(case.recipe("core"), "core", &["shell", "--then", "http"])?;
    let child = server.host_pid(server.listening(1)?.into_iter().next().context("a server")?)?;
    let client = case.client("web")?;
    let outcomes = client.ask(Request::get(&server.url("/exit?code=3")))?;
    let broken = broken(&client, &server.container, outcomes, NO_RESPONSE, "awaiting_response")?;
    Ok(vec![Expected::death("process_exited", &server.container, child, ExitStatus::Code(3)).breaking(broken)])
}

fn killed_by_neighbour(case: &Case) -> Result<Vec<Expected>> {
    let server = case.uvicorn("core")?;
    let client = case.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    // From inside, a first process takes no SIGKILL: a child of its namespace's would not do.
    let neighbour = case.recipe("doctor").option("--pid", "host");
    let neighbour = neighbour.start(&["sleep", "600"])?;
    neighbour.exec(&["sh", "-c", &format!("kill -KILL {}", server.pid)])?;
    let broken = broken(&client, &server.container, client.ended(&request)?, NO_RESPONSE, "awaiting_response")?;
    let killed = Expected::death("process_killed", &server.container, server.pid, ExitStatus::Signal(9));
    Ok(vec![killed.by(Killer::Somebody(neighbour.name().to_owned())).breaking(broken)])
}

fn shared_network(case: &Case) -> Result<Vec<Expected>> {
    // The pod: it has the network and serves nothing.
    let pod = case.recipe("pod").alias("core").start(&["sleep", "600"])?;
    let recipe = case.recipe("core").network(&format!("container:{}", pod.name()));
    let server = case.server_at(recipe, "core", &["http"], pod.ip()?.parse().context("the pod's address")?)?;
    server.listening(1)?;
    let client = case.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    killed_from_the_host(&server, server.pid, &client, &request)
}

fn host_network(case: &Case) -> Result<Vec<Expected>> {
    let client = case.client("web")?;
    let gateway = format!("{{{{(index .NetworkSettings.Networks {:?}).Gateway}}}}", case.stack.network().name());
    let gateway = client.container.inspect(&gateway)?.trim().parse().context("the bridge's own address")?;
    let server = case.server_at(case.recipe("core").network("host"), "core", &["http"], gateway)?;
    server.listening(1)?;
    let address = SocketAddr::new(gateway, case.port);
    let request = Request::get(&format!("http://{address}/slow?seconds=60"));
    let request = server.holds(&client, "/slow", request)?;
    killed_from_the_host(&server, server.pid, &client, &request)
}
