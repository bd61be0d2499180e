//! Packet filters in a container's namespace and on the host, before a connect, in a request and in the middle of an answer.

use anyhow::{Context, Result};
use gaia_monitor_tests::case::{Case, Server};
use gaia_monitor_tests::client::{Client, HostRequest, Request};
use gaia_monitor_tests::expect::{
    Break, Expected, Moment, NO_DATA, REFUSED, RESET, SYN_TIMEOUT, UNREACHABLE, Until, broken, broken_on_host,
};
use gaia_monitor_tests::firewall::{Place, Rule, between};
use gaia_monitor_tests::instrument::now;
use gaia_monitor_tests::play::live;

/// A server and its client, each in a container.
fn two(case: &Case) -> Result<(Server, Client)> {
    Ok((case.uvicorn("core")?, case.client("web")?))
}

/// A rule in the server's own namespace for packets to or from its port.
fn rule(case: &Case, server: &Server, chain: &str, target: &[&str]) -> Result<Rule> {
    let port = case.port.to_string();
    let side = if chain == "INPUT" { "--dport" } else { "--sport" };
    let matches: Vec<&str> = ["-p", "tcp", side, &port].into_iter().chain(target.iter().copied()).collect();
    Rule::iptables(&case.stack, Place::Container(server.pid), chain, &matches)
}

fn filtered(kind: &'static str, server: &Server) -> Expected {
    let filtered = Expected::living(kind, &server.container, Some(server.pid), Moment::Filtered(server.address));
    filtered.under("filtered", Until::Lasting)
}

/// Plays a connect that a rule keeps from its server.
fn before_the_connect(name: &str, target: &'static [&str], kind: &'static str, how: Break) {
    live(name, &[], |case| {
        let (server, client) = two(case)?;
        let _rule = rule(case, &server, "INPUT", target)?;
        let outcomes = client.ask(Request::get(&server.url("/ok")).connect_timeout(2.5))?;
        let broken = broken(&client, &server.container, outcomes, how, "connecting")?;
        Ok(vec![filtered(kind, &server).breaking(broken)])
    });
}

/// Asks for a stream of ten seconds and waits for its beginning.
fn streaming(server: &Server, client: &Client) -> Result<gaia_monitor_tests::client::Pending> {
    let url = server.url("/stream?chunks=200&pause=0.05");
    let pending = server.holds(client, "/stream", Request::get(&url).read_timeout(2.0))?;
    client.begun(&pending)?;
    Ok(pending)
}

#[test]
fn a_syn_that_is_dropped_is_a_packet_dropped() {
    before_the_connect("drop-before-connect", &["-j", "DROP"], "packet_dropped", SYN_TIMEOUT);
}

#[test]
fn a_syn_that_is_reset_by_a_filter_is_a_packet_rejected() {
    let target = &["-j", "REJECT", "--reject-with", "tcp-reset"];
    before_the_connect("reset-before-connect", target, "packet_rejected", REFUSED);
}

#[test]
fn a_syn_that_is_refused_by_icmp_is_told_from_a_closed_port() {
    before_the_connect("icmp-before-connect", &["-j", "REJECT"], "packet_rejected", REFUSED);
}

#[test]
fn a_prohibited_host_is_a_packet_rejected() {
    let target = &["-j", "REJECT", "--reject-with", "icmp-host-prohibited"];
    before_the_connect("prohibited-before-connect", target, "packet_rejected", UNREACHABLE);
}

#[test]
fn a_rule_of_nftables_is_found_as_one_of_iptables() {
    live("nft-before-connect", &[], |case| {
        gaia_monitor_tests::host::ensure(&[gaia_monitor_tests::host::Need::Nft], &mut |line| eprintln!("{line}"))?;
        let (server, client) = two(case)?;
        let words = format!("tcp dport {} drop", case.port);
        let _rule = Rule::nft(&case.stack, Place::Container(server.pid), "input", &words)?;
        let outcomes = client.ask(Request::get(&server.url("/ok")).connect_timeout(1.5))?;
        let broken = broken(&client, &server.container, outcomes, SYN_TIMEOUT, "connecting")?;
        Ok(vec![filtered("packet_dropped", &server).breaking(broken)])
    });
}

#[test]
fn an_answer_that_is_dropped_is_not_the_servers_slowness() {
    live("drop-mid-request", &[], |case| {
        let (server, client) = two(case)?;
        let request = Request::get(&server.url("/slow?seconds=1")).read_timeout(2.5);
        let pending = server.holds(&client, "/slow", request)?;
        let _rule = rule(case, &server, "OUTPUT", &["-j", "DROP"])?;
        let outcomes = client.ended(&pending)?;
        let broken = broken(&client, &server.container, outcomes, NO_DATA, "awaiting_response")?;
        Ok(vec![filtered("packet_dropped", &server).breaking(broken)])
    });
}

#[test]
fn a_stream_whose_acknowledgements_are_dropped_is_a_packet_dropped() {
    live("drop-mid-stream", &[], |case| {
        let (server, client) = two(case)?;
        let pending = streaming(&server, &client)?;
        let _rule = rule(case, &server, "INPUT", &["-j", "DROP"])?;
        let outcomes = client.ended(&pending)?;
        let broken = broken(&client, &server.container, outcomes, NO_DATA, "receiving_body")?;
        Ok(vec![filtered("packet_dropped", &server).breaking(broken)])
    });
}

#[test]
fn a_stream_that_a_filter_resets_is_a_packet_rejected() {
    live("reset-mid-stream", &[], |case| {
        let (server, client) = two(case)?;
        let pending = streaming(&server, &client)?;
        let _rule = rule(case, &server, "INPUT", &["-j", "REJECT", "--reject-with", "tcp-reset"])?;
        let outcomes = client.ended(&pending)?;
        let broken = broken(&client, &server.container, outcomes, RESET, "receiving_body")?;
        Ok(vec![filtered("packet_rejected", &server).breaking(broken)])
    });
}

#[test]
fn a_stream_dropped_on_the_host_is_over_when_a_connect_is_answered() {
    live("docker-user-mid-stream", &[], |case| {
        let (server, client) = two(case)?;
        let pending = streaming(&server, &client)?;
        let addresses = between(server.address.ip(), client.container.ip()?.parse().context("the client's address")?);
        let matches: Vec<&str> = addresses.iter().map(String::as_str).chain(["-j", "DROP"]).collect();
        let rule = Rule::iptables(&case.stack, Place::Host, "DOCKER-USER", &matches)?;
        let outcomes = client.ended(&pending)?;
        let after = now();
        rule.lift()?;
        client.ask_well(Request::get(&server.url("/ok")))?;
        let broken = broken(&client, &server.container, outcomes, NO_DATA, "receiving_body")?;
        let until = Until::Connected { to: server.address, after };
        Ok(vec![filtered("packet_dropped", &server).under("filtered", until).breaking(broken)])
    });
}

#[test]
fn a_request_that_the_clients_own_filter_takes_is_a_packet_dropped() {
    live("drop-on-the-way-out", &[], |case| {
        let (server, client) = two(case)?;
        client.ask_well(Request::get(&server.url("/ok")).session("kept").read_timeout(2.0))?;
        let port = case.port.to_string();
        let place = Place::Container(client.container.pid()?);
        let _rule = Rule::iptables(&case.stack, place, "OUTPUT", &["-p", "tcp", "--dport", &port, "-j", "DROP"])?;
        let request = Request::get(&server.url("/ok")).session("kept");
        let outcomes = client.ask(request)?;
        let broken = broken(&client, &server.container, outcomes, NO_DATA, "awaiting_response")?;
        Ok(vec![filtered("packet_dropped", &server).breaking(broken)])
    });
}

#[test]
fn a_syn_that_comes_through_when_it_is_sent_again_is_silent() {
    live("drop-and-lift", &[], |case| {
        let (server, client) = two(case)?;
        let rule = rule(case, &server, "INPUT", &["-j", "DROP"])?;
        let pending = client.send(Request::get(&server.url("/ok")))?;
        let dropped = |fact: &gaia_monitor_tests::instrument::Fact| matches!(fact, gaia_monitor_tests::instrument::Fact::Filtered { to, .. } if *to == server.address);
        case.instrument.wait(case.began, std::time::Duration::from_secs(10), dropped, "dropped SYN")?;
        rule.lift()?;
        let outcomes = client.ended(&pending)?;
        anyhow::ensure!(outcomes.iter().all(|outcome| outcome.class == "none"), "{outcomes:?}");
        Ok(vec![])
    });
}

#[test]
fn a_filter_behind_docker_proxy_is_no_unreachable_backend() {
    live("reset-behind-docker-proxy", &[], |case| {
        let server = case.server(case.recipe("core").publish(case.port), "core", &["http"])?;
        let published = server.container.published_port(case.port)?;
        let listen = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, published));
        let _rule = rule(case, &server, "INPUT", &["-j", "REJECT", "--reject-with", "tcp-reset"])?;
        let request = HostRequest::send_after_fin(listen, "/ok")?;
        let how = gaia_monitor_tests::expect::RESET_AFTER_FIN;
        let broken = broken_on_host(&server.container, listen, request.ended()?, how, "awaiting_response")?;
        Ok(vec![filtered("packet_rejected", &server).breaking(vec![broken])])
    });
}
