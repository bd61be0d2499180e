//! A request from the host through docker-proxy, the operator's own first step.

use std::net::{Ipv4Addr, SocketAddr};

use gaia_monitor_tests::client::HostRequest;
use gaia_monitor_tests::expect::{Expected, Killer, Moment, NO_RESPONSE, RESET_AFTER_FIN, Until, broken_on_host};
use gaia_monitor_tests::instrument::ExitStatus;
use gaia_monitor_tests::play::live;

#[test]
fn a_request_from_the_host_through_docker_proxy_is_one_entry() {
    live("published-port-killed", &[], |case| {
        let server = case.server(case.recipe("core").publish(case.port), "core", &["http"])?;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, server.container.published_port(case.port)?));
        let request = HostRequest::send(listen, "/slow?seconds=60")?;
        server.entered("/slow", 1)?;
        server.container.kill("KILL")?;
        let broken = broken_on_host(&server.container, listen, request.ended()?, NO_RESPONSE, "awaiting_response")?;
        let killed = Expected::death("container_killed", &server.container, server.pid, ExitStatus::Signal(9));
        Ok(vec![killed.by(Killer::Docker("docker kill")).breaking(vec![broken])])
    });
}

#[test]
fn a_published_port_with_nothing_behind_it_is_an_unreachable_backend() {
    live("published-port-dead-backend", &[], |case| {
        let recipe = case.recipe("core").publish(case.port);
        let server = case.server_that_starts(recipe, "core", &["http", "--delay", "600"])?;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, server.container.published_port(case.port)?));
        let request = HostRequest::send_after_fin(listen, "/ok")?;
        let broken = broken_on_host(&server.container, listen, request.ended()?, RESET_AFTER_FIN, "awaiting_response")?;
        let moment = Moment::Refused(server.address);
        let unreachable = Expected::living("backend_unreachable", &server.container, None, moment);
        Ok(vec![unreachable.under("not_listening", Until::Lasting).breaking(vec![broken])])
    });
}
