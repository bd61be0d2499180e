//! The story of a request by real containers: a failed failover, as GAIA's helper makes it.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gaia_monitor::model::incident::{CauseKind, Incident, State};
use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::command::{OnInterrupt, run};
use gaia_monitor_tests::monitor::{Monitor, Options, binary};
use gaia_monitor_tests::play::replays;
use gaia_monitor_tests::stage::Stage;
use gaia_monitor_tests::witness::Witness;
use nix::sys::signal::Signal;

const SETTLES_WITHIN: Duration = Duration::from_secs(12);

#[test]
fn reports_a_failed_failover_as_one_request_with_a_swallowed_error() {
    if let Err(error) = failed_failover() {
        panic!("{error:#}");
    }
}

fn failed_failover() -> Result<()> {
    let stage = Stage::begin(Witness::get()?)?;
    // The harness's helper waits for less time than GAIA's, by the configuration.
    let config = stage.stack.folder().join("policy.toml");
    std::fs::write(&config, "[policy]\nwaits = ['500ms', '1s']\n").context("writing the configuration")?;
    let options = Options::default().project(stage.stack.project()).arg("--config").arg(&config);
    let mut monitor = Monitor::start(stage.stack.folder(), &options)?;
    let (core, candidate) = (stage.uvicorn("core")?, stage.uvicorn("core-candidate")?);
    let client = stage.client("web")?;
    core.container.stop(Some(5))?;
    let [primary, fallback] = [&core, &candidate].map(|server| server.url("/upload?seconds=60"));
    let pending = client.send(Request::upload(&primary, 32 << 20).retried(Some(&fallback)))?;
    candidate.entered("/upload", 1)?;
    candidate.signal_from_host(candidate.pid, Signal::SIGKILL)?;
    let (attempts, end) = client.attempts(&pending)?;
    let classes: Vec<&str> = attempts.iter().chain([&end]).map(|outcome| outcome.class.as_str()).collect();
    ensure!(
        classes == ["ConnectError", "ConnectError", "ConnectError", "ReadError", "ConnectError"],
        "the case did not come about: {attempts:?}"
    );

    let of = |kind: CauseKind| move |incident: &&Incident| incident.cause.kind == kind;
    let rests = |incident: &Incident| incident.state == State::Settled;
    let (stop, kill) = monitor.wait_for("both incidents to settle", SETTLES_WITHIN, |all| {
        let stop = all.iter().find(of(CauseKind::ContainerStopped)).filter(|stop| rests(stop))?;
        let kill = all.iter().find(of(CauseKind::ProcessKilled)).filter(|kill| rests(kill))?;
        Some((stop.clone(), kill.clone()))
    })?;
    ensure!(kill.failover_of.as_ref() == Some(&stop.id), "failover_of {:?} is not {}", kill.failover_of, stop.id);
    let name = client.container.name();
    let log = |words: &str| {
        kill.timeline.iter().any(|entry| entry.text.starts_with(&format!("{name} logged ReadError: {words}")))
    };
    ensure!(log("HA fallback POST"), "the helper's line is not in {:#?}", kill.timeline);

    let ended = monitor.stop()?;
    let text = "web asked core 3 times (ConnectError, ConnectError, ConnectError), then core-candidate: ReadError. Its caller \
                saw ConnectError of core; core-candidate's ReadError was swallowed.";
    ensure!(ended.stderr.contains(text), "the summary says:\n{}", ended.stderr);
    let mut explain = Command::new(binary()?);
    explain.args(["explain", "--client", "web", "--error", "ConnectError", "--recording"]).arg(&ended.recording);
    let explained = run(&mut explain, OnInterrupt::End).context("explain")?.stdout;
    ensure!(explained.contains(text), "explain says:\n{explained}");
    replays(&ended)?;
    stage.stack.remove()
}
