//! A log that Docker cannot read.

use std::time::Duration;

use anyhow::{Result, ensure};
use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::play::replays;
use gaia_monitor_tests::stage::Stage;
use gaia_monitor_tests::witness::Witness;

const SETTLES_WITHIN: Duration = Duration::from_secs(12);

#[test]
fn reports_an_unreadable_log_once_and_loses_nothing_else() {
    if let Err(error) = unreadable() {
        panic!("{error:#}");
    }
}

fn unreadable() -> Result<()> {
    let stage = Stage::begin(Witness::get()?)?;
    let mut monitor = stage.monitor()?;
    let server = stage.server(stage.recipe("core").option("--log-driver", "none"), "core", &["http"])?;
    let client = stage.client("web")?;
    client.ask(Request::get(&server.url("/segv")))?;
    let settled = |incident: &gaia_monitor::model::incident::Incident| {
        incident.state == gaia_monitor::model::incident::State::Settled && incident.affected_total == 1
    };
    monitor.wait_for("the crash to settle", SETTLES_WITHIN, |all| all.iter().any(settled).then_some(()))?;
    let ended = monitor.stop()?;
    let said = ended.stderr.matches("does not support reading").count();
    // The warning when it was found, and the summary's line.
    ensure!(said == 2, "said {said} times:\n{}", ended.stderr);
    let [incident] = ended.incidents().try_into().map_err(|all| anyhow::anyhow!("{all:?}"))?;
    ensure!(incident.lost_events.is_empty(), "{:?}", incident.lost_events);
    replays(&ended)?;
    stage.stack.remove()
}
