//! Busy traffic of which nothing breaks, for two minutes or as long as requested: any incident is a false one.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::HostRequest;
use crate::container::Container;
use crate::docker::docker;
use crate::expect::Expected;
use crate::live_case::{LiveCase, live_case};
use crate::stage::{Server, Stage};
use crate::wait;
use anyhow::{Context, Result, ensure};

pub fn live_cases() -> Vec<LiveCase> {
    vec![live_case("busy-traffic", "two minutes of all traffic of a healthy stack are silent", busy_traffic)]
}

/// The traffic ends on its own; its last shapes may take this long.
const ENDS_WITHIN: Duration = Duration::from_secs(60);
const RESTARTS_WITHIN: Duration = Duration::from_secs(40);
/// The interval of requests to Docker.
const PAUSE: Duration = Duration::from_secs(2);

struct Stack {
    core: Server,
    idle: Server,
    published: std::net::SocketAddr,
    traffic: Container,
}

fn busy_traffic(stage: &Stage) -> Result<Vec<Expected>> {
    let lasting = Stage::lasting();
    let stack = begin(stage, lasting)?;
    let until = Instant::now() + lasting;
    let mut turn = 0_u64;
    while Instant::now() < until {
        disturb(stage, &stack, turn).with_context(|| format!("disturbance {turn} of the traffic"))?;
        turn += 1;
    }
    let events = stage.stack.folder().join("web.events");
    let done = wait::until("the traffic to end", ENDS_WITHIN, || {
        let text = std::fs::read_to_string(&events).unwrap_or_default();
        Ok(text.lines().find_map(|line| serde_json::from_str::<Value>(line).ok()))
    })
    .with_context(|| stack.traffic.logs().map(|said| said.stderr).unwrap_or_default())?;
    let failed = done.get("failed").and_then(Value::as_array).context("the traffic's own account")?;
    ensure!(failed.is_empty(), "the traffic was not clean: {failed:?}");
    println!("busy-traffic: {} and {turn} disturbances", done.get("counts").unwrap_or(&Value::Null));
    Ok(vec![])
}

fn begin(stage: &Stage, lasting: Duration) -> Result<Stack> {
    let check = format!(
        "python3 -c \"import socket; socket.create_connection(('127.0.0.1', {})).sendall(b'GET /ok HTTP/1.0\\r\\n\\r\\n')\"",
        stage.port
    );
    let checked =
        |service: &str| stage.recipe(service).option("--health-cmd", &check).option("--health-interval", "2s");
    let keep_alive = ["--keep-alive", "2"];
    let start = |service: &str, recipe: crate::container::Recipe, program: &[&str]| {
        stage.server(recipe, service, &[program, &keep_alive].concat())
    };
    let core = start("core", checked("core").publish(stage.port), &["http"])?;
    let tls = start("tls", stage.recipe("tls"), &["http", "--tls"])?;
    let raw = start("old", stage.recipe("old"), &["raw"])?;
    let fork = start("fork", stage.recipe("fork"), &["fork", "--workers", "3", "--limit", "25"])?;
    let idle = start("idle", checked("idle").init(), &["http"])?;
    let port = core.container.published_port(stage.port)?;
    let urls = json!({
        "core": core.url(""), "raw": raw.url(""), "fork": fork.url(""),
        "tls": tls.url("").replace("http:", "https:"),
    });
    let seconds = lasting.as_secs_f64().to_string();
    let program = ["python3", "/workload/traffic.py", &seconds, &urls.to_string()];
    let traffic = stage.recipe("web").start(&program)?;
    Ok(Stack { core, idle, published: ([127, 0, 0, 1], port).into(), traffic })
}

/// Disturbances of the traffic: Docker requests for containers without clients, processes that are entered and end
/// badly, the operator's own requests.
fn disturb(stage: &Stage, stack: &Stack, turn: u64) -> Result<()> {
    let (core, idle) = (&stack.core.container, &stack.idle.container);
    match turn % 8 {
        0 => {
            idle.verb("restart")?;
            healthy_again(&stack.idle)?;
        }
        1 => entered(core, &["sh", "-c", "exit 3"])?,
        2 => entered(core, &["sh", "-c", "kill -SEGV $$"])?,
        3 => {
            let refused = "import socket\nsocket.create_connection(('127.0.0.1', 1))";
            entered(core, &["python3", "-c", refused])?;
            entered(core, &["sh", "-c", "kill -KILL $$"])?;
        }
        4 => {
            idle.verb("pause")?;
            idle.verb("unpause")?;
        }
        5 => {
            let network = stage.stack.network().name();
            docker(["network", "disconnect", network, idle.name()])?;
            docker(["network", "connect", "--alias", idle.service(), network, idle.name()])?;
        }
        6 => {
            let short = stage.recipe(&format!("short-{turn}")).start(&["sleep", "60"])?;
            docker(["rm", "--force", short.name()])?;
            let ended = stage.recipe(&format!("job-{turn}")).start(&["true"])?;
            ended.wait_exit(RESTARTS_WITHIN)?;
            docker(["rm", ended.name()])?;
        }
        _ => {
            let outcome = HostRequest::send(stack.published, "/close")?.answered()?;
            ensure!(outcome.starts_with("HTTP/1.1 200"), "{outcome:?}");
        }
    }
    // Paces what is done to Docker, nothing waits for it.
    wait::quietly(PAUSE, || false);
    Ok(())
}

fn healthy_again(server: &Server) -> Result<()> {
    server.container.wait_listening(server.address.port(), RESTARTS_WITHIN)
}

/// A process that enters by `docker exec` and ends badly.
fn entered(container: &Container, command: &[&str]) -> Result<()> {
    ensure!(container.exec(command).is_err(), "{command:?} ended well");
    Ok(())
}
