//! Ways between client and server other than one connection over the usual IPv4 bridge.

use std::net::IpAddr;

use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::docker::docker;
use gaia_monitor_tests::expect::{Broken, Expected, Killer, NO_RESPONSE, broken, unseen};
use gaia_monitor_tests::instrument::ExitStatus;
use gaia_monitor_tests::play::live;
use nix::sys::signal::Signal;

#[test]
fn a_death_over_ipv6_is_pinned_as_over_ipv4() {
    live("ipv6", &[], |case| {
        let server = case.server(case.recipe("core"), "core", &["http", "--host", "::"])?;
        let client = case.client("web")?;
        let network = format!("{}-v6", case.stack.project());
        // A unique local prefix (RFC 4193) of this case's own.
        let subnet = format!("fd67:6169:{:x}:{:x}::/64", std::process::id() & 0xffff, case.port);
        let labels = case.stack.run().labels();
        let create = ["network", "create", "--ipv6", "--subnet", &subnet, "--label", &labels[0], "--label", &labels[1]];
        docker(create.into_iter().chain([network.as_str()]))?;
        for container in [&server.container, &client.container] {
            docker(["network", "connect", &network, container.name()])?;
        }
        let template = format!("{{{{(index .NetworkSettings.Networks {network:?}).GlobalIPv6Address}}}}");
        let ip: IpAddr = server.container.inspect(&template)?.parse()?;
        let request = Request::get(&format!("http://[{ip}]:{}/slow?seconds=60", case.port));
        let request = server.holds(&client, "/slow", request)?;
        server.signal_from_host(server.pid, Signal::SIGKILL)?;
        let outcomes = client.ended(&request)?;
        anyhow::ensure!(
            outcomes.iter().all(|outcome| outcome.local.is_some_and(|(ip, _)| ip.is_ipv6())),
            "{outcomes:?}"
        );
        let broken = broken(&client, &server.container, outcomes, NO_RESPONSE, "awaiting_response")?;
        let killed = Expected::death("process_killed", &server.container, server.pid, ExitStatus::Signal(9));
        Ok(vec![killed.by(Killer::Host(std::process::id())).breaking(broken)])
    });
}

#[test]
fn a_client_behind_a_living_server_is_affected_by_the_death_behind_that_server() {
    live("chain", &[], |case| {
        let core = case.uvicorn("core")?;
        let backend = format!("core:{}", case.port);
        let middle = case.server(case.recipe("middle"), "middle", &["proxy", "--to", &backend])?;
        let client = case.client("web")?;
        let request = middle.holds(&client, "/slow", Request::get(&middle.url("/slow?seconds=60")))?;
        core.entered("/slow", 1)?;
        core.signal_from_host(core.pid, Signal::SIGKILL)?;
        let outcomes = client.ended(&request)?;
        let own = unseen(&middle.container, &core.container, NO_RESPONSE, "awaiting_response");
        let behind = broken(&client, &core.container, outcomes, NO_RESPONSE, "awaiting_response")?;
        let behind = behind.into_iter().map(|broken| Broken { listen: Some(middle.address), ..broken });
        let killed = Expected::death("process_killed", &core.container, core.pid, ExitStatus::Signal(9));
        Ok(vec![killed.by(Killer::Host(std::process::id())).breaking(vec![own]).breaking(behind.collect())])
    });
}
