//! Placements of a server's process: below a shell, on the host's network, in another container's namespaces.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::client::{Client, Pending, Request};
use crate::expect::{Expected, Killer, NO_RESPONSE, broken};
use crate::live_case::{LiveCase, live_case};
use crate::stage::{Server, Stage};
use crate::witness::ExitStatus;

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case(
            "kill-under-shell",
            "a server below a shell that ends with it is the one that was killed",
            kill_under_shell,
        ),
        live_case(
            "exit-under-shell",
            "a server below a shell that ends with it is the one that exited",
            exit_under_shell,
        ),
        live_case(
            "killed-by-neighbour",
            "a kill from another container in the same pid namespace names it",
            killed_by_neighbour,
        ),
        live_case(
            "shared-network",
            "a server in another container's network is distinguished from that container",
            shared_network,
        ),
        live_case("host-network", "a death on the host's network is reported as on a bridge", host_network),
    ]
}

/// The process that represents the server is killed while it works on this request.
fn killed_from_the_host(server: &Server, pid: u32, client: &Client, request: &Pending) -> Result<Vec<Expected>> {
    server.signal_from_host(pid, Signal::SIGKILL)?;
    let broken = broken(client, &server.container, client.ended(request)?, NO_RESPONSE, "awaiting_response")?;
    let killed = Expected::death("process_killed", &server.container, pid, ExitStatus::SIGKILL);
    Ok(vec![killed.by(Killer::Host(std::process::id())).breaking(broken)])
}

fn kill_under_shell(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.server(stage.recipe("core"), "core", &["shell", "--then", "http"])?;
    let child = server.host_pid(server.listening(1)?.into_iter().next().context("a server")?)?;
    let client = stage.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    killed_from_the_host(&server, child, &client, &request)
}

fn exit_under_shell(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.server(stage.recipe("core"), "core", &["shell", "--then", "http"])?;
    let child = server.host_pid(server.listening(1)?.into_iter().next().context("a server")?)?;
    let client = stage.client("web")?;
    let outcomes = client.ask(Request::get(&server.url("/exit?code=3")))?;
    let broken = broken(&client, &server.container, outcomes, NO_RESPONSE, "awaiting_response")?;
    Ok(vec![Expected::death("process_exited", &server.container, child, ExitStatus::Code(3)).breaking(broken)])
}

fn killed_by_neighbour(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    // From inside, a first process takes no SIGKILL: a child of its namespace's would not do.
    let neighbour = stage.recipe("doctor").option("--pid", "host");
    let neighbour = neighbour.start(&["sleep", "600"])?;
    neighbour.exec(&["sh", "-c", &format!("kill -KILL {}", server.pid)])?;
    let broken = broken(&client, &server.container, client.ended(&request)?, NO_RESPONSE, "awaiting_response")?;
    let killed = Expected::death("process_killed", &server.container, server.pid, ExitStatus::SIGKILL);
    Ok(vec![killed.by(Killer::Container(neighbour.name().to_owned())).breaking(broken)])
}

fn shared_network(stage: &Stage) -> Result<Vec<Expected>> {
    // The pod: it has the network and serves nothing.
    let pod = stage.recipe("pod").alias("core").start(&["sleep", "600"])?;
    let recipe = stage.recipe("core").network(&format!("container:{}", pod.name()));
    let server = stage.server_at(recipe, "core", &["http"], pod.ip()?.parse().context("the pod's address")?)?;
    server.listening(1)?;
    let client = stage.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    killed_from_the_host(&server, server.pid, &client, &request)
}

fn host_network(stage: &Stage) -> Result<Vec<Expected>> {
    let client = stage.client("web")?;
    let gateway = format!("{{{{(index .NetworkSettings.Networks {:?}).Gateway}}}}", stage.stack.network().name());
    let gateway = client.container.inspect(&gateway)?.trim().parse().context("the bridge's own address")?;
    let server = stage.server_at(stage.recipe("core").network("host"), "core", &["http"], gateway)?;
    server.listening(1)?;
    let address = SocketAddr::new(gateway, stage.port);
    let request = Request::get(&format!("http://{address}/slow?seconds=60"));
    let request = server.holds(&client, "/slow", request)?;
    killed_from_the_host(&server, server.pid, &client, &request)
}
