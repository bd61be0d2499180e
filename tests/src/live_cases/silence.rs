//! Ordinary traffic, in all its shapes, makes no incident.

use anyhow::Result;
use std::time::Duration;

use crate::client::Request;
use crate::docker::docker;
use crate::expect::Expected;
use crate::live_case::{LiveCase, live_case};
use crate::stage::Stage;
use crate::wait;

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case("clean-traffic", "clean traffic is silent", clean_traffic),
        live_case("health-and-exec", "health checks and processes entered by exec are silent", health_and_exec),
        live_case("idle-restart", "a restart of an idle server is silent", idle_restart),
    ]
}

fn clean_traffic(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.server(stage.recipe("core"), "core", &["http", "--keep-alive", "1"])?;
    let raw = stage.server(stage.recipe("old"), "old", &["raw"])?;
    let client = stage.client("web")?;
    for _ in 0..20 {
        client.ask_well(Request::get(&server.url("/ok")).session("kept"))?;
    }
    let shapes = ["/close", "/stream", "/length", "/status?code=503", "/raise", "/slow?seconds=0.7"];
    for shape in shapes {
        client.ask_well(Request::get(&server.url(shape)))?;
        client.ask_well(Request::get(&server.url(shape)).by_requests())?;
    }
    client.ask_well(Request::upload(&server.url("/ok"), 1 << 20))?;
    client.ask_well(Request::get(&server.url("/ok")).with("method", "HEAD".into()))?;
    client.ask_well(Request::get(&server.url("/slow?seconds=0.3")).times(20))?;
    client.ask_well(Request::get(&raw.url("/http10")))?;
    client.ask_well(Request::get(&raw.url("/ok")))?;
    // The kept connection is closed by the server's keep-alive timeout of one second.
    client.ask_well(Request::get(&server.url("/slow?seconds=1.5")))?;
    client.ask_well(Request::get(&server.url("/ok")).session("kept"))?;
    Ok(vec![])
}

fn health_and_exec(stage: &Stage) -> Result<Vec<Expected>> {
    let check = format!("python3 -c \"import httpx; httpx.get('http://localhost:{}/ok')\"", stage.port);
    let recipe = stage
        .recipe("core")
        .option("--health-cmd", &check)
        .option("--health-interval", "500ms")
        .option("--health-timeout", "20s");
    let server = stage.server(recipe, "core", &["http"])?;
    let healthy = || Ok((server.container.inspect("{{.State.Health.Status}}")? == "healthy").then_some(()));
    wait::until("a healthy container", Duration::from_secs(20), healthy)?;
    let name = server.container.name();
    for script in ["exit 3", "kill -KILL $$", "kill -SEGV $$"] {
        let ended = docker(["exec", name, "sh", "-c", script]);
        anyhow::ensure!(ended.is_err(), "`{script}` ended well");
    }
    let refused = "import socket, sys\ntry: socket.create_connection(('127.0.0.1', 1))\nexcept OSError: sys.exit(5)";
    anyhow::ensure!(docker(["exec", name, "python3", "-c", refused]).is_err(), "port 1 is open");
    Ok(vec![])
}

fn idle_restart(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    client.ask_well(Request::get(&server.url("/ok")))?;
    server.container.verb("restart")?;
    server.listening(2)?;
    client.ask_well(Request::get(&server.url("/ok")))?;
    Ok(vec![])
}
