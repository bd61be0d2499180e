//! Packet filters in a container's namespace and on the host, before a connect, in a request and in the middle of a response.

use std::net::IpAddr;

use crate::client::{Client, HostRequest, Request};
use crate::expect::{
    Break, Expected, Moment, NO_DATA, REFUSED, RESET, SYN_TIMEOUT, UNREACHABLE, Until, broken, broken_on_host,
};
use crate::firewall::{Place, Rule, between};
use crate::live_case::{LiveCase, live_case};
use crate::stage::{Server, Stage};
use crate::witness::now;
use anyhow::{Context, Result};

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case(
            "drop-before-connect",
            "a SYN that is dropped is a packet dropped",
            before_the_connect(&["-j", "DROP"], "packet_dropped", SYN_TIMEOUT),
        ),
        live_case(
            "reset-before-connect",
            "a SYN that is reset by a filter is a packet rejected",
            before_the_connect(&["-j", "REJECT", "--reject-with", "tcp-reset"], "packet_rejected", REFUSED),
        ),
        live_case(
            "icmp-before-connect",
            "a SYN that is rejected by ICMP is distinguished from a closed port",
            before_the_connect(&["-j", "REJECT"], "packet_rejected", REFUSED),
        ),
        live_case(
            "prohibited-before-connect",
            "a prohibited host is a packet rejected",
            before_the_connect(
                &["-j", "REJECT", "--reject-with", "icmp-host-prohibited"],
                "packet_rejected",
                UNREACHABLE,
            ),
        ),
        live_case("nft-before-connect", "a rule of nftables is found as one of iptables", nft_before_connect),
        live_case("drop-mid-request", "a dropped response is not a slow server", drop_mid_request),
        live_case(
            "drop-mid-stream",
            "a stream whose acknowledgements are dropped is a packet dropped",
            drop_mid_stream,
        ),
        live_case("reset-mid-stream", "a stream that a filter resets is a packet rejected", reset_mid_stream),
        live_case(
            "docker-user-mid-stream",
            "a stream dropped on the host is over when a connect succeeds",
            docker_user_mid_stream,
        ),
        live_case(
            "docker-user-icmp-before-connect",
            "a SYN that the host rejects by ICMP is a packet rejected",
            docker_user_before_connect(&["-j", "REJECT"], "packet_rejected", REFUSED),
        ),
        live_case(
            "docker-user-reset-before-connect",
            "a SYN that the host resets is a packet rejected",
            docker_user_before_connect(&["-j", "REJECT", "--reject-with", "tcp-reset"], "packet_rejected", REFUSED),
        ),
        live_case(
            "docker-user-drop-before-connect",
            "a SYN that the host drops is a packet dropped",
            docker_user_before_connect(&["-j", "DROP"], "packet_dropped", SYN_TIMEOUT),
        ),
        live_case(
            "drop-on-the-way-out",
            "a request that the client's own filter drops is a packet dropped",
            drop_on_the_way_out,
        ),
        live_case("drop-and-lift", "a SYN that arrives when it is retransmitted is silent", drop_and_lift),
        live_case(
            "reset-behind-docker-proxy",
            "a filter behind Docker proxy is no unreachable backend",
            reset_behind_docker_proxy,
        ),
    ]
}

/// A server and its client, each in a container.
fn two(stage: &Stage) -> Result<(Server, Client)> {
    Ok((stage.uvicorn("core")?, stage.client("web")?))
}

/// A rule in the server's own namespace for packets to or from its port.
fn rule(stage: &Stage, server: &Server, chain: &str, target: &[&str]) -> Result<Rule> {
    let port = stage.port.to_string();
    let side = if chain == "INPUT" { "--dport" } else { "--sport" };
    let matches: Vec<&str> = ["-p", "tcp", side, &port].into_iter().chain(target.iter().copied()).collect();
    Rule::iptables(&stage.stack, Place::Container(server.pid), chain, &matches)
}

fn filtered(kind: &'static str, server: &Server) -> Expected {
    let filtered = Expected::living(kind, &server.container, Some(server.pid), Moment::Filtered(server.address));
    filtered.under("filtered", Until::Lasting)
}

/// A rule on the host for packets from the one to the other.
fn on_the_host(stage: &Stage, from: IpAddr, to: IpAddr, target: &[&str]) -> Result<Rule> {
    // iptables takes a protocol's own target behind the protocol.
    let addresses = between(from, to);
    let matches: Vec<&str> = addresses.iter().map(String::as_str).chain(target.iter().copied()).collect();
    Rule::iptables(&stage.stack, Place::Host, "DOCKER-USER", &matches)
}

fn address(client: &Client) -> Result<IpAddr> {
    client.container.ip()?.parse().context("the client's address")
}

/// Plays a connect that a rule in the server's own namespace keeps from it.
fn before_the_connect(
    target: &'static [&str],
    kind: &'static str,
    how: Break,
) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    kept_away(move |stage, server, _| rule(stage, server, "INPUT", target), kind, how)
}

/// The same of a rule on the host.
fn docker_user_before_connect(
    target: &'static [&str],
    kind: &'static str,
    how: Break,
) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    kept_away(move |stage, server, client| on_the_host(stage, address(client)?, server.address.ip(), target), kind, how)
}

fn kept_away(
    rule: impl Fn(&Stage, &Server, &Client) -> Result<Rule>,
    kind: &'static str,
    how: Break,
) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let (server, client) = two(stage)?;
        let _rule = rule(stage, &server, &client)?;
        let outcomes = client.ask(Request::get(&server.url("/ok")).connect_timeout(2.5))?;
        let broken = broken(&client, &server.container, outcomes, how, "connecting")?;
        Ok(vec![filtered(kind, &server).breaking(broken)])
    }
}

/// Asks for a stream of ten seconds and waits for its beginning.
fn streaming(server: &Server, client: &Client) -> Result<crate::client::Pending> {
    let url = server.url("/stream?chunks=200&pause=0.05");
    let pending = server.holds(client, "/stream", Request::get(&url).read_timeout(2.0))?;
    client.begun(&pending)?;
    Ok(pending)
}

fn nft_before_connect(stage: &Stage) -> Result<Vec<Expected>> {
    crate::host::ensure(&[crate::host::Need::Nft], &mut |line| eprintln!("{line}"))?;
    let (server, client) = two(stage)?;
    let words = format!("tcp dport {} drop", stage.port);
    let _rule = Rule::nft(&stage.stack, Place::Container(server.pid), "input", &words)?;
    let outcomes = client.ask(Request::get(&server.url("/ok")).connect_timeout(1.5))?;
    let broken = broken(&client, &server.container, outcomes, SYN_TIMEOUT, "connecting")?;
    Ok(vec![filtered("packet_dropped", &server).breaking(broken)])
}

fn drop_mid_request(stage: &Stage) -> Result<Vec<Expected>> {
    let (server, client) = two(stage)?;
    let request = Request::get(&server.url("/slow?seconds=1")).read_timeout(2.5);
    let pending = server.holds(&client, "/slow", request)?;
    let _rule = rule(stage, &server, "OUTPUT", &["-j", "DROP"])?;
    let outcomes = client.ended(&pending)?;
    let broken = broken(&client, &server.container, outcomes, NO_DATA, "awaiting_response")?;
    Ok(vec![filtered("packet_dropped", &server).breaking(broken)])
}

fn drop_mid_stream(stage: &Stage) -> Result<Vec<Expected>> {
    let (server, client) = two(stage)?;
    let pending = streaming(&server, &client)?;
    let _rule = rule(stage, &server, "INPUT", &["-j", "DROP"])?;
    let outcomes = client.ended(&pending)?;
    let broken = broken(&client, &server.container, outcomes, NO_DATA, "receiving_body")?;
    Ok(vec![filtered("packet_dropped", &server).breaking(broken)])
}

fn reset_mid_stream(stage: &Stage) -> Result<Vec<Expected>> {
    let (server, client) = two(stage)?;
    let pending = streaming(&server, &client)?;
    let _rule = rule(stage, &server, "INPUT", &["-j", "REJECT", "--reject-with", "tcp-reset"])?;
    let outcomes = client.ended(&pending)?;
    let broken = broken(&client, &server.container, outcomes, RESET, "receiving_body")?;
    Ok(vec![filtered("packet_rejected", &server).breaking(broken)])
}

fn docker_user_mid_stream(stage: &Stage) -> Result<Vec<Expected>> {
    let (server, client) = two(stage)?;
    let pending = streaming(&server, &client)?;
    let rule = on_the_host(stage, server.address.ip(), address(&client)?, &["-j", "DROP"])?;
    let outcomes = client.ended(&pending)?;
    let after = now();
    rule.lift()?;
    client.ask_well(Request::get(&server.url("/ok")))?;
    let broken = broken(&client, &server.container, outcomes, NO_DATA, "receiving_body")?;
    let until = Until::Connected { to: server.address, after };
    Ok(vec![filtered("packet_dropped", &server).under("filtered", until).breaking(broken)])
}

fn drop_on_the_way_out(stage: &Stage) -> Result<Vec<Expected>> {
    let (server, client) = two(stage)?;
    client.ask_well(Request::get(&server.url("/ok")).session("kept").read_timeout(2.0))?;
    let port = stage.port.to_string();
    let place = Place::Container(client.container.pid()?);
    let _rule = Rule::iptables(&stage.stack, place, "OUTPUT", &["-p", "tcp", "--dport", &port, "-j", "DROP"])?;
    let request = Request::get(&server.url("/ok")).session("kept");
    let outcomes = client.ask(request)?;
    let broken = broken(&client, &server.container, outcomes, NO_DATA, "awaiting_response")?;
    Ok(vec![filtered("packet_dropped", &server).breaking(broken)])
}

fn drop_and_lift(stage: &Stage) -> Result<Vec<Expected>> {
    let (server, client) = two(stage)?;
    let rule = rule(stage, &server, "INPUT", &["-j", "DROP"])?;
    let pending = client.send(Request::get(&server.url("/ok")))?;
    let dropped = |fact: &crate::witness::Fact| matches!(fact, crate::witness::Fact::Filtered { to, .. } if *to == server.address);
    stage.witness.wait(stage.began, std::time::Duration::from_secs(10), dropped, "dropped SYN")?;
    rule.lift()?;
    let outcomes = client.ended(&pending)?;
    anyhow::ensure!(outcomes.iter().all(|outcome| outcome.class == "none"), "{outcomes:?}");
    Ok(vec![])
}

fn reset_behind_docker_proxy(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.server(stage.recipe("core").publish(stage.port), "core", &["http"])?;
    let published = server.container.published_port(stage.port)?;
    let listen = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, published));
    let _rule = rule(stage, &server, "INPUT", &["-j", "REJECT", "--reject-with", "tcp-reset"])?;
    let request = HostRequest::send_after_fin(listen, "/ok")?;
    let how = crate::expect::RESET_AFTER_FIN;
    let broken = broken_on_host(&server.container, listen, request.ended()?, how, "awaiting_response")?;
    Ok(vec![filtered("packet_rejected", &server).breaking(vec![broken])])
}
