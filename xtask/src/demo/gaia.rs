//! A small GAIA stack: four services with GAIA's names, ports and variables on a network of their own, and the player
//! that runs a story on them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use gaia_monitor_tests::command::{OnInterrupt, run};
use gaia_monitor_tests::container::Container;
use gaia_monitor_tests::stack::Stack;

use super::show;
use super::story::{Step, Story, Weakness};
use super::watch::{LogLine, Watch};

pub const WEB: &str = "gaia-web";
pub const CORE: &str = "gaia-core";
pub const CANDIDATE: &str = "gaia-core-candidate";
const MCP: &str = "gaia-mcp";
/// The client of gaia-web.
const CALLER: &str = "caller";

/// Label of the demo's containers, in addition to the harness's own labels.
const LABEL: &str = "gaia-monitor.demo";
/// Mount point of `xtask/demo` in the containers.
const PROGRAMS: &str = "/srv/gaia";

/// Importing FastAPI is slow on a busy machine with two cores.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// The longest story: attempts and waits of the policy, lookups that an unresponsive resolver delays, and the work.
const RESPONSE_WITHIN: Duration = Duration::from_secs(120);
/// Time until an upload is in progress.
const LOG_WITHIN: Duration = Duration::from_secs(30);

struct Service {
    name: &'static str,
    module: &'static str,
    port: u16,
    env: &'static [(&'static str, &'static str)],
}

const CORE_ENV: &[(&str, &str)] = &[
    ("MCP_ENDPOINT", "http://gaia-mcp:8765/jsonrpc"),
    ("MCP_FALLBACK_ENDPOINT", "http://gaia-mcp-candidate:8765/jsonrpc"),
];

const SERVICES: [Service; 4] = [
    Service { name: MCP, module: "mcp", port: 8765, env: &[] },
    Service { name: CORE, module: "core", port: 6415, env: CORE_ENV },
    Service { name: CANDIDATE, module: "core", port: 6415, env: CORE_ENV },
    Service {
        name: WEB,
        module: "web",
        port: 6414,
        env: &[
            ("CORE_ENDPOINT", "http://gaia-core:6415"),
            ("CORE_FALLBACK_ENDPOINT", "http://gaia-core-candidate:6415"),
        ],
    },
];

/// The running services.
pub struct Gaia<'a> {
    stack: &'a Stack,
    containers: Vec<Container>,
    watch: Watch,
}

/// Outcome of a story, from the logs of the containers.
pub struct Played {
    /// Log lines of gaia-web.
    pub web: Vec<String>,
    /// The caller's report of its response.
    pub response: String,
}

impl<'a> Gaia<'a> {
    /// Starts all four services and waits until each one listens.
    pub fn start(stack: &'a Stack, story: &Story) -> Result<Self> {
        let mut containers = Vec::new();
        for service in &SERVICES {
            let mut recipe = stack.container(service.name).label(LABEL, story.name).mount(&programs(), PROGRAMS);
            for (name, value) in service.env {
                recipe = recipe.env(name, value);
            }
            let app = format!("{}:app", service.module);
            let port = service.port.to_string();
            let mut server: Vec<String> =
                ["python3", "-m", "uvicorn", &app, "--app-dir", PROGRAMS, "--host", "0.0.0.0", "--port", &port]
                    .map(str::to_owned)
                    .into();
            for weakness in story.weak {
                match *weakness {
                    Weakness::Fault(weak, fault) if weak == service.name => recipe = recipe.env("GAIA_FAULT", fault),
                    Weakness::Memory(weak, mib) if weak == service.name => recipe = recipe.memory(mib << 20),
                    Weakness::Workers(weak, workers) if weak == service.name => {
                        server.extend(["--workers".to_owned(), workers.to_string()]);
                    }
                    Weakness::Timeout(seconds) if service.name == WEB => {
                        recipe = recipe.env("GAIA_TIMEOUT", &seconds.to_string());
                    }
                    Weakness::Fault(..) | Weakness::Memory(..) | Weakness::Workers(..) | Weakness::Timeout(_) => {}
                }
            }
            containers.push(recipe.start(&server.iter().map(String::as_str).collect::<Vec<_>>())?);
        }
        for (container, service) in containers.iter().zip(&SERVICES) {
            container.wait_listening(service.port, UP_WITHIN)?;
        }
        let watch = Watch::new(&containers)?;
        Ok(Self { stack, containers, watch })
    }

    /// Runs the steps of the story and prints each one, with the log lines of the services.
    pub fn play(mut self, story: &Story) -> Result<Played> {
        for step in story.steps {
            match *step {
                Step::Stop(service) => {
                    show::act(&format!("docker stop {service}"));
                    self.container(service)?.stop(None)?;
                }
                Step::StopWithin(service, grace) => {
                    show::act(&format!("docker stop --time {grace} {service}"));
                    self.container(service)?.stop(Some(grace))?;
                }
                Step::Pause(service) => {
                    show::act(&format!("docker pause {service}"));
                    self.container(service)?.verb("pause")?;
                }
                Step::Unpause(service) => {
                    show::act(&format!("docker unpause {service}"));
                    self.container(service)?.verb("unpause")?;
                }
                Step::Post { path, bytes } => {
                    show::act(&format!("a caller posts to gaia-web, which posts {bytes} bytes to {CORE} at /{path}"));
                    self.post(story, &format!("http://{WEB}:6414/call/{path}?size={bytes}"))?;
                }
                Step::PostTwice { path } => {
                    show::act(&format!(
                        "a caller posts to gaia-web, which posts to {CORE} at /{path} twice on one connection"
                    ));
                    self.post(story, &format!("http://{WEB}:6414/kept/{path}"))?;
                }
                Step::AwaitLog { service, needle } => {
                    self.watch.wait(service, needle, LOG_WITHIN)?;
                }
                Step::KillFromHost(service) => {
                    let pid = self.container(service)?.pid()?.to_string();
                    show::act(&format!("kill -KILL {pid}   ({service}'s first process, from the host)"));
                    run(Command::new("/bin/kill").args(["-KILL", &pid]), OnInterrupt::End)?;
                }
                Step::AwaitResponse => {
                    self.watch.wait(CALLER, "HTTP ", RESPONSE_WITHIN)?;
                }
            }
        }
        let logged = self.watch.stop();
        let of = |service: &str| -> Vec<String> {
            logged.iter().filter(|line| line.service == service).map(|LogLine { text, .. }| text.clone()).collect()
        };
        Ok(Played { web: of(WEB), response: of(CALLER).join(" ") })
    }

    fn post(&mut self, story: &Story, url: &str) -> Result<()> {
        let program = format!("{PROGRAMS}/caller.py");
        let recipe = self.stack.container(CALLER).label(LABEL, story.name).mount(&programs(), PROGRAMS);
        self.watch.add(&recipe.start(&["python3", &program, url])?)
    }

    fn container(&self, service: &str) -> Result<&Container> {
        self.containers
            .iter()
            .find(|container| container.service() == service)
            .with_context(|| format!("the demo has no service {service}"))
    }
}

fn programs() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo")
}
