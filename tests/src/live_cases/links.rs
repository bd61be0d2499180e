//! Containers that are disconnected while every process is alive: by Docker's disconnect, a veth or a bridge.

use crate::client::{Client, Pending, Request};
use crate::container::Container;
use crate::docker::docker;
use crate::expect::{Broken, Expected, Moment, NO_DATA, UNREACHABLE, Until, broken};
use crate::interfaces::{Interface, Monitor, is_down, is_removal, is_set_up, is_up, set_inside};
use crate::live_case::{LiveCase, live_case};
use crate::stage::{Server, Stage};
use crate::witness::now;
use anyhow::Result;
use serde_json::json;

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case(
            "disconnect-mid-request",
            "a disconnect in the middle of a request is dated by the removed interface",
            disconnected(false),
        ),
        live_case(
            "disconnect-mid-stream",
            "a disconnect in the middle of a response is dated by the removed interface",
            disconnected(true),
        ),
        live_case(
            "client-disconnected",
            "a client that is disconnected from its server is the subject",
            client_disconnected,
        ),
        live_case(
            "response-to-disconnected-client",
            "a response that is sent to a disconnected client has not arrived",
            answered_to_a_disconnected_client,
        ),
        live_case(
            "response-while-link-down",
            "a response that is sent while the link is down is still outstanding",
            answered_into_a_dead_link,
        ),
        live_case("disconnect-idle", "a disconnect that breaks nothing is silent", disconnect_idle),
        live_case("veth-down", "a veth that is set down disconnects its container until it is up", veth_down),
        live_case("interface-down", "the same for its own end, set down inside the container", interface_down),
        live_case("veth-deleted", "a veth that is deleted by hand is no disconnect by Docker", veth_deleted),
        live_case("bridge-down", "a bridge that goes down is one incident for all behind it", bridge_down),
    ]
}

/// A request that is being processed, or has half of its response, when the link goes down.
fn stuck(server: &Server, client: &Client, streams: bool) -> Result<(Pending, &'static str)> {
    if !streams {
        let request = Request::get(&server.url("/slow?seconds=60")).read_timeout(2.0);
        return Ok((server.holds(client, "/slow", request)?, "awaiting_response"));
    }
    let request = client.send(Request::get(&server.url("/length?seconds=60")).read_timeout(2.0))?;
    client.begun(&request)?;
    Ok((request, "receiving_body"))
}

fn ended(client: &Client, server: &Server, (request, phase): (Pending, &'static str)) -> Result<Vec<Broken>> {
    broken(client, &server.container, client.ended(&request)?, NO_DATA, phase)
}

/// Docker takes a container off the network while the request is under way, and puts it back when its client has given up.
fn taken_off(
    stage: &Stage,
    container: &Container,
    (server, client): (&Server, &Client),
    request: (Pending, &'static str),
) -> Result<Vec<Expected>> {
    let witness = Monitor::in_container(container)?;
    let network = stage.stack.network().name();
    let before = now();
    docker(["network", "disconnect", network, container.id()])?;
    let broken = ended(client, server, request)?;
    let at = witness.saw("the removed interface", before, is_removal)?;
    let before = now();
    docker(["network", "connect", network, container.id()])?;
    let back = witness.saw("the interface that is back", before, |line| is_up(line, "eth1"))?;
    let moment = Moment::Link { fact: "link_removed", at };
    let incident = Expected::living("network_disconnected", container, None, moment);
    Ok(vec![incident.under("detached", Until::Link(back)).breaking(broken)])
}

/// The server's veth is removed for good while the request is under way.
fn veth_lost(
    stage: &Stage,
    (server, client): (&Server, &Client),
    request: (Pending, &'static str),
    cut: impl Fn(&Interface) -> Result<()>,
) -> Result<Vec<Expected>> {
    let veth = Interface::veth(&stage.stack, &server.container)?;
    let host = Monitor::on_host()?;
    let before = now();
    cut(&veth)?;
    let broken = ended(client, server, request)?;
    let at = host.saw("the end that is down", before, |line| is_down(line, veth.name()))?;
    let moment = Moment::Link { fact: "link_down", at };
    let incident = Expected::living("link_down", &server.container, None, moment);
    Ok(vec![incident.under("link_down", Until::Lasting).breaking(broken)])
}

fn disconnected(streams: bool) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let server = stage.uvicorn("core")?;
        let client = stage.client("web")?;
        let request = stuck(&server, &client, streams)?;
        taken_off(stage, &server.container, (&server, &client), request)
    }
}

fn client_disconnected(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = stuck(&server, &client, false)?;
    taken_off(stage, &client.container, (&server, &client), request)
}

/// A request whose response is sent after the link was cut, and before the client times out.
fn answered_meanwhile(server: &Server, client: &Client) -> Result<(Pending, &'static str)> {
    let request = Request::get(&server.url("/slow?seconds=1.5")).read_timeout(4.0);
    Ok((server.holds(client, "/slow", request)?, "awaiting_response"))
}

fn answered_to_a_disconnected_client(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = answered_meanwhile(&server, &client)?;
    taken_off(stage, &client.container, (&server, &client), request)
}

fn answered_into_a_dead_link(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = answered_meanwhile(&server, &client)?;
    veth_lost(stage, (&server, &client), request, |veth| veth.set(&["down"]))
}

fn disconnect_idle(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    client.ask_well(Request::get(&server.url("/")).session("kept"))?;
    let network = stage.stack.network().name();
    docker(["network", "disconnect", network, server.container.id()])?;
    docker(["network", "connect", "--alias", "core", network, server.container.id()])?;
    client.ask_well(Request::get(&server.url("/")))?;
    Ok(Vec::new())
}

fn veth_down(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let veth = Interface::veth(&stage.stack, &server.container)?;
    let request = stuck(&server, &client, false)?;
    let (host, inside) = (Monitor::on_host()?, Monitor::in_container(&server.container)?);
    let before = now();
    veth.set(&["down"])?;
    let broken = ended(&client, &server, request)?;
    let at = host.saw("the end that is down", before, |line| is_down(line, veth.name()))?;
    let before = now();
    veth.set(&["up"])?;
    let up = inside.saw("the carrier", before, |line| is_up(line, "eth0"))?;
    let moment = Moment::Link { fact: "link_down", at };
    let incident = Expected::living("link_down", &server.container, None, moment);
    Ok(vec![incident.under("link_down", Until::Link(up)).breaking(broken)])
}

fn interface_down(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = stuck(&server, &client, false)?;
    let inside = Monitor::in_container(&server.container)?;
    let before = now();
    set_inside(&server.container, &["down"])?;
    let broken = ended(&client, &server, request)?;
    let at = inside.saw("the interface that is down", before, |line| is_down(line, "eth0"))?;
    let before = now();
    set_inside(&server.container, &["up"])?;
    let up = inside.saw("the carrier", before, |line| is_up(line, "eth0"))?;
    let moment = Moment::Link { fact: "link_down", at };
    let incident = Expected::living("link_down", &server.container, None, moment);
    Ok(vec![incident.under("link_down", Until::Link(up)).breaking(broken)])
}

fn veth_deleted(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = stuck(&server, &client, true)?;
    veth_lost(stage, (&server, &client), request, Interface::delete)
}

fn bridge_down(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let other = stage.uvicorn("mcp")?;
    let client = stage.client("web")?;
    let bridge = Interface::bridge(&stage.stack)?;
    let first = stuck(&server, &client, false)?;
    let second = stuck(&server, &client, true)?;
    let host = Monitor::on_host()?;
    let before = now();
    bridge.set(&["down"])?;
    let mut all = ended(&client, &server, first)?;
    all.extend(ended(&client, &server, second)?);
    // The client's kernel has never resolved this address, and now the neighbour does not respond.
    let url = format!("http://{}/", other.address);
    let outcomes = client.ask(Request::get(&url).with("timeout", json!({ "connect": 10.0 })))?;
    all.extend(broken(&client, &other.container, outcomes, UNREACHABLE, "connecting")?);
    let at = host.saw("the bridge that is down", before, |line| is_down(line, bridge.name()))?;
    let before = now();
    bridge.set(&["up"])?;
    let up = host.saw("the bridge that is up", before, |line| is_set_up(line, bridge.name()))?;
    let moment = Moment::Link { fact: "link_down", at };
    let incident = Expected::bridge(&server.container, moment);
    Ok(vec![incident.under("link_down", Until::Link(up)).breaking(all)])
}
