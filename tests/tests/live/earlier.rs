//! What is older than the monitor: a container that had ended, and a request under way.

use std::time::Duration;

use anyhow::{Result, ensure};
use gaia_monitor::model::incident::{CauseKind, Confidence, HttpxClass, Incident, MomentFact, Via};
use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::monitor::{Monitor, one_line};
use gaia_monitor_tests::play::replays;
use gaia_monitor_tests::stage::Stage;
use gaia_monitor_tests::witness::Witness;

const SETTLES_WITHIN: Duration = Duration::from_secs(12);
/// The clock of Docker's record and that of its event are one.
const SAME_END: i64 = 1_000_000_000;

#[test]
fn a_container_that_was_stopped_before_the_start_is_the_cause() {
    stopped_before().unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn a_request_that_is_under_way_at_the_start_breaks_with_its_server() {
    under_way().unwrap_or_else(|error| panic!("{error:#}"));
}

fn stopped_before() -> Result<()> {
    let stage = Stage::begin(Witness::get()?)?;
    let (server, client) = (stage.uvicorn("core")?, stage.client("web")?);
    server.container.stop(Some(5))?;
    let died = stage.docker_event(&server.container, "die")?;
    let monitor = stage.monitor()?;
    client.ask(Request::get(&server.url("/ok")))?;
    let incident = only(monitor)?;
    let text = one_line(&incident);
    ensure!(incident.cause.kind == CauseKind::ContainerStopped, "{text}");
    ensure!(incident.cause.confidence == Confidence::Likely, "{text}");
    ensure!(incident.cause.sender.as_ref().is_some_and(|sender| sender.via == Some(Via::DockerStop)), "{text}");
    ensure!(incident.subject.container.as_deref() == Some(server.container.name()), "{text}");
    ensure!(incident.moment.fact == MomentFact::DockerDie, "{text}");
    let apart = incident.moment.at.0.0 - died;
    ensure!(apart.abs() < SAME_END, "{apart} ns from Docker's own event: {text}");
    ensure!(incident.affected_by_class.get(&HttpxClass::ConnectError) == Some(&1), "{text}");
    stage.stack.remove()
}

fn under_way() -> Result<()> {
    let stage = Stage::begin(Witness::get()?)?;
    let (server, client, idle) = (stage.uvicorn("core")?, stage.client("web")?, stage.client("idle")?);
    idle.ask_well(Request::get(&server.url("/ok")).session("kept"))?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    let monitor = stage.monitor()?;
    server.container.kill("KILL")?;
    client.ended(&request)?;
    let incident = only(monitor)?;
    let text = one_line(&incident);
    ensure!(incident.cause.kind == CauseKind::ContainerKilled, "{text}");
    ensure!(incident.cause.confidence == Confidence::Certain, "the death was observed: {text}");
    ensure!(incident.affected_total == 1, "the idle connection is none: {text}");
    for entry in &incident.affected {
        ensure!(entry.client.container == client.name().map(str::to_owned), "{text}");
        ensure!(entry.client_error.httpx == HttpxClass::RemoteProtocolError, "{text}");
        ensure!(entry.confidence == Confidence::Likely, "its progress was not followed: {text}");
    }
    stage.stack.remove()
}

/// The only incident of the run, once it has settled.
fn only(mut monitor: Monitor) -> Result<Incident> {
    let settled = |incident: &Incident| incident.state == gaia_monitor::model::incident::State::Settled;
    monitor.wait_for("the incident to settle", SETTLES_WITHIN, |all| all.iter().any(settled).then_some(()))?;
    let ended = monitor.stop()?;
    replays(&ended)?;
    let [incident] = ended.incidents().try_into().map_err(|all| anyhow::anyhow!("{all:?}"))?;
    Ok(incident)
}
