//! The files that `assets` prints for operators, checked by the tools that read them and used as intended.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gaia_monitor::model::incident::CauseKind;
use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::command::{OnInterrupt, Printed, run, run_any};
use gaia_monitor_tests::host::{self, Need};
use gaia_monitor_tests::monitor::{Monitor, Options, binary};
use gaia_monitor_tests::stage::Stage;
use gaia_monitor_tests::wait;
use gaia_monitor_tests::witness::Witness;
use nix::sys::signal::Signal;

const WITHIN: Duration = Duration::from_secs(30);
/// Where the unit expects the program.
const INSTALLED: &str = "/usr/local/bin/gaia-monitor";
/// A watchdog message to the service manager.
const ALIVE: &str = "WATCHDOG=1\n";
/// The highest permitted score of `systemd-analyze security`, in tenths.
const EXPOSURE: &str = "--threshold=40";

fn asset(name: &str) -> Result<String> {
    Ok(run(Command::new(binary()?).args(["assets", name]), OnInterrupt::End)?.stdout)
}

fn no_complaint(command: &mut Command) -> Result<Printed> {
    let printed = run(command, OnInterrupt::End)?;
    ensure!(printed.stderr.trim().is_empty(), "{command:?} complains: {}", printed.stderr);
    Ok(printed)
}

fn passes(result: Result<()>) {
    if let Err(error) = result {
        panic!("{error:#}");
    }
}

#[test]
fn the_unit_passes_systemd_analyze() {
    passes(unit_is_sound());
}

fn unit_is_sound() -> Result<()> {
    host::ensure(&[Need::SystemdAnalyze], &mut |step| eprintln!("{step}"))?;
    let place = tempfile::tempdir()?;
    let unit = place.path().join("gaia-monitor.service");
    let text = asset("systemd-unit")?;
    ensure!(text.contains(&format!("ExecStart={INSTALLED} run")), "{text}");
    // Where this host has it: systemd looks for the program, too.
    fs::write(&unit, text.replace(INSTALLED, &binary()?.to_string_lossy()))?;
    no_complaint(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit))?;
    let security = ["security", "--offline=true", "--no-pager", EXPOSURE];
    run(Command::new("systemd-analyze").args(security).arg(&unit), OnInterrupt::End)?;
    // A unit without the hardening must fail the same check, or the check is void.
    fs::write(&unit, "[Service]\nExecStart=/bin/true\n")?;
    let (status, _) = run_any(Command::new("systemd-analyze").args(security).arg(&unit), OnInterrupt::End)?;
    ensure!(!status.success(), "any unit passes");
    Ok(())
}

#[test]
fn runs_with_the_units_capabilities_and_notifies_the_service_manager() {
    passes(as_the_unit_does());
}

fn as_the_unit_does() -> Result<()> {
    let unit = asset("systemd-unit")?;
    let set = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).context("no bounding set")?;
    let set: Vec<String> =
        set.split_whitespace().map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase())).collect();
    let stage = Stage::begin(Witness::get()?)?;
    let place = stage.stack.folder().to_owned();
    let socket = UnixDatagram::bind(place.join("notify"))?;
    socket.set_read_timeout(Some(WITHIN))?;
    let script = place.join("as-a-unit");
    let words = [
        "#!/bin/sh".to_owned(),
        format!("export NOTIFY_SOCKET={}/notify WATCHDOG_USEC=30000000", place.display()),
        "unset WATCHDOG_PID".to_owned(),
        format!(
            "exec setpriv --bounding-set=-all,{} --inh-caps=-all --no-new-privs {} \"$@\"",
            set.join(","),
            binary()?.display()
        ),
    ];
    fs::write(&script, words.join("\n"))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;

    let monitor = Monitor::start(&place, &Options::of(&script).project(stage.stack.project()))?;
    let ready = wait::until("the word that it is ready", WITHIN, || {
        let word = heard(&socket)?;
        Ok((word != ALIVE).then_some(word))
    })?;
    ensure!(ready.starts_with("READY=1\nSTATUS=") && ready.contains("probes attached"), "{ready:?}");
    ensure!(heard(&socket)? == ALIVE, "no sign of life");
    pins_a_kill(&stage, monitor)?;
    let last = wait::until("the last word", WITHIN, || {
        let word = heard(&socket)?;
        Ok((word != ALIVE).then_some(word))
    })?;
    ensure!(last == "STOPPING=1\n", "{last:?}");
    stage.stack.remove()
}

fn heard(socket: &UnixDatagram) -> Result<String> {
    let mut word = [0; 4096];
    let length = socket.recv(&mut word).context("nothing was said to the service manager")?;
    Ok(String::from_utf8_lossy(word.get(..length).unwrap_or_default()).into_owned())
}

fn pins_a_kill(stage: &Stage, mut monitor: Monitor) -> Result<()> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    server.signal_from_host(server.pid, Signal::SIGKILL)?;
    client.ended(&request)?;
    let incident = monitor
        .wait_for("the kill", WITHIN, |all| all.iter().find(|incident| incident.affected_total == 1).cloned())?;
    ensure!(incident.cause.kind == CauseKind::ProcessKilled, "{incident:?}");
    ensure!(incident.subject.pid.map(|pid| pid.0) == Some(server.pid), "{incident:?}");
    let ended = monitor.stop()?;
    ensure!(ended.status.success() && !ended.stderr.contains("warning"), "{}: {}", ended.status, ended.stderr);
    Ok(())
}

#[test]
fn the_compose_service_reports_a_kill_from_its_container() {
    passes(in_a_container());
}

/// The service in a project of its own; removed, with image and volume, on drop.
struct Composed {
    files: [PathBuf; 2],
    project: String,
    base: String,
}

impl Composed {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker-compose");
        for file in &self.files {
            command.arg("-f").arg(file);
        }
        command.args(["-p", &self.project]).args(args).env("GAIA_MONITOR_BASE", &self.base);
        command
    }
}

impl Drop for Composed {
    fn drop(&mut self) {
        let mut down = self.command(&["down", "--volumes", "--rmi", "all", "--timeout", "10"]);
        if let Err(error) = run(&mut down, OnInterrupt::Finish) {
            eprintln!("{error:#}");
        }
    }
}

fn in_a_container() -> Result<()> {
    host::ensure(&[Need::DockerCompose], &mut |step| eprintln!("{step}"))?;
    let stage = Stage::begin(Witness::get()?)?;
    let composed = compose(&stage)?;
    let config = no_complaint(&mut composed.command(&["config"]))?.stdout;
    ensure!(config.contains("network_mode: host") && config.contains("pid: host"), "{config}");
    run(&mut composed.command(&["up", "--detach", "--build"]), OnInterrupt::End)?;
    let in_monitor = |args: &[&str]| {
        let mut command = composed.command(&["exec", "-T", "gaia-monitor"]);
        run_any(command.args(args), OnInterrupt::End)
    };
    wait::until("the monitor in its container", WITHIN, || {
        let (status, _) = in_monitor(&["test", "-e", "/var/lib/gaia-monitor/ready"])?;
        Ok(status.success().then_some(()))
    })
    .with_context(|| {
        let logs = run(&mut composed.command(&["logs"]), OnInterrupt::End).unwrap_or_default();
        format!("it wrote:\n{}{}", logs.stdout, logs.stderr)
    })?;

    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    server.signal_from_host(server.pid, Signal::SIGKILL)?;
    client.ended(&request)?;
    // As an operator does: with the journal, in the container.
    let explain = [
        "gaia-monitor",
        "explain",
        "--journal",
        "/var/lib/gaia-monitor",
        "--client",
        "web",
        "--error",
        "RemoteProtocolError",
        "--output",
        "json",
    ];
    let line = wait::until("the incident in the journal", WITHIN, || {
        let (status, printed) = in_monitor(&explain)?;
        Ok(status.success().then_some(printed.stdout))
    })?;
    let incident: gaia_monitor::model::incident::Incident = serde_json::from_str(line.lines().next().unwrap_or(""))?;
    ensure!(incident.cause.kind == CauseKind::ProcessKilled, "{incident:?}");
    ensure!(incident.subject.pid.map(|pid| pid.0) == Some(server.pid), "the host's pid, not {incident:?}");
    ensure!(incident.subject.service.as_deref() == Some("core"), "{incident:?}");
    drop(composed);
    stage.stack.remove()
}

/// The shipped files in the case's folder as in the header of the Compose file, and next to them what a test needs:
/// names and labels of its own, its scope, no port that an operator's monitor may have.
fn compose(stage: &Stage) -> Result<Composed> {
    let place = stage.stack.folder().join("composed");
    let context = place.join("gaia-monitor");
    fs::create_dir_all(&context)?;
    copy(&binary()?, &context.join("gaia-monitor"))?;
    fs::write(context.join("Dockerfile"), asset("compose-dockerfile")?)?;
    let shipped = place.join("gaia-monitor.yml");
    fs::write(&shipped, asset("compose-service")?)?;
    let project = stage.stack.project().to_owned();
    let command = format!(
        "[run, --journal, /var/lib/gaia-monitor, --ready-file, /var/lib/gaia-monitor/ready, --project, {project}]"
    );
    let labels: Vec<String> = stage.stack.run().labels().iter().map(|label| format!("      - {label}\n")).collect();
    let test = place.join("test.yml");
    let text = format!(
        "services:\n  gaia-monitor:\n    image: {project}:monitor\n    command: {command}\n    restart: \"no\"\n    \
         labels:\n{}",
        labels.concat()
    );
    fs::write(&test, text)?;
    // A project of its own: `down` must not touch the case's network.
    let project = format!("{project}-monitor");
    Ok(Composed { files: [shipped, test], project, base: stage.stack.image().tag().to_owned() })
}

/// By another process: one that holds a program open for writing makes its start fail.
fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg(from).arg(to), OnInterrupt::End).map(drop)
}
