//! Published ports, requested from the host as an operator does first: through docker-proxy at 127.0.0.1, and by the bridge's
//! address, which the kernel translates without docker-proxy.

use std::net::{Ipv4Addr, SocketAddr};

use crate::client::{Client, HostRequest, Pending, Request};
use crate::container::Recipe;
use crate::expect::{
    Break, Broken, Expected, INCOMPLETE_BODY, Killer, Moment, NO_RESPONSE, REFUSED, RESET, RESET_AFTER_FIN, Until,
    broken_on_host, seen,
};
use crate::gaia::{Fate, by_gaps, fate};
use crate::live_case::{LiveCase, live_case};
use crate::stage::{Server, Stage};
use crate::witness::ExitStatus;
use anyhow::{Context, Result, ensure};

pub fn live_cases() -> Vec<LiveCase> {
    use Way::{Proxy, Translated};
    vec![
        live_case(
            "published-port-killed",
            "a request from the host through docker-proxy is one entry",
            killed(Proxy, "/slow?seconds=60", NO_RESPONSE, "awaiting_response"),
        ),
        live_case(
            "published-port-killed-mid-stream",
            "the same in the middle of the response",
            killed(Proxy, "/stream?chunks=600&pause=0.1", INCOMPLETE_BODY, "receiving_body"),
        ),
        live_case(
            "published-port-dead-backend",
            "a published port with nothing behind it is an unreachable backend",
            published_port_dead_backend,
        ),
        live_case(
            "published-port-dead-backend-by-httpx",
            "the same for a client that writes immediately",
            published_port_dead_backend_by_httpx,
        ),
        live_case(
            "published-port-stopped",
            "a published address belongs to its container after the stop",
            stopped(Proxy),
        ),
        live_case(
            "published-port-reset",
            "a reset that docker-proxy turns into a FIN is still an abort",
            aborted_by_proxy,
        ),
        live_case("published-port-served", "a request through docker-proxy that is served is silent", served(Proxy)),
        live_case(
            "translated-port-killed",
            "a request by the bridge's address is cut as a direct one",
            killed(Translated, "/slow?seconds=60", NO_RESPONSE, "awaiting_response"),
        ),
        live_case(
            "translated-port-killed-mid-stream",
            "the same in the middle of the response",
            killed(Translated, "/stream?chunks=600&pause=0.1", INCOMPLETE_BODY, "receiving_body"),
        ),
        live_case(
            "translated-port-not-listening",
            "by the bridge's address nothing listening is a refusal",
            translated_port_not_listening,
        ),
        live_case("translated-port-stopped", "a stopped container's port is refused", stopped(Translated)),
        live_case("translated-port-reset", "by the bridge's address a reset stays one", aborted_directly),
        live_case(
            "translated-port-served",
            "a request by the bridge's address that is served is silent",
            served(Translated),
        ),
    ]
}

/// How the host's client gets to the container.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Proxy,
    Translated,
}

impl Way {
    fn publish(self, stage: &Stage) -> Result<(Recipe, Ipv4Addr)> {
        let at = match self {
            Self::Proxy => Ipv4Addr::LOCALHOST,
            Self::Translated => gateway(stage)?,
        };
        Ok((stage.recipe("core").option("--publish", &format!("{at}::{}", stage.port)), at))
    }

    /// What entries of connections that docker-proxy took must name.
    fn hop(self, listen: SocketAddr) -> Option<SocketAddr> {
        (self == Self::Proxy).then_some(listen)
    }
}

/// The bridge's own address.
fn gateway(stage: &Stage) -> Result<Ipv4Addr> {
    // Of a network that was made with a subnet alone, only its containers know the gateway.
    let format = format!("{{{{(index .NetworkSettings.Networks {:?}).Gateway}}}}", stage.stack.network().name());
    let shown = stage.recipe("way").start(&["sleep", "600"])?.inspect(&format)?;
    shown.trim().parse().with_context(|| format!("the gateway {shown:?}"))
}

/// A server behind a published port, where it is published, and a client on the host.
struct Published {
    way: Way,
    server: Server,
    listen: SocketAddr,
    client: Client,
}

fn published(stage: &Stage, way: Way, program: &[&str], listens: bool) -> Result<Published> {
    let client = stage.client_on_host()?;
    let (recipe, at) = way.publish(stage)?;
    let server = stage.server_that_starts(recipe, "core", program)?;
    if listens {
        server.listening(1)?;
    }
    let listen = SocketAddr::from((at, server.container.published_port(stage.port)?));
    Ok(Published { way, server, listen, client })
}

impl Published {
    /// Three attempts and no fallback.
    fn send(&self, path: &str) -> Result<Pending> {
        self.client.send(Request::get(&format!("http://{}{path}", self.listen)).retried(None))
    }

    fn fate(&self, request: &Pending, how: Break, phase: &'static str) -> Result<Fate> {
        let mut fate = fate(&self.client, &self.server.container, request, how, phase)?;
        for broken in fate.broken.iter_mut().filter(|broken| broken.phase != "connecting") {
            broken.listen = self.way.hop(self.listen);
        }
        Ok(fate)
    }
}

fn killed(way: Way, path: &'static str, how: Break, phase: &'static str) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let all = published(stage, way, &["http"], true)?;
        let request = all.send(path)?;
        all.server.entered(path.split('?').next().unwrap_or(path), 1)?;
        if how == INCOMPLETE_BODY {
            all.client.begun(&request)?;
        }
        all.server.container.kill("KILL")?;
        let broken = all.fate(&request, how, phase)?.failed()?;
        let killed = Expected::death("container_killed", &all.server.container, all.server.pid, ExitStatus::SIGKILL);
        Ok(vec![killed.by(Killer::Docker("docker kill")).breaking(broken)])
    }
}

fn published_port_dead_backend(stage: &Stage) -> Result<Vec<Expected>> {
    let recipe = stage.recipe("core").publish(stage.port);
    let server = stage.server_that_starts(recipe, "core", &["http", "--delay", "600"])?;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, server.container.published_port(stage.port)?));
    let request = HostRequest::send_after_fin(listen, "/ok")?;
    let broken = broken_on_host(&server.container, listen, request.ended()?, RESET_AFTER_FIN, "awaiting_response")?;
    Ok(vec![unreachable(&server, vec![broken])])
}

fn unreachable(server: &Server, broken: Vec<Broken>) -> Expected {
    let moment = Moment::Refused(server.address);
    let unreachable = Expected::living("backend_unreachable", &server.container, None, moment);
    unreachable.under("not_listening", Until::Lasting).breaking(broken)
}

fn published_port_dead_backend_by_httpx(stage: &Stage) -> Result<Vec<Expected>> {
    let all = published(stage, Way::Proxy, &["http", "--delay", "600"], false)?;
    let request = all.send("/ok")?;
    // It writes after the proxy has closed, or a little before, and reads the FIN before the RST or not: its own account
    // shows which.
    let (attempts, _) = all.client.attempts(&request)?;
    let (how, phase) = seen(attempts.first().context("an attempt")?, false)?.context("it was served")?;
    let fate = all.fate(&request, how, phase)?;
    let broken = if how == NO_RESPONSE { fate.broken } else { fate.lost()? };
    Ok(vec![unreachable(&all.server, broken)])
}

fn translated_port_not_listening(stage: &Stage) -> Result<Vec<Expected>> {
    let all = published(stage, Way::Translated, &["http", "--delay", "600"], false)?;
    let broken = all.fate(&all.send("/ok")?, REFUSED, "connecting")?.failed()?;
    let moment = Moment::Refused(all.listen);
    let closed = Expected::living("not_listening", &all.server.container, None, moment);
    Ok(vec![closed.under("not_listening", Until::Lasting).breaking(broken)])
}

fn stopped(way: Way) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let all = published(stage, way, &["http"], true)?;
        all.server.container.stop(Some(10))?;
        let broken = all.fate(&all.send("/ok")?, REFUSED, "connecting")?.failed()?;
        let end = ExitStatus::Code(0);
        let stopped = Expected::death("container_stopped", &all.server.container, all.server.pid, end);
        Ok(vec![stopped.by(Killer::Docker("docker stop")).breaking(broken)])
    }
}

fn aborted(all: &Published, first: &Broken) -> Result<Expected> {
    let moment = Moment::CloseBy { server: all.server.address, since: first.outcome.started };
    Ok(Expected::living("app_aborted", &all.server.container, Some(all.server.pid), moment))
}

fn aborted_by_proxy(stage: &Stage) -> Result<Vec<Expected>> {
    let all = published(stage, Way::Proxy, &["http"], true)?;
    let broken = all.fate(&all.send("/linger")?, NO_RESPONSE, "awaiting_response")?.failed()?;
    by_gaps(broken, |first| aborted(&all, first))
}

fn aborted_directly(stage: &Stage) -> Result<Vec<Expected>> {
    let all = published(stage, Way::Translated, &["http"], true)?;
    let broken = all.fate(&all.send("/linger")?, RESET, "awaiting_response")?.lost()?;
    by_gaps(broken, |first| aborted(&all, first))
}

fn served(way: Way) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let all = published(stage, way, &["http"], true)?;
        let (attempts, last) = all.client.attempts(&all.send("/ok")?)?;
        ensure!(attempts.len() == 1 && last.status == Some(200), "{attempts:?}");
        Ok(vec![])
    }
}
