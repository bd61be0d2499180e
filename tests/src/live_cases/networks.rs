//! Paths between client and server other than one connection over the usual IPv4 bridge.

use anyhow::Result;
use std::net::IpAddr;

use crate::client::Request;
use crate::container::Container;
use crate::docker::docker;
use crate::expect::{Broken, Expected, Killer, Moment, NO_RESPONSE, REFUSED, Until, broken, unseen};
use crate::live_case::{LiveCase, live_case};
use crate::stage::Stage;
use crate::witness::ExitStatus;
use nix::sys::signal::Signal;

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case("ipv6", "a death over IPv6 is reported as over IPv4", ipv6),
        live_case(
            "served-over-other-family",
            "a name with two addresses, one that refuses and one that serves, is silent",
            answered_over_the_other_family,
        ),
        live_case(
            "served-at-other-address",
            "a name of two containers, one that refuses and one that serves, is silent",
            served_at_the_other_address,
        ),
        live_case("chain-refused", "a client behind a live server whose own connect is refused", chain_refused),
        live_case("chain", "a client behind a live server is affected by the death behind that server", chain),
    ]
}

fn ipv6(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.server(stage.recipe("core"), "core", &["http", "--host", "::"])?;
    let client = stage.client("web")?;
    let network = dual_stack(stage, [&server.container, &client.container])?;
    let template = format!("{{{{(index .NetworkSettings.Networks {network:?}).GlobalIPv6Address}}}}");
    let ip: IpAddr = server.container.inspect(&template)?.parse()?;
    let request = Request::get(&format!("http://[{ip}]:{}/slow?seconds=60", stage.port));
    let request = server.holds(&client, "/slow", request)?;
    server.signal_from_host(server.pid, Signal::SIGKILL)?;
    let outcomes = client.ended(&request)?;
    anyhow::ensure!(outcomes.iter().all(|outcome| outcome.local.is_some_and(|(ip, _)| ip.is_ipv6())), "{outcomes:?}");
    let broken = broken(&client, &server.container, outcomes, NO_RESPONSE, "awaiting_response")?;
    let killed = Expected::death("process_killed", &server.container, server.pid, ExitStatus::SIGKILL);
    Ok(vec![killed.by(Killer::Host(std::process::id())).breaking(broken)])
}

/// A further network, with IPv6, for both.
fn dual_stack(stage: &Stage, members: [&Container; 2]) -> Result<String> {
    let network = format!("{}-v6", stage.stack.project());
    // A unique local prefix (RFC 4193) of this case's own.
    let subnet = format!("fd67:6169:{:x}:{:x}::/64", std::process::id() & 0xffff, stage.port);
    let labels = stage.stack.run().labels();
    let create = ["network", "create", "--ipv6", "--subnet", &subnet, "--label", &labels[0], "--label", &labels[1]];
    docker(create.into_iter().chain([network.as_str()]))?;
    for container in members {
        docker(["network", "connect", &network, container.name()])?;
    }
    Ok(network)
}

/// Docker's resolver gives both addresses in changing order.
fn served_at_the_other_address(stage: &Stage) -> Result<Vec<Expected>> {
    stage.server(stage.recipe("core").alias("both"), "core", &["http"])?;
    stage.server_that_starts(stage.recipe("other").alias("both"), "other", &["http", "--delay", "600"])?;
    let client = stage.client("web")?;
    for _ in 0..12 {
        client.ask_well(Request::get(&format!("http://both:{}/ok", stage.port)))?;
    }
    Ok(vec![])
}

/// It listens on IPv4 alone, and its client tries IPv6 first (RFC 8305).
fn answered_over_the_other_family(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.server(stage.recipe("core"), "core", &["http", "--host", "0.0.0.0"])?;
    let client = stage.client("web")?;
    dual_stack(stage, [&server.container, &client.container])?;
    let url = format!("http://{}:{}/", server.container.name(), stage.port);
    client.ask_well(Request::get(&url))?;
    Ok(vec![])
}

fn chain_refused(stage: &Stage) -> Result<Vec<Expected>> {
    let core = stage.server_that_starts(stage.recipe("core"), "core", &["http", "--delay", "600"])?;
    let backend = format!("core:{}", stage.port);
    let middle = stage.server(stage.recipe("middle"), "middle", &["proxy", "--to", &backend])?;
    let client = stage.client("web")?;
    let outcomes = client.ask(Request::get(&middle.url("/ok")))?;
    let own = unseen(&middle.container, &core.container, REFUSED, "connecting");
    let behind = broken(&client, &core.container, outcomes, NO_RESPONSE, "awaiting_response")?;
    let behind = behind.into_iter().map(|broken| Broken { listen: Some(middle.address), ..broken });
    let closed = Expected::living("not_listening", &core.container, None, Moment::Refused(core.address));
    let closed = closed.under("not_listening", Until::Lasting);
    Ok(vec![closed.breaking(vec![own]).breaking(behind.collect())])
}

fn chain(stage: &Stage) -> Result<Vec<Expected>> {
    let core = stage.uvicorn("core")?;
    let backend = format!("core:{}", stage.port);
    let middle = stage.server(stage.recipe("middle"), "middle", &["proxy", "--to", &backend])?;
    let client = stage.client("web")?;
    let request = middle.holds(&client, "/slow", Request::get(&middle.url("/slow?seconds=60")))?;
    core.entered("/slow", 1)?;
    core.signal_from_host(core.pid, Signal::SIGKILL)?;
    let outcomes = client.ended(&request)?;
    let own = unseen(&middle.container, &core.container, NO_RESPONSE, "awaiting_response");
    let behind = broken(&client, &core.container, outcomes, NO_RESPONSE, "awaiting_response")?;
    let behind = behind.into_iter().map(|broken| Broken { listen: Some(middle.address), ..broken });
    let killed = Expected::death("process_killed", &core.container, core.pid, ExitStatus::SIGKILL);
    Ok(vec![killed.by(Killer::Host(std::process::id())).breaking(vec![own]).breaking(behind.collect())])
}
