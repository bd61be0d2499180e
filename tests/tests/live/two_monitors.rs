//! A second monitor, in a container on the host's network: what it looks up inside containers is no client's lookup.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gaia_monitor::model::event::{DnsContent, DnsResponse, Event, Fact};
use gaia_monitor_tests::monitor::{binary, events_of};
use gaia_monitor_tests::play::replays;
use gaia_monitor_tests::stage::Stage;
use gaia_monitor_tests::wait;
use gaia_monitor_tests::witness::Witness;

const WITHIN: Duration = Duration::from_secs(30);
/// What a monitor needs; the engine's socket comes with it.
const CAPABILITIES: [&str; 5] = ["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH", "SYS_NICE"];
const SHARED: [&str; 3] = ["/var/run/docker.sock", "/sys/fs/cgroup", "/sys/kernel/tracing"];

#[test]
fn attributes_no_lookup_of_another_monitor_to_a_client() {
    if let Err(error) = next_to_another() {
        panic!("{error:#}");
    }
}

fn next_to_another() -> Result<()> {
    let stage = Stage::begin(Witness::get()?)?;
    let monitor = stage.monitor()?;
    let mut recipe = stage.recipe("monitor").network("host").option("--pid", "host").mount(&binary()?, "/gaia-monitor");
    for capability in CAPABILITIES {
        recipe = recipe.option("--cap-add", capability);
    }
    for path in SHARED {
        recipe = recipe.option("--volume", &format!("{path}:{path}"));
    }
    let project = stage.stack.project();
    let ready = "/case/second-is-ready";
    let second = recipe.start(&["/gaia-monitor", "run", "--project", project, "--ready-file", ready])?;
    wait::until("the second monitor", WITHIN, || {
        Ok(stage.stack.folder().join("second-is-ready").exists().then_some(()))
    })
    .with_context(|| second.logs().map(|printed| printed.stderr).unwrap_or_default())?;
    stage.client("web")?;
    let server = stage.uvicorn("core")?;
    server.container.stop(None)?;
    let pid = second.pid()?;
    wait::until("a lookup of the second monitor to fail", WITHIN, || {
        Ok(failed_lookup_of(&events_of(monitor.recording())?, pid).then_some(()))
    })?;
    let ended = monitor.stop()?;
    replays(&ended)?;
    ensure!(ended.incidents().is_empty(), "an orderly stop broke nothing: {:?}", ended.incidents());
    stage.stack.remove()
}

/// Whether a name that the process asked for does not exist.
fn failed_lookup_of(events: &[Event], pid: u32) -> bool {
    let messages = || {
        events.iter().filter_map(|event| match &event.fact {
            Fact::DnsMessage(message) => Some(message),
            _other => None,
        })
    };
    let asked = |cookie| {
        messages()
            .any(|query| query.socket.cookie == cookie && query.task.as_ref().is_some_and(|task| task.pid.0 == pid))
    };
    messages().any(|message| message.what == DnsContent::Response(DnsResponse::NoName) && asked(message.socket.cookie))
}
