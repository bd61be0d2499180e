//! One container: described by a builder, started by the `docker` command, observed without touching its traffic.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cleanup::RUN_LABEL;
use crate::command::Printed;
use crate::docker;
use crate::stack::Stack;
use crate::wait;

/// The state of a listening socket in `/proc/net/tcp` (include/net/tcp_states.h: `TCP_LISTEN` is 10).
const LISTEN: &str = "0A";

/// The arguments of `docker run`.
#[derive(Clone, Debug)]
pub struct Recipe {
    name: String,
    service: String,
    options: Vec<String>,
    image: String,
}

impl Recipe {
    pub(crate) fn new(stack: &Stack, service: &str) -> Self {
        let name = format!("{}-{service}", stack.project());
        let mut recipe =
            Self { name, service: service.to_owned(), options: Vec::new(), image: stack.image().tag().to_owned() };
        for label in stack.run().labels() {
            recipe = recipe.option("--label", &label);
        }
        recipe
            .option("--label", &format!("com.docker.compose.project={}", stack.project()))
            .option("--label", &format!("com.docker.compose.service={service}"))
            .option("--network", stack.network().name())
            .option("--network-alias", service)
    }

    /// Any other option of `docker run` with its value.
    #[must_use]
    pub fn option(mut self, option: &str, value: &str) -> Self {
        self.options.push(format!("{option}={value}"));
        self
    }

    /// In this network, or another container's or the host's, instead of the stack's own.
    #[must_use]
    pub fn network(mut self, network: &str) -> Self {
        self.options.retain(|option| !option.starts_with("--network"));
        self.option("--network", network)
    }

    #[must_use]
    pub fn env(self, name: &str, value: &str) -> Self {
        self.option("--env", &format!("{name}={value}"))
    }

    /// One more name in the network.
    #[must_use]
    pub fn alias(self, alias: &str) -> Self {
        self.option("--network-alias", alias)
    }

    #[must_use]
    pub fn label(self, name: &str, value: &str) -> Self {
        self.option("--label", &format!("{name}={value}"))
    }

    /// Memory limit in bytes, without swap beyond it.
    #[must_use]
    pub fn memory(self, bytes: u64) -> Self {
        self.option("--memory", &bytes.to_string()).option("--memory-swap", &bytes.to_string())
    }

    /// `unless-stopped`, `on-failure:3` …
    #[must_use]
    pub fn restart(self, policy: &str) -> Self {
        self.option("--restart", policy)
    }

    /// docker-init as the first process.
    #[must_use]
    pub fn init(self) -> Self {
        self.option("--init", "true")
    }

    /// Publishes a port on a free port of 127.0.0.1; [`Container::published_port`] returns it.
    #[must_use]
    pub fn publish(self, port: u16) -> Self {
        self.option("--publish", &format!("127.0.0.1::{port}"))
    }

    /// A folder or file of this host, read-only.
    #[must_use]
    pub fn mount(self, from: &Path, to: &str) -> Self {
        self.option("--volume", &format!("{}:{to}:ro", from.display()))
    }

    /// Starts it with this command.
    ///
    /// # Errors
    /// With Docker's own message.
    pub fn start(self, command: &[&str]) -> Result<Container> {
        let Self { name, service, options, image } = self;
        let args: Vec<String> = ["run", "--detach", "--name", &name]
            .into_iter()
            .map(str::to_owned)
            .chain(options)
            .chain([image])
            .chain(command.iter().map(|&word| word.to_owned()))
            .collect();
        let id = docker::docker(args).with_context(|| format!("cannot start {service}"))?.trim().to_owned();
        Ok(Container { id, name, service })
    }
}

/// A started container. It is removed with its stack, not with this value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    id: String,
    name: String,
    service: String,
}

impl Container {
    /// Docker's full id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Compose service, which is also its name in the network.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The output of `docker inspect` with a Go template.
    ///
    /// # Errors
    /// With Docker's own message.
    pub fn inspect(&self, template: &str) -> Result<String> {
        Ok(docker::docker(["inspect", "--type=container", "--format", template, &self.id])?.trim().to_owned())
    }

    /// The host's pid of its first process; an error while it does not run.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<u32> {
        let pid: u32 = self.inspect("{{.State.Pid}}")?.parse().context("Docker's pid is no number")?;
        if pid == 0 {
            bail!("{} does not run", self.name);
        }
        Ok(pid)
    }

    /// Its address in the stack's network.
    ///
    /// # Errors
    /// With Docker's own message.
    pub fn ip(&self) -> Result<String> {
        self.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    }

    /// The port of 127.0.0.1 that leads to `port`.
    ///
    /// # Errors
    /// When it is not published.
    pub fn published_port(&self, port: u16) -> Result<u16> {
        let shown = docker::docker(["port", &self.id, &format!("{port}/tcp")])?;
        let first = shown.lines().next().and_then(|line| line.rsplit_once(':'));
        first.and_then(|(_, port)| port.parse().ok()).with_context(|| format!("no published port in {shown:?}"))
    }

    /// Everything that it wrote so far.
    ///
    /// # Errors
    /// With Docker's own message.
    pub fn logs(&self) -> Result<Printed> {
        docker::both(["logs", &self.id])
    }

    /// `docker stop` with its own grace, or the given one.
    ///
    /// # Errors
    /// With Docker's own message.
    pub fn stop(&self, grace_seconds: Option<u32>) -> Result<()> {
        let grace = grace_seconds.map(|seconds| format!("--time={seconds}"));
        docker::docker(["stop"].into_iter().chain(grace.as_deref()).chain([self.id.as_str()]))?;
        Ok(())
    }

    /// `docker kill -s SIGNAL`.
    ///
    /// # Errors
    /// With Docker's own message.
    pub fn kill(&self, signal: &str) -> Result<()> {
        docker::docker(["kill", "--signal", signal, &self.id])?;
        Ok(())
    }

    /// Any verb that takes just a container: `restart`, `pause`, `unpause`, `start` …
    ///
    /// # Errors
    /// With Docker's own message.
    pub fn verb(&self, verb: &str) -> Result<()> {
        docker::docker([verb, &self.id])?;
        Ok(())
    }

    /// `docker exec`; what it printed.
    ///
    /// # Errors
    /// With Docker's own message, or the command's standard error.
    pub fn exec(&self, command: &[&str]) -> Result<String> {
        docker::docker(["exec", &self.id].iter().chain(command))
    }

    /// Waits until a socket of its network namespace listens on `port`, without connecting to it.
    ///
    /// # Errors
    /// When it does not in time, or its first process has ended; quotes the last lines of its log.
    pub fn wait_listening(&self, port: u16, within: Duration) -> Result<()> {
        let what = format!("{} to listen on port {port}", self.service);
        wait::until(&what, within, || {
            let pid = self.pid()?;
            Ok(["tcp", "tcp6"].iter().any(|table| listens(pid, table, port)).then_some(()))
        })
        .with_context(|| self.last_words())
    }

    /// Waits until a log line contains `needle` and returns that line.
    ///
    /// # Errors
    /// When there is none in time; quotes the last lines of its log.
    pub fn wait_log(&self, needle: &str, within: Duration) -> Result<String> {
        let what = format!("{needle:?} in the log of {}", self.service);
        wait::until(&what, within, || {
            let Printed { stdout, stderr } = self.logs()?;
            Ok(stdout.lines().chain(stderr.lines()).find(|line| line.contains(needle)).map(str::to_owned))
        })
        .with_context(|| self.last_words())
    }

    /// Waits until it has ended and returns its exit code as Docker reports it.
    ///
    /// # Errors
    /// When it runs on.
    pub fn wait_exit(&self, within: Duration) -> Result<i32> {
        let what = format!("the end of {}", self.service);
        let code = wait::until(&what, within, || {
            let state = self.inspect("{{.State.Status}} {{.State.ExitCode}}")?;
            Ok(state.strip_prefix("exited ").map(str::to_owned))
        })?;
        code.parse().with_context(|| format!("exit code {code:?} is no number"))
    }

    fn last_words(&self) -> String {
        match self.logs() {
            Ok(Printed { stdout, stderr }) => {
                let lines: Vec<&str> = stdout.lines().chain(stderr.lines()).collect();
                let last = lines.get(lines.len().saturating_sub(15)..).unwrap_or(&lines);
                format!("{} wrote last:\n{}", self.service, last.join("\n"))
            }
            Err(_) => format!("{} left no log", self.service),
        }
    }
}

/// All containers of a run, by Docker's own list: a test must find it empty after its stack is removed.
///
/// # Errors
/// When Docker does not respond.
pub fn of_run(run: &str) -> Result<Vec<String>> {
    let filter = format!("label={RUN_LABEL}={run}");
    Ok(docker::docker(["ps", "--all", "--quiet", "--filter", &filter])?.lines().map(str::to_owned).collect())
}

fn listens(pid: u32, table: &str, port: u16) -> bool {
    let suffix = format!(":{port:04X}");
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/net/{table}")) else { return false };
    text.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.nth(1).is_some_and(|local| local.ends_with(&suffix)) && fields.nth(1) == Some(LISTEN)
    })
}
