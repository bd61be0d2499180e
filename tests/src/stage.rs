//! The stage of one live case: its own containers, the actions on them, and their pids.
//!
//! It acts and waits; it never judges. Expectations are in `expect`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;

use crate::client::{ABANDONED, Client, Outcome, Pending, Request};
use crate::container::{Container, Recipe};
use crate::docker::docker;
use crate::monitor::{Monitor, Options};
use crate::stack::Stack;
use crate::wait;
use crate::witness::{WallNanos, Witness, now};

/// Each case's servers listen on a port of their own, so that the witness's records name the case.
const FIRST_PORT: u16 = 8000;
/// A container with uvicorn is up in half a second here; a machine under load takes its time.
const START_LIMIT: Duration = Duration::from_secs(40);
const STEP_LIMIT: Duration = Duration::from_secs(20);

/// How long the stories of clean traffic last by default.
const TRAFFIC_LASTS: Duration = Duration::from_secs(120);

static LASTING: OnceLock<Duration> = OnceLock::new();

/// Sets how long the stories of clean traffic last, for the whole process; the first call wins.
pub fn traffic_lasts(lasting: Duration) {
    let _already_set = LASTING.set(lasting);
}

/// The stack and the witness of one story.
pub struct Stage {
    pub stack: Stack,
    pub began: WallNanos,
    pub witness: &'static Witness,
    /// The port of every server in this case.
    pub port: u16,
}

impl Stage {
    /// How long busy traffic lasts.
    #[must_use]
    pub fn lasting() -> Duration {
        LASTING.get().copied().unwrap_or(TRAFFIC_LASTS)
    }

    pub fn begin(witness: &'static Witness) -> Result<Self> {
        let stack = Stack::begin("live", &mut |line| eprintln!("{line}"))?;
        static CASES: AtomicU16 = AtomicU16::new(FIRST_PORT);
        Ok(Self { stack, began: now(), witness, port: CASES.fetch_add(1, Ordering::Relaxed) })
    }

    /// Starts a monitor whose scope is this stage.
    pub fn monitor(&self) -> Result<Monitor> {
        Monitor::start(self.stack.folder(), &Options::default().project(self.stack.project()))
    }

    /// A container of this service with the workload in /workload and the case's folder in /case.
    pub fn recipe(&self, service: &str) -> Recipe {
        let workload = Path::new(env!("CARGO_MANIFEST_DIR")).join("workload");
        self.stack
            .container(service)
            .mount(&workload, "/workload")
            .option("--volume", &format!("{}:/case", self.stack.folder().display()))
            .env("GAIA_MONITOR_TEST_EVENTS", &format!("/case/{service}.events"))
    }

    /// uvicorn as the first process, listening.
    pub fn uvicorn(&self, service: &str) -> Result<Server> {
        self.server(self.recipe(service), service, &["http"])
    }

    /// Starts a server and waits until it listens. `program` is `server.py`'s arguments.
    pub fn server(&self, recipe: Recipe, service: &str, program: &[&str]) -> Result<Server> {
        let server = self.server_that_starts(recipe, service, program)?;
        server.listening(1)?;
        Ok(server)
    }

    /// Starts a server and does not wait for its port.
    pub fn server_that_starts(&self, recipe: Recipe, service: &str, program: &[&str]) -> Result<Server> {
        self.started(recipe, service, program, |container| container.ip()?.parse().context("the container's address"))
    }

    /// The same where the container has no address of its own.
    pub fn server_at(&self, recipe: Recipe, service: &str, program: &[&str], ip: IpAddr) -> Result<Server> {
        self.started(recipe, service, program, |_| Ok(ip))
    }

    fn started(
        &self,
        recipe: Recipe,
        service: &str,
        program: &[&str],
        ip: impl FnOnce(&Container) -> Result<IpAddr>,
    ) -> Result<Server> {
        let port = self.port.to_string();
        let [mode, rest @ ..] = program else { bail!("a server needs a mode") };
        let command: Vec<&str> =
            ["python3", "/workload/server.py", mode, "--port", &port].iter().chain(rest).copied().collect();
        let container = recipe.start(&command)?;
        let pid = container.pid()?;
        let ip = ip(&container)?;
        let events = self.stack.folder().join(format!("{service}.events"));
        Ok(Server { container, pid, address: SocketAddr::new(ip, self.port), events })
    }

    /// Starts a DNS server without any name; returns its address.
    pub fn name_server(&self, says: Says) -> Result<IpAddr> {
        let container = self.recipe("names").start(&["python3", "/workload/resolver.py", says.word()])?;
        let (pid, ip) = (container.pid()?, container.ip()?.parse().context("the container's address")?);
        let events = self.stack.folder().join("names.events");
        let server = Server { container, pid, address: SocketAddr::new(ip, 53), events };
        server.listening(1)?;
        Ok(ip)
    }

    /// Waits until a process that entered the client's container finds no such name there.
    pub fn name_gone(&self, client: &Container, name: &str) -> Result<()> {
        let script = format!("import socket\ntry: socket.getaddrinfo({name:?}, 80)\nexcept OSError: print('gone')");
        wait::until(&format!("the name {name} to go"), STEP_LIMIT, || {
            Ok(client.exec(&["python3", "-c", &script])?.contains("gone").then_some(()))
        })
    }

    /// Starts the client program in a container of its own.
    pub fn client(&self, service: &str) -> Result<Client> {
        Client::start(self.recipe(service), self.stack.folder(), service)
    }

    /// The same, from a recipe of the case's own.
    pub fn client_of(&self, recipe: Recipe, service: &str) -> Result<Client> {
        Client::start(recipe, self.stack.folder(), service)
    }

    /// The client program as a process of the host.
    pub fn client_on_host(&self) -> Result<Client> {
        Client::start_on_host(self.recipe("files"), self.stack.folder(), "files")
    }

    /// Docker's own time of an event of `container`, from its stream.
    pub fn docker_event(&self, container: &Container, event: &str) -> Result<WallNanos> {
        let seconds = |at: WallNanos| format!("{}.{:09}", at / 1_000_000_000, at % 1_000_000_000);
        let filters = [format!("container={}", container.id()), format!("event={event}")];
        wait::until(&format!("Docker's event `{event}`"), STEP_LIMIT, || {
            let range = [seconds(self.began), seconds(now())];
            let [[since, until], [of, kind]] = [&range, &filters];
            let out = docker([
                "events",
                "--since",
                since,
                "--until",
                until,
                "--filter",
                of,
                "--filter",
                kind,
                "--format",
                "{{.TimeNano}}",
            ])?;
            out.lines().next().map(|line| line.trim().parse().context("an event's time")).transpose()
        })
    }
}

/// The response of a DNS server to every query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    NxDomain,
    ServFail,
    Refused,
    Nothing,
}

impl Says {
    fn word(self) -> &'static str {
        match self {
            Self::NxDomain => "nxdomain",
            Self::ServFail => "servfail",
            Self::Refused => "refused",
            Self::Nothing => "silent",
        }
    }
}

/// A server's container.
#[derive(Clone, Debug)]
pub struct Server {
    pub container: Container,
    /// Its first process, in the host's numbers, as of its start.
    pub pid: u32,
    pub address: SocketAddr,
    events: PathBuf,
}

impl Server {
    /// By its name in the network.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}:{}{path}", self.container.service(), self.address.port())
    }

    /// Sends a request and waits until a handler has it.
    pub fn holds(&self, client: &Client, path: &str, request: Request) -> Result<Pending> {
        let count = request.count();
        let pending = client.send(request)?;
        self.entered(path, count)?;
        Ok(pending)
    }

    /// Its own lookup that failed in a handler of `/look-up`.
    pub fn looked_up(&self) -> Result<Outcome> {
        let event = wait::until("the server's own look-up to fail", STEP_LIMIT, || {
            let text = std::fs::read_to_string(&self.events).unwrap_or_default();
            let mut events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            Ok(events.find(|event| event.get("event").and_then(Value::as_str) == Some("looked_up")))
        })?;
        let instant = |key: &str| event.get(key).and_then(Value::as_i64).context("an instant");
        Ok(Outcome {
            class: ABANDONED.to_owned(),
            started: instant("started")?,
            at: instant("at")?,
            ..Outcome::default()
        })
    }

    /// Waits until nothing in its namespace listens on its port any more.
    pub fn closed(&self) -> Result<()> {
        let port = format!(":{:04X}", self.address.port());
        wait::until("the port to close", STEP_LIMIT, || {
            let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.pid)).context("its sockets")?;
            let listens = |line: &str| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                fields.get(1).is_some_and(|local| local.ends_with(&port)) && fields.get(3) == Some(&"0A")
            };
            Ok((!table.lines().any(listens)).then_some(()))
        })
    }

    /// Waits until `count` requests for `path` have reached a handler; the pids inside the container that have them.
    pub fn entered(&self, path: &str, count: usize) -> Result<Vec<u32>> {
        let wanted = |event: &Value| event.get("path").and_then(Value::as_str) == Some(path);
        self.pids_of("enter", wanted, count, STEP_LIMIT)
    }

    /// Waits until it has reported `listening` so often, over all its runs and workers; returns their pids.
    pub fn listening(&self, count: usize) -> Result<Vec<u32>> {
        self.pids_of("listening", |_| true, count, START_LIMIT)
    }

    fn pids_of(&self, kind: &str, wanted: impl Fn(&Value) -> bool, count: usize, limit: Duration) -> Result<Vec<u32>> {
        let service = self.container.service();
        wait::until(&format!("{count} × `{kind}` of {service}"), limit, || {
            let text = std::fs::read_to_string(&self.events).unwrap_or_default();
            let found: Vec<u32> = text
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .filter(|event| event.get("event").and_then(Value::as_str) == Some(kind) && wanted(event))
                .filter_map(|event| u32::try_from(event.get("pid")?.as_u64()?).ok())
                .collect();
            Ok((found.len() >= count).then_some(found))
        })
        .with_context(|| match self.container.logs() {
            Ok(printed) => format!("{service} wrote:\n{}{}", printed.stdout, printed.stderr),
            Err(error) => format!("{service} left no log: {error:#}"),
        })
    }

    /// The host's number of the process that is `inner` inside the container.
    pub fn host_pid(&self, inner: u32) -> Result<u32> {
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // A process that ends meanwhile is not the one that is wanted.
            let Ok(cgroup) = std::fs::read_to_string(format!("/proc/{pid}/cgroup")) else { continue };
            let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
            let innermost = status
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))
                .and_then(|pids| pids.split_whitespace().last()?.parse::<u32>().ok());
            if cgroup.contains(self.container.id()) && innermost == Some(inner) {
                return Ok(pid);
            }
        }
        bail!("no process {inner} in {}", self.container.name())
    }

    /// A signal from this very test process to a process of the container, in the host's numbers.
    pub fn signal_from_host(&self, pid: u32, signal: Signal) -> Result<()> {
        let pid = i32::try_from(pid).context("a pid")?;
        ensure!(pid > 1, "never the host's init");
        nix::sys::signal::kill(Pid::from_raw(pid), signal)
            .with_context(|| format!("signalling process {pid} of {}", self.container.name()))
    }
}
