//! What an incident says beyond its cause: the place of a crash, the limit behind a signal, the process that asked Docker.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::client::{Client, Pending, Request};
use crate::command::{OnInterrupt, run};
use crate::expect::{Broken, CrashPlace, Expected, Killer, NO_RESPONSE, broken};
use crate::live_case::{LiveCase, live_case};
use crate::stage::{Server, Stage};
use crate::wait;
use crate::witness::ExitStatus;

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case(
            "crash-in-native-module",
            "a crash in a native module on a thread of its own names both, and the address",
            crash_in_native_module,
        ),
        live_case(
            "cpu-limit",
            "a server at its limit of CPU time is killed by the kernel, and the limit is named",
            |stage| limited(stage, "/exceed-cpu-time", ExitStatus::SIGKILL, "cpu"),
        ),
        live_case(
            "file-size-limit",
            "a server at its limit of file size is ended by the kernel, and the limit is named",
            |stage| limited(stage, "/exceed-file-size", ExitStatus::SIGXFSZ, "file_size"),
        ),
        live_case(
            "kill-asked-by-shell",
            "the process of a shell that asked Docker for a kill is named",
            asked_by_shell,
        ),
        live_case(
            "kill-asked-by-container",
            "a process in a container that asked Docker for a kill is named",
            asked_by_container,
        ),
    ]
}

/// The engine's socket has had no other user for so long: longer than the second that counts.
const QUIET: Duration = Duration::from_millis(1_300);
/// The kernel's log is written before the process ends.
const LOG_LIMIT: Duration = Duration::from_secs(5);
/// The engine's socket, on the host and in the healer.
const SOCKET: &str = "/var/run/docker.sock";
/// Where the workload reads.
const UNMAPPED: u64 = 0x10;

/// A server under an init with one request open: the first process of a namespace ignores some of these signals.
struct Held {
    server: Server,
    /// The child of the init.
    pid: u32,
    client: Client,
    request: Pending,
}

impl Held {
    fn begin(stage: &Stage, path: &str) -> Result<Self> {
        let server = stage.server(stage.recipe("core").init(), "core", &["http"])?;
        let client = stage.client("web")?;
        let pid = server.host_pid(server.listening(1)?.into_iter().next().unwrap_or_default())?;
        let (route, _query) = path.split_once('?').unwrap_or((path, ""));
        let request = server.holds(&client, route, Request::get(&server.url(path)))?;
        Ok(Self { server, pid, client, request })
    }

    /// What the client got from the death.
    fn broken(&self) -> Result<Vec<Broken>> {
        let outcomes = self.client.ended(&self.request)?;
        broken(&self.client, &self.server.container, outcomes, NO_RESPONSE, "awaiting_response")
    }

    fn death(&self, kind: &'static str, end: ExitStatus) -> Result<Expected> {
        Ok(Expected::death(kind, &self.server.container, self.pid, end).breaking(self.broken()?))
    }
}

fn crash_in_native_module(stage: &Stage) -> Result<Vec<Expected>> {
    // The name finds this run's line in the kernel's log.
    let thread = format!("embed-{}", stage.port);
    let held = Held::begin(stage, &format!("/crash-on-a-thread?name={thread}"))?;
    let death = held.death("process_crashed", ExitStatus::SIGSEGV)?;
    let (module, offset) = wait::until("the kernel's log of the fault", LOG_LIMIT, || in_kernel_log(&thread))?;
    Ok(vec![death.at(CrashPlace { module, offset, address: Some(UNMAPPED), thread })])
}

fn limited(stage: &Stage, path: &str, end: ExitStatus, limit: &'static str) -> Result<Vec<Expected>> {
    let held = Held::begin(stage, path)?;
    Ok(vec![held.death("process_killed", end)?.limited_by(limit)])
}

/// `docker kill` by a process of the host that does nothing else.
fn asked_by_shell(stage: &Stage) -> Result<Vec<Expected>> {
    let held = Held::begin(stage, "/slow?seconds=60")?;
    sleep(QUIET);
    let mut docker = Command::new("docker").args(["kill", held.server.container.id()]).stdout(Stdio::null()).spawn()?;
    let asked = docker.id();
    ensure!(docker.wait()?.success(), "docker kill failed");
    let death = held.death("container_killed", ExitStatus::SIGKILL)?;
    Ok(vec![death.by(Killer::Docker("docker kill")).asked_by(asked, None)])
}

/// An auto-healer: a container that holds the engine's socket and posts a kill when a file appears.
fn asked_by_container(stage: &Stage) -> Result<Vec<Expected>> {
    let held = Held::begin(stage, "/slow?seconds=60")?;
    let script = format!(
        "import os, socket, time\n\
         while not os.path.exists('/case/heal'): time.sleep(0.01)\n\
         engine = socket.socket(socket.AF_UNIX)\n\
         engine.connect({SOCKET:?})\n\
         engine.send(b'POST /containers/{}/kill HTTP/1.1\\r\\nHost: docker\\r\\nConnection: close\\r\\n\\r\\n')\n\
         print(engine.recv(100))\n\
         time.sleep(60)\n",
        held.server.container.id()
    );
    let healer = stage.recipe("healer").mount(Path::new(SOCKET), SOCKET).start(&["python3", "-c", &script])?;
    let asked = healer.pid()?;
    sleep(QUIET);
    std::fs::write(stage.stack.folder().join("heal"), "")?;
    let death = held.death("container_killed", ExitStatus::SIGKILL)?;
    Ok(vec![death.by(Killer::Docker("docker kill")).asked_by(asked, Some(healer.name()))])
}

/// `embed-8003[71]: segfault at 10 ip … sp … error 4 in libz.so.1.2.13[401b,7ff3ef77d000+13000] …`: module, and offset in
/// its file, as x86 kernels print them (`print_vma_addr()` in mm/memory.c).
fn in_kernel_log(thread: &str) -> Result<Option<(String, u64)>> {
    let log = run(Command::new("dmesg").arg("--notime"), OnInterrupt::End)?.stdout;
    let begin = format!("{thread}[");
    let Some(line) = log.lines().rev().find(|line| line.starts_with(&begin)) else { return Ok(None) };
    ensure!(line.contains(&format!("segfault at {UNMAPPED:x} ")), "the kernel logged {line}");
    let place = line.split(" in ").nth(1).and_then(|rest| rest.split_once('['));
    let (module, rest) = place.with_context(|| format!("no module in {line}"))?;
    let (offset, _) =
        rest.split_once(',').with_context(|| format!("this kernel logs no offset in the file: {line}"))?;
    Ok(Some((module.to_owned(), u64::from_str_radix(offset, 16)?)))
}
