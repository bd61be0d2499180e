//! The built `gaia-monitor run` as a child process: waits until it is ready, collects its incident lines typed, ends it
//! by SIGINT as an operator would, and keeps its output.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use gaia_monitor::model::event::Event;
use gaia_monitor::model::incident::Incident;
use gaia_monitor::recording::reader::{Entry, Reader};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::command::{OnInterrupt, run};
use crate::{host, wait};

/// Names the binary to test; without it the harness builds one.
pub const BINARY_ENV: &str = "GAIA_MONITOR_BIN";
/// Attaching the probe takes well under a second; reading a big inventory may take some.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a monitor may flush and close after SIGINT.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

/// One line of the monitor's standard output.
#[derive(Clone, Debug)]
pub struct Line {
    /// When the harness read it.
    pub received: SystemTime,
    /// As printed, without the newline.
    pub raw: String,
    pub value: Value,
    pub incident: Incident,
}

/// How to start it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--project`; none means every container of the host.
    pub projects: Vec<String>,
    /// Further arguments.
    pub args: Vec<OsString>,
    /// The binary; none means [`binary`].
    pub binary: Option<PathBuf>,
    /// Its `--duration`: it ends after this time if its owner is killed. Default: ten minutes.
    pub at_most: Option<Duration>,
}

impl Options {
    /// With this binary.
    #[must_use]
    pub fn of(binary: &Path) -> Self {
        Self { binary: Some(binary.to_owned()), ..Self::default() }
    }

    /// Limited to this project, or these if called again.
    #[must_use]
    pub fn project(mut self, project: &str) -> Self {
        self.projects.push(project.to_owned());
        self
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }
}

#[derive(Debug, Default)]
struct Heard {
    lines: Vec<Line>,
    /// The first line that was no incident.
    broken: Option<String>,
}

/// A running monitor. Dropping it ends it.
#[derive(Debug)]
pub struct Monitor {
    child: Child,
    heard: Arc<Mutex<Heard>>,
    readers: Vec<JoinHandle<()>>,
    stderr: Arc<Mutex<String>>,
    recording: PathBuf,
    ready: Value,
}

/// A monitor that has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub lines: Vec<Line>,
    pub stderr: String,
    pub recording: PathBuf,
}

impl Monitor {
    /// Starts it with JSON output and a recording in `folder`, and waits for its ready file.
    ///
    /// # Errors
    /// When it cannot be built or started, or ends or hangs before it is ready; quotes its standard error.
    pub fn start(folder: &Path, options: &Options) -> Result<Self> {
        let recording = folder.join("recording.jsonl");
        let ready_file = folder.join("ready.json");
        let _ = std::fs::remove_file(&ready_file);
        let at_most = options.at_most.unwrap_or(Duration::from_secs(600));
        let mut command = Command::new(options.binary.clone().map_or_else(binary, Ok)?);
        command.args(["run", "--output", "json", "--duration", &at_most.as_secs().to_string()]);
        // A stage that starts a second monitor replaces the first one's recording.
        command.arg("--force").arg("--record").arg(&recording).arg("--ready-file").arg(&ready_file);
        for project in &options.projects {
            command.args(["--project", project]);
        }
        command.args(&options.args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let shown = crate::command::shown(&command);
        let mut child = command.process_group(0).spawn().with_context(|| format!("cannot start `{shown}`"))?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let stderr = Arc::new(Mutex::new(String::new()));
        let readers = [
            child.stdout.take().map(|pipe| listen(pipe, Arc::clone(&heard))),
            child.stderr.take().map(|pipe| keep(pipe, Arc::clone(&stderr))),
        ];
        let readers = readers.into_iter().flatten().collect();
        let mut monitor = Self { child, heard, readers, stderr, recording, ready: Value::Null };
        let ready = wait::until("the monitor to be ready", READY_WITHIN, || {
            if let Some(status) = monitor.child.try_wait().context("cannot look after the monitor")? {
                bail!("the monitor ended before it was ready ({status})");
            }
            Ok(std::fs::read_to_string(&ready_file).ok().filter(|text| text.ends_with('\n')))
        })
        .with_context(|| format!("`{shown}` wrote:\n{}", monitor.stderr()))?;
        monitor.ready = serde_json::from_str(&ready).context("the ready file is no JSON")?;
        // Every kernel that is supported has every probe; a monitor without one is judged by other rules.
        let missing = monitor.ready.get("missing");
        ensure!(missing == Some(&json!([])), "probes are missing here: {missing:?}");
        Ok(monitor)
    }

    /// The ready file's content: `version`, `probes`, `missing`.
    #[must_use]
    pub fn ready(&self) -> &Value {
        &self.ready
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The recording so far.
    #[must_use]
    pub fn recording(&self) -> &Path {
        &self.recording
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        locked(&self.stderr).clone()
    }

    /// Every line so far, all revisions.
    ///
    /// # Errors
    /// When a line is not an incident of the contract.
    pub fn lines(&self) -> Result<Vec<Line>> {
        sound(&locked(&self.heard))
    }

    /// The last revision of each incident so far, in the order of their first revisions.
    ///
    /// # Errors
    /// When a line is not an incident of the contract.
    pub fn incidents(&self) -> Result<Vec<Incident>> {
        Ok(last_revisions(&self.lines()?))
    }

    /// Waits until `pick` finds what it looks for among the last revisions.
    ///
    /// # Errors
    /// When it does not in time, or the monitor has ended; lists the published incidents.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut pick: impl FnMut(&[Incident]) -> Option<T>,
    ) -> Result<T> {
        let waited = wait::until(what, within, || {
            if let Some(found) = pick(&self.incidents()?) {
                return Ok(Some(found));
            }
            match self.child.try_wait().context("cannot look after the monitor")? {
                Some(status) => bail!("the monitor ended ({status}):\n{}", self.stderr()),
                None => Ok(None),
            }
        });
        waited.with_context(|| {
            let published: Vec<String> = self.incidents().unwrap_or_default().iter().map(one_line).collect();
            if published.is_empty() { "the monitor published no incident".to_owned() } else { published.join("\n") }
        })
    }

    /// Ends it by SIGINT and waits for it.
    ///
    /// # Errors
    /// When it does not end in time (it is then killed), or a line was no incident.
    pub fn stop(mut self) -> Result<Ended> {
        let status = self.end()?;
        let lines = self.lines()?;
        Ok(Ended { status, lines, stderr: self.stderr(), recording: self.recording.clone() })
    }

    fn end(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait().context("cannot look after the monitor")? {
            self.join();
            return Ok(status);
        }
        let pid = Pid::from_raw(i32::try_from(self.child.id()).context("a pid beyond the kernel's")?);
        kill(pid, Signal::SIGINT).context("cannot signal the monitor")?;
        // While cleaning up after Ctrl-C this wait must happen, too.
        let ended = wait::quietly(ENDS_WITHIN, || matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)));
        if !ended {
            self.child.kill().context("cannot kill the monitor")?;
        }
        let status = self.child.wait().context("cannot wait for the monitor")?;
        self.join();
        if !ended {
            bail!("the monitor did not end within {} s of SIGINT:\n{}", ENDS_WITHIN.as_secs(), self.stderr());
        }
        Ok(status)
    }

    fn join(&mut self) {
        for reader in self.readers.drain(..) {
            // A reader cannot panic but for a poisoned lock, which `locked` looks past.
            let _ = reader.join();
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if !self.readers.is_empty()
            && let Err(error) = self.end()
        {
            eprintln!("{error:#}");
        }
    }
}

impl Ended {
    /// The last revision of each incident, in the order of their first revisions.
    #[must_use]
    pub fn incidents(&self) -> Vec<Incident> {
        last_revisions(&self.lines)
    }
}

/// The last revision of each incident, in the order of their first revisions.
#[must_use]
pub fn last_revisions(lines: &[Line]) -> Vec<Incident> {
    let mut last: Vec<Incident> = Vec::new();
    for line in lines {
        match last.iter_mut().find(|incident| incident.id == line.incident.id) {
            Some(incident) => incident.clone_from(&line.incident),
            None => last.push(line.incident.clone()),
        }
    }
    last
}

/// For error messages.
#[must_use]
pub fn one_line(incident: &Incident) -> String {
    use gaia_monitor::model::incident::name_of;
    format!(
        "{} r{} {}: {} ({} affected)",
        incident.id,
        incident.revision,
        name_of(&incident.state),
        incident.cause.summary,
        incident.affected_total
    )
}

static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// The binary named by [`use_binary`] or [`BINARY_ENV`], else one built now in this build's own profile.
///
/// # Errors
/// When it cannot be built.
pub fn binary() -> Result<PathBuf> {
    let binary = BINARY.get_or_init(|| match std::env::var_os(BINARY_ENV) {
        Some(path) => Ok(PathBuf::from(path)),
        None => build(!cfg!(debug_assertions)).map_err(|error| format!("{error:#}")),
    });
    binary.clone().map_err(anyhow::Error::msg)
}

/// Makes this the binary of the whole process; the first call wins.
pub fn use_binary(path: &Path) {
    let _already_chosen = BINARY.set(Ok(path.to_owned()));
}

/// Builds the binary as users get it and returns its path.
///
/// # Errors
/// When cargo fails.
pub fn build(release: bool) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "gaia-monitor"]).current_dir(host::workspace());
    if release {
        command.arg("--release");
    }
    run(&mut command, OnInterrupt::End).context("cannot build gaia-monitor")?;
    Ok(host::target_dir().join(if release { "release" } else { "debug" }).join("gaia-monitor"))
}

fn listen(pipe: impl Read + Send + 'static, heard: Arc<Mutex<Heard>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for raw in BufReader::new(pipe).lines().map_while(Result::ok) {
            let received = SystemTime::now();
            let parsed = serde_json::from_str::<Value>(&raw)
                .and_then(|value| Ok((serde_json::from_value::<Incident>(value.clone())?, value)));
            let mut heard = locked(&heard);
            match parsed {
                Ok((incident, value)) => heard.lines.push(Line { received, raw, value, incident }),
                Err(error) => {
                    heard.broken.get_or_insert(format!("{error}: {raw}"));
                }
            }
        }
    })
}

fn keep(pipe: impl Read + Send + 'static, kept: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut kept = locked(&kept);
            kept.push_str(&line);
            kept.push('\n');
        }
    })
}

fn sound(heard: &Heard) -> Result<Vec<Line>> {
    match &heard.broken {
        Some(broken) => bail!("a line of standard output is no incident of the contract: {broken}"),
        None => Ok(heard.lines.clone()),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The events of a recording so far, also of one that is still being written.
///
/// # Errors
/// When the file cannot be read or is no recording.
pub fn events_of(recording: &Path) -> Result<Vec<Event>> {
    let mut reader = Reader::open(recording)?;
    let mut events = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        if let Entry::Event(event) = entry {
            events.push(*event);
        }
    }
    Ok(events)
}

/// The lines of a recording or of other JSON Lines.
///
/// # Errors
/// When the file cannot be read or a line is no JSON.
pub fn json_lines(path: &Path) -> Result<Vec<Value>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut values = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        values.push(serde_json::from_str(&line).with_context(|| format!("no JSON in {}: {line}", path.display()))?);
    }
    Ok(values)
}
