//! The clients of the live suite: `workload/client.py` with the real httpx in a container of its own, and a plain socket
//! on the host in place of an operator's `curl`.
//!
//! The Python client is a container's first process, never `docker exec`: what a process entered by exec does is, by
//! contract, no incident. Commands reach it through a named pipe, its responses are in a file of the case. It must never
//! retry.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::container::{Container, Recipe};
use crate::wait;
use crate::witness::{WallNanos, now};

/// How long a response of the client program may take beyond the waits of the case itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The class of an outcome that the client did not live to see.
pub const ABANDONED: &str = "abandoned";

/// What one request came to, as the client saw it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Outcome {
    pub index: usize,
    /// The exception's class; `none` where nothing was raised.
    pub class: String,
    pub errno: Option<String>,
    pub status: Option<u16>,
    pub message: String,
    /// httpcore's name of the step that failed.
    pub stage: Option<String>,
    /// Its socket's own address, where one was connected.
    pub local: Option<(IpAddr, u16)>,
    pub started: WallNanos,
    /// When the exception was raised, or the response complete.
    pub at: WallNanos,
}

/// A request to make; `GET` by httpx with a fresh client by default.
#[derive(Clone, Debug)]
pub struct Request(Value);

impl Request {
    #[must_use]
    pub fn get(url: &str) -> Self {
        Self(json!({ "url": url }))
    }

    /// A body of `bytes` bytes, sent with its length announced.
    #[must_use]
    pub fn upload(url: &str, bytes: u64) -> Self {
        Self(json!({ "url": url, "upload": { "bytes": bytes } }))
    }

    #[must_use]
    pub fn look_up(name: &str) -> Self {
        Self(json!({ "look_up": name }))
    }

    /// So many concurrently.
    #[must_use]
    pub fn times(self, count: usize) -> Self {
        self.with("count", json!(count))
    }

    /// By a client that is kept under this name, and with it its connections.
    #[must_use]
    pub fn session(self, name: &str) -> Self {
        self.with("session", json!(name))
    }

    #[must_use]
    pub fn by_requests(self) -> Self {
        self.with("library", json!("requests"))
    }

    #[must_use]
    pub fn read_timeout(self, seconds: f64) -> Self {
        self.with("timeout", json!({ "read": seconds }))
    }

    /// As gaia-web's `post_with_retry`, with half a second and a second between its attempts; then the fallback.
    #[must_use]
    pub fn retried(self, fallback: Option<&str>) -> Self {
        self.with("retry", json!({ "fallback": fallback, "waits": [0.5, 1.0] }))
    }

    /// As `ServiceClient`, which uses the fallback after a lasting 502, 503 or 504 as well.
    #[must_use]
    pub fn retried_for_statuses(self, fallback: &str) -> Self {
        self.with("retry", json!({ "fallback": fallback, "waits": [0.5, 1.0], "statuses": true }))
    }

    /// So many concurrent connections, each reused so many seconds after its first response, plus or minus the spread.
    #[must_use]
    pub fn reused(self, count: usize, after: f64, spread: f64) -> Self {
        self.times(count).with("reuse", json!({ "after": after, "spread": spread }))
    }

    /// Connections that are used again, each by a request that httpcore lets go before the server's close and that is
    /// written after it. `hold` is how the client's thread spends the time between: `busy`, or `on` with its other tasks.
    #[must_use]
    pub fn held_back(self, count: usize, hold: &str) -> Self {
        self.times(count).with("reuse", json!({ "after": 0.5, "spread": 0.0, "hold": hold }))
    }

    #[must_use]
    pub fn connect_timeout(self, seconds: f64) -> Self {
        self.with("timeout", json!({ "connect": seconds }))
    }

    /// Cancels the task so many seconds after its start.
    #[must_use]
    pub fn cancel_after(self, seconds: f64) -> Self {
        self.with("cancel_after", json!(seconds))
    }

    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        if let Some(fields) = self.0.as_object_mut() {
            fields.insert(key.to_owned(), value);
        }
        self
    }

    pub(crate) fn count(&self) -> usize {
        let count = self.0.get("count");
        count.and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok()).unwrap_or(1)
    }
}

/// The running client.
pub struct Client {
    /// Its container; for a client on the host, the container with its files.
    pub container: Container,
    on_host: Option<std::process::Child>,
    commands: Option<File>,
    events: PathBuf,
    asked: Cell<u32>,
}

/// Requests that are under way.
#[derive(Clone, Debug)]
pub struct Pending {
    id: String,
    count: usize,
}

impl Client {
    /// Starts the recipe's container and waits until the program in it is ready. `folder` is the case's, mounted at /case.
    pub(crate) fn start(recipe: Recipe, folder: &Path, service: &str) -> Result<Self> {
        let (pipe, script) = pipe(folder, service)?;
        let container = recipe.start(&["sh", "-c", &script])?;
        Self::ready(container, None, &pipe, folder, service)
    }

    /// The same program as a process of the host, as an operator's script is: in the files of a container that only
    /// lends them, in no namespace and no cgroup of it.
    pub(crate) fn start_on_host(recipe: Recipe, folder: &Path, service: &str) -> Result<Self> {
        let (pipe, script) = pipe(folder, service)?;
        let container = recipe.start(&["sleep", "infinity"])?;
        let root = format!("/proc/{}/root", container.pid()?);
        let child = Command::new("chroot").args([&root, "sh", "-c", &script]).stdin(Stdio::null()).spawn();
        Self::ready(container, Some(child.context("starting the host's client")?), &pipe, folder, service)
    }

    fn ready(
        container: Container,
        on_host: Option<std::process::Child>,
        pipe: &Path,
        folder: &Path,
        service: &str,
    ) -> Result<Self> {
        let events = folder.join(format!("{service}.events"));
        // For reading, too: opening it for writing alone would wait for the reader. The client sees the end of its input
        // when this is dropped.
        let commands = File::options().read(true).write(true).open(pipe).context("opening the client's pipe")?;
        let client = Self { container, on_host, commands: Some(commands), events, asked: Cell::new(0) };
        client.events("ready", None, 1, ANSWER_LIMIT)?;
        Ok(client)
    }

    /// Its container as an incident names it; none on the host.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.on_host.is_none().then(|| self.container.name())
    }

    /// Sends it. The exchange continues while the test does other things.
    pub fn send(&self, request: Request) -> Result<Pending> {
        self.asked.set(self.asked.get() + 1);
        let pending = Pending { id: format!("r{}", self.asked.get()), count: request.count() };
        let line = format!("{}\n", request.with("id", json!(pending.id)).0);
        let mut commands = self.commands.as_ref().context("the client has left")?;
        commands.write_all(line.as_bytes()).context("writing to the client")?;
        Ok(pending)
    }

    /// Waits for the header section of every response.
    pub fn begun(&self, pending: &Pending) -> Result<()> {
        self.events("begun", Some(&pending.id), pending.count, ANSWER_LIMIT).map(drop)
    }

    /// The sockets of requests whose client will not live to report their outcome.
    pub fn abandoned(&self, pending: &Pending) -> Result<Vec<Outcome>> {
        let events = self.events("sent", Some(&pending.id), pending.count, ANSWER_LIMIT)?;
        let abandoned = |event: Value| {
            let local =
                serde_json::from_value(event.get("local").cloned().unwrap_or_default()).context("an address")?;
            let started = event.get("at").and_then(Value::as_i64).context("an instant")?;
            Ok(Outcome { class: ABANDONED.to_owned(), local, started, ..Outcome::default() })
        };
        events.into_iter().map(abandoned).collect()
    }

    /// Waits for the outcome of every request.
    pub fn ended(&self, pending: &Pending) -> Result<Vec<Outcome>> {
        let events = self.events("end", Some(&pending.id), pending.count, ANSWER_LIMIT)?;
        events.into_iter().map(|event| serde_json::from_value(event).context("an outcome")).collect()
    }

    /// Waits until a retried request is over; each attempt, and what its caller saw in the end.
    pub fn attempts(&self, pending: &Pending) -> Result<(Vec<Outcome>, Outcome)> {
        let last = self.ended(pending)?.into_iter().next().context("no end")?;
        let events = self.events("attempt", Some(&pending.id), 1, ANSWER_LIMIT)?;
        let attempts = events.into_iter().map(|event| serde_json::from_value(event).context("an attempt"));
        Ok((attempts.collect::<Result<_>>()?, last))
    }

    /// Sends it and waits for its end.
    pub fn ask(&self, request: Request) -> Result<Vec<Outcome>> {
        self.ended(&self.send(request)?)
    }

    /// The same for what has to succeed.
    pub fn ask_well(&self, request: Request) -> Result<Vec<Outcome>> {
        let outcomes = self.ask(request)?;
        let failed = outcomes.iter().find(|outcome| outcome.class != "none");
        ensure!(failed.is_none(), "a request that should succeed failed: {failed:?}");
        Ok(outcomes)
    }

    fn events(&self, kind: &str, id: Option<&str>, count: usize, limit: Duration) -> Result<Vec<Value>> {
        wait::until(&format!("{count} × `{kind}` of the client"), limit, || {
            let text = std::fs::read_to_string(&self.events).unwrap_or_default();
            let found: Vec<Value> = text
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .filter(|event| event.get("event").and_then(Value::as_str) == Some(kind))
                .filter(|event| id.is_none() || event.get("id").and_then(Value::as_str) == id)
                .collect();
            Ok((found.len() >= count).then_some(found))
        })
        .with_context(|| std::fs::read_to_string(&self.events).unwrap_or_default())
    }

    /// Ends its input, and with it the program: an orderly exit 0.
    pub fn leave(&mut self) {
        self.commands = None;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.leave();
        if let Some(child) = &mut self.on_host {
            // It ends with its input; a request that is still open must not keep it.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The pipe by which a client gets its commands, and the script that makes a shell the client.
fn pipe(folder: &Path, service: &str) -> Result<(PathBuf, String)> {
    let pipe = folder.join(format!("{service}.commands"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).context("making the client's pipe")?;
    Ok((pipe, format!("exec python3 /workload/client.py </case/{service}.commands >/case/{service}.events")))
}

fn get(host: SocketAddr, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n")
}

/// One request by a plain socket of this very process, read to its end by a thread.
pub struct HostRequest(JoinHandle<Result<Outcome>>);

impl HostRequest {
    pub fn send(to: SocketAddr, path: &str) -> Result<Self> {
        let mut request = Open::connect(to)?;
        request.stream.write_all(get(to, path).as_bytes())?;
        Ok(Self(std::thread::spawn(|| request.ended())))
    }

    /// Writes only when the peer's FIN has come, as a client does that is slower than its peer's failure.
    pub fn send_after_fin(to: SocketAddr, path: &str) -> Result<Self> {
        let mut request = Open::connect(to)?;
        ensure!(request.stream.peek(&mut [0])? == 0, "{to} sent bytes unasked");
        request.stream.write_all(get(to, path).as_bytes())?;
        // On loopback the resulting RST is processed within the write: the next read returns the socket's error.
        Ok(Self(std::thread::spawn(|| request.ended())))
    }

    /// The response that arrived before the server closed.
    pub fn answered(self) -> Result<String> {
        let outcome = self.ended()?;
        ensure!(outcome.errno.is_none(), "{outcome:?}");
        Ok(outcome.message)
    }

    /// The exception that httpx would have raised on what this socket received, for a response that stayed incomplete.
    pub fn ended(self) -> Result<Outcome> {
        self.0.join().unwrap_or_else(|_| bail!("the thread of the host's request panicked"))
    }
}

struct Open {
    stream: TcpStream,
    started: WallNanos,
}

impl Open {
    fn connect(to: SocketAddr) -> Result<Self> {
        let started = now();
        let stream = TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        Ok(Self { stream, started })
    }

    fn ended(mut self) -> Result<Outcome> {
        let local = self.stream.local_addr()?;
        let mut bytes = Vec::new();
        let read = self.stream.read_to_end(&mut bytes);
        let at = now();
        // After a FIN every read gives the end of the stream, also when a RST has come since: the socket keeps the error.
        let error = match read {
            Ok(_) => self.stream.take_error()?,
            Err(error) => Some(error),
        };
        let (class, errno) = match error.as_ref().map(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))
        {
            None => ("RemoteProtocolError", None),
            Some(Errno::ECONNRESET) => ("ReadError", Some("ECONNRESET")),
            Some(Errno::EPIPE) => ("ReadError", Some("EPIPE")),
            Some(other) => bail!("the host's request got neither an end nor a reset: {other}"),
        };
        Ok(Outcome {
            index: 0,
            class: class.to_owned(),
            errno: errno.map(str::to_owned),
            status: None,
            message: String::from_utf8_lossy(&bytes).into_owned(),
            stage: None,
            local: Some((local.ip(), local.port())),
            started: self.started,
            at,
        })
    }
}
