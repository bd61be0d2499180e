//! Privileges of a running monitor: each thread keeps what the page lists, and that is enough for its work.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gaia_monitor::model::event::{Event, Fact, TcpState};
use gaia_monitor::model::incident::{CauseKind, Incident};
use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::host;
use gaia_monitor_tests::monitor::{Monitor, Options, json_lines};
use gaia_monitor_tests::stage::Stage;
use gaia_monitor_tests::wait;
use gaia_monitor_tests::witness::Witness;
use nix::sys::signal::Signal;
use serde_json::Value;

const TOLD_WITHIN: Duration = Duration::from_secs(15);
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// A user with processes that root cannot inspect without a privilege.
const STRANGER: &str = "1000";
/// Numbers from include/uapi/linux/capability.h.
const NUMBERS: [(&str, u32); 4] =
    [("CAP_DAC_READ_SEARCH", 2), ("CAP_SYS_PTRACE", 19), ("CAP_SYS_ADMIN", 21), ("CAP_DAC_OVERRIDE", 1)];

/// The capabilities of each thread by `docs/privileges.md`, as a mask.
fn page() -> Result<BTreeMap<String, u64>> {
    let path = host::workspace().join("gaia-monitor/docs/privileges.md");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut kept = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (Some(thread), Some(keeps)) = (cells.first(), cells.get(2)) else { continue };
        let mask = match NUMBERS.iter().find(|(name, _)| name == keeps) {
            Some((_, number)) => 1 << number,
            None if *keeps == "nothing" => 0,
            None => anyhow::bail!("{keeps} has no number here"),
        };
        *kept.entry(thread.trim_matches('`').to_owned()).or_default() |= mask;
    }
    ensure!(kept.len() > 4, "the page has no table: {kept:?}");
    Ok(kept)
}

/// Name and lines of `status` of every thread.
fn threads(pid: u32) -> Result<Vec<(String, BTreeMap<String, String>)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the listing and the look.
        let Ok(text) = fs::read_to_string(entry?.path().join("status")) else { continue };
        let fields: BTreeMap<String, String> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        all.push((fields.get("Name").cloned().unwrap_or_default(), fields));
    }
    Ok(all)
}

fn check(pid: u32) -> Result<()> {
    let page = page()?;
    let threads = wait::until("the inventory's thread to end", ENDS_WITHIN, || {
        let threads = threads(pid)?;
        Ok(threads.iter().all(|(name, _)| name != "inventory").then_some(threads))
    })?;
    let mut seen = BTreeSet::new();
    for (name, fields) in &threads {
        let kept = *page.get(name).with_context(|| format!("the thread {name} is not on the page"))?;
        for (set, wanted) in [("CapEff", kept), ("CapPrm", kept), ("CapBnd", 0), ("CapInh", 0), ("CapAmb", 0)] {
            let held = fields.get(set).context("a set of capabilities")?;
            ensure!(u64::from_str_radix(held, 16)? == wanted, "{name} has {set} {held}, the page says {wanted:016x}");
        }
        ensure!(fields.get("NoNewPrivs").is_some_and(|flag| flag == "1"), "{name} may gain privileges");
        seen.insert(name.as_str());
    }
    for name in ["gaia-monitor", "sources", "proc-reader", "gaia-writer", "gaia-server"] {
        ensure!(seen.contains(name), "no thread is called {name}: {seen:?}");
    }
    Ok(())
}

/// Is this line of a recording a listening socket of the process at this address?
fn listens(line: &Value, port: u16, pid: u32) -> bool {
    match serde_json::from_value::<Event>(line.clone()).map(|event| event.fact) {
        Ok(Fact::SocketSeen(seen)) => {
            seen.state == TcpState::Listen
                && seen.socket.local.port() == port
                && seen.task.is_some_and(|task| task.pid.0 == pid)
        }
        Ok(_) | Err(_) => false,
    }
}

#[test]
fn threads_have_exactly_the_documented_capabilities() {
    if let Err(error) = reduced() {
        panic!("{error:#}");
    }
}

fn reduced() -> Result<()> {
    let stage = Stage::begin(Witness::get()?)?;
    fs::set_permissions(stage.stack.folder(), fs::Permissions::from_mode(0o777))?;
    // Older than the monitor, and with more rights than it keeps; the other by a user other than root.
    let server = stage.server(stage.recipe("core"), "core", &["http"])?;
    let client = stage.client("web")?;
    let older = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    let stranger = stage.server(stage.recipe("stranger").option("--user", STRANGER), "stranger", &["http"])?;

    let journal = stage.stack.folder().join("journal");
    let options = Options::default().project(stage.stack.project()).arg("--listen").arg("127.0.0.1:0");
    let options = options.arg("--journal").arg(&journal);
    let mut monitor = Monitor::start(stage.stack.folder(), &options)?;
    check(monitor.pid())?;

    server.signal_from_host(server.pid, Signal::SIGKILL)?;
    client.ended(&older)?;
    let of = |service: &str, incident: &Incident| {
        incident.subject.service.as_deref() == Some(service) && incident.cause.kind == CauseKind::ProcessKilled
    };
    let first = monitor.wait_for("the older server's death", TOLD_WITHIN, |all| {
        all.iter().find(|incident| of("core", incident)).cloned()
    })?;
    ensure!(first.subject.pid.map(|pid| pid.0) == Some(server.pid), "{first:?}");

    let request = stranger.holds(&client, "/slow", Request::get(&stranger.url("/slow?seconds=60")))?;
    stranger.signal_from_host(stranger.pid, Signal::SIGKILL)?;
    client.ended(&request)?;
    let second = monitor.wait_for("the stranger's death", TOLD_WITHIN, |all| {
        all.iter().find(|incident| of("stranger", incident) && incident.affected_total == 1).cloned()
    })?;
    ensure!(second.subject.pid.map(|pid| pid.0) == Some(stranger.pid), "{second:?}");

    // A container that comes later, with a published port: Docker, its first process and the probe's maps are read again.
    let later = stage.server(stage.recipe("later").publish(stage.port), "later", &["http"])?;
    let port = later.container.published_port(stage.port)?;
    let held = gaia_monitor_tests::client::HostRequest::send(([127, 0, 0, 1], port).into(), "/slow?seconds=60")?;
    later.entered("/slow", 1)?;
    later.signal_from_host(later.pid, Signal::SIGKILL)?;
    held.ended()?;
    let third = monitor.wait_for("the later server's death", TOLD_WITHIN, |all| {
        all.iter().find(|incident| of("later", incident) && incident.affected_total == 1).cloned()
    })?;
    ensure!(third.affected[0].via.is_some(), "docker-proxy is not known: {third:?}");

    check(monitor.pid())?;
    let ended = monitor.stop()?;
    ensure!(ended.status.success() && !ended.stderr.contains("warning"), "{}: {}", ended.status, ended.stderr);
    ensure!(ended.incidents().iter().all(|incident| incident.lost_events.is_empty()), "events were lost");
    // The inventory recorded the holder of each listening socket, whichever process it is.
    let events = json_lines(&ended.recording)?;
    for older in [&server, &stranger] {
        let known = events.iter().any(|event| listens(event, older.address.port(), older.pid));
        ensure!(known, "the inventory does not know that {} listens", older.container.name());
    }
    stage.stack.remove()
}
