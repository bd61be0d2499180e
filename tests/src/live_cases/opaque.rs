//! Traffic without framing: TLS. Deaths are reported as always; the rest is what TCP shows, or silence.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use crate::client::{Client, Request};
use crate::expect::{Break, Broken, Expected, INCOMPLETE_BODY, Killer, NO_RESPONSE, unseen};
use crate::live_case::{LiveCase, live_case};
use crate::stage::{Server, Stage};
use crate::wait;
use crate::witness::ExitStatus;

/// Without framing, a connection is idle a second after its server's last bytes.
const IDLE: Duration = Duration::from_millis(1_500);

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case("tls-killed", "a server killed under TLS is identified, and the phase is estimated", killed(false)),
        live_case("tls-killed-mid-stream", "the same in the middle of the response", killed(true)),
        live_case("tls-idle-restart", "a restart that closes only idle connections under TLS is silent", idle_restart),
        live_case("tls-served", "responses and closes under TLS are silent", served),
    ]
}

fn begin(stage: &Stage) -> Result<(Server, Client)> {
    Ok((stage.server(stage.recipe("core"), "core", &["http", "--tls"])?, stage.client("web")?))
}

fn url(server: &Server, path: &str) -> String {
    server.url(path).replace("http://", "https://")
}

fn killed(streams: bool) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let (server, client) = begin(stage)?;
        let path = if streams { "/length?seconds=60" } else { "/slow?seconds=60" };
        // The server's last message of the handshake may follow the first request; nothing follows the second.
        client.ask_well(Request::get(&url(&server, "/ok")).session("kept"))?;
        let request = client.send(Request::get(&url(&server, path)).session("kept"))?;
        server.entered(if streams { "/length" } else { "/slow" }, 1)?;
        if streams {
            client.begun(&request)?;
        }
        server.signal_from_host(server.pid, Signal::SIGKILL)?;
        let outcomes = client.ended(&request)?;
        ensure!(outcomes.iter().all(|outcome| outcome.class != "none"), "{outcomes:?}");
        // ssl's own error for the end is not compared; TCP shows which side sent last.
        let how = if streams { INCOMPLETE_BODY } else { NO_RESPONSE };
        let phase = if streams { "receiving_body" } else { "awaiting_response" };
        let broken = outcomes.into_iter().map(|outcome| of_tcp(&client, &server, outcome.local, how, phase));
        let killed = Expected::death("process_killed", &server.container, server.pid, ExitStatus::SIGKILL);
        Ok(vec![killed.by(Killer::Host(std::process::id())).breaking(broken.collect())])
    }
}

fn of_tcp(
    client: &Client,
    server: &Server,
    local: Option<(std::net::IpAddr, u16)>,
    how: Break,
    phase: &'static str,
) -> Broken {
    let mut broken = unseen(&client.container, &server.container, how, phase);
    broken.outcome.local = local;
    broken
}

fn idle_restart(stage: &Stage) -> Result<Vec<Expected>> {
    let (server, client) = begin(stage)?;
    for session in ["one", "two"] {
        client.ask_well(Request::get(&url(&server, "/ok")).session(session))?;
    }
    let answered = Instant::now();
    let idle = || Ok((answered.elapsed() > IDLE).then_some(()));
    wait::until("idle connections", Duration::from_secs(10), idle)?;
    server.container.verb("restart")?;
    server.listening(2)?;
    client.ask_well(Request::get(&url(&server, "/ok")).session("one"))?;
    Ok(vec![])
}

fn served(stage: &Stage) -> Result<Vec<Expected>> {
    let (server, client) = begin(stage)?;
    for path in ["/ok", "/stream", "/close", "/length", "/status?code=500"] {
        client.ask_well(Request::get(&url(&server, path)))?;
        client.ask_well(Request::get(&url(&server, path)).session("kept"))?;
    }
    Ok(vec![])
}
