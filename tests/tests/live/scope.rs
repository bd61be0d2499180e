//! A run with a scope while a stack of another project is busy: its recording and its summary hold nothing of that one.

use std::time::Duration;

use anyhow::{Result, ensure};
use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::play::replays;
use gaia_monitor_tests::stage::Stage;
use gaia_monitor_tests::witness::Witness;
use nix::sys::signal::Signal;

const PUBLISHED_WITHIN: Duration = Duration::from_secs(15);

#[test]
fn holds_nothing_of_another_stack() {
    if let Err(error) = scoped() {
        panic!("{error:#}");
    }
}

fn scoped() -> Result<()> {
    let witness = Witness::get()?;
    let (stage, other) = (Stage::begin(witness)?, Stage::begin(witness)?);
    // One of its containers is older than the monitor, one younger.
    let foreign = other.uvicorn("core")?;
    let mut monitor = stage.monitor()?;
    let stranger = other.client("web")?;
    stranger.ask(Request::get(&foreign.url("/slow?seconds=2")).cancel_after(0.3))?;
    let request = foreign.holds(&stranger, "/slow", Request::get(&foreign.url("/slow?seconds=60")))?;
    foreign.signal_from_host(foreign.pid, Signal::SIGKILL)?;
    stranger.ended(&request)?;

    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    server.signal_from_host(server.pid, Signal::SIGKILL)?;
    client.ended(&request)?;
    monitor.wait_for("the incident in scope", PUBLISHED_WITHIN, |all| {
        let of = |incident: &&gaia_monitor::model::incident::Incident| {
            incident.subject.container.as_deref() == Some(server.container.name()) && incident.affected_total == 1
        };
        all.iter().find(of).cloned()
    })?;
    let ended = monitor.stop()?;
    replays(&ended)?;
    let recording = std::fs::read_to_string(&ended.recording)?;
    ensure!(recording.lines().next().is_some_and(|header| header.contains("\"limited\":true")), "it does not say so");
    ensure!(recording.contains(server.container.name()), "it holds nothing of its own scope");
    ensure!(!ended.stderr.contains("disconnected before the response"), "{}", ended.stderr);
    for name in [foreign.container.name(), stranger.container.name()] {
        let of_it: Vec<&str> = recording.lines().filter(|line| line.contains(name)).collect();
        ensure!(of_it.is_empty(), "{name} in the recording:\n{}", of_it.join("\n"));
        ensure!(!ended.stderr.contains(name), "{}", ended.stderr);
    }
    other.stack.remove()?;
    stage.stack.remove()
}
