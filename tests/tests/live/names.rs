//! The monitor's own lookups: they record that a name disappears and returns without any query by a container.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gaia_monitor::model::event::{DnsResponse, DockerAction, Event, Fact};
use gaia_monitor::model::time::{Nanos, Stamp};
use gaia_monitor_tests::monitor::events_of;
use gaia_monitor_tests::play::replays;
use gaia_monitor_tests::stage::{Says, Stage};
use gaia_monitor_tests::wait;
use gaia_monitor_tests::witness::Witness;

const KNOWN_WITHIN: Duration = Duration::from_secs(20);
/// An event of a container makes its names be probed often for two seconds, and every ten seconds otherwise.
const PROMPTLY: Nanos = Nanos::from_secs(3);

#[test]
fn probes_record_that_a_name_disappears_and_returns() {
    if let Err(error) = goes_and_comes_back() {
        panic!("{error:#}");
    }
}

fn goes_and_comes_back() -> Result<()> {
    let stage = Stage::begin(Witness::get()?)?;
    let names = stage.name_server(Says::NxDomain)?.to_string();
    let core = stage.uvicorn("core")?;
    let web = stage.recipe("web").option("--dns", &names).env("CORE_ENDPOINT", &core.url(""));
    let web = web.start(&["python3", "-c", "import time; time.sleep(600)"])?;
    let monitor = stage.monitor()?;
    let answers = |until: fn(&DnsResponse) -> bool| {
        wait::until("the monitor's own look-up to tell it", KNOWN_WITHIN, || {
            let results = answers_of(&events_of(monitor.recording())?, web.id());
            Ok(results.last().is_some_and(|(_, answer)| until(answer)).then_some(results))
        })
    };
    let here = |answer: &DnsResponse| matches!(answer, DnsResponse::Addresses(_));
    answers(here)?;
    core.container.stop(Some(5))?;
    answers(|answer| *answer == DnsResponse::NoName)?;
    core.container.verb("start")?;
    answers(here)?;
    let ended = monitor.stop()?;
    let events = events_of(&ended.recording)?;
    let results = answers_of(&events, web.id());
    let [(_, before), (gone, DnsResponse::NoName), (back, after)] = results.as_slice() else {
        anyhow::bail!("unexpected: {results:?}");
    };
    ensure!(*before == DnsResponse::Addresses(vec![core.address.ip()]) && here(after), "{results:?}");
    let died = docker_said(&events, core.container.id(), |action| matches!(action, DockerAction::Die { .. }))?;
    let started = docker_said(&events, core.container.id(), |action| *action == DockerAction::Start)?;
    println!("gone {} ms after the death, back {} ms before Docker's start event", ms(*gone, died), ms(started, *back));
    ensure!(gone.since(died) < PROMPTLY && back.since(started) < PROMPTLY, "late: {results:?}");
    let asked = events.iter().any(|event| matches!(&event.fact, Fact::DnsMessage(look_up) if look_up.name == "core"));
    ensure!(
        !asked,
        "a container's query for the name was recorded, and the monitor's own lookups must not count as one"
    );
    ensure!(ended.incidents().is_empty(), "{:?}", ended.incidents());
    replays(&ended)?;
    stage.stack.remove()
}

/// The results for `core` inside that container.
fn answers_of(events: &[Event], observer: &str) -> Vec<(Stamp, DnsResponse)> {
    let result = |event: &Event| match &event.fact {
        Fact::DnsProbe(checked) if checked.name == "core" && checked.observer.0 == observer => {
            Some((event.at, checked.response.clone()))
        }
        _other => None,
    };
    events.iter().filter_map(result).collect()
}

fn docker_said(events: &[Event], container: &str, wanted: fn(&DockerAction) -> bool) -> Result<Stamp> {
    let said = events.iter().find(|event| match &event.fact {
        Fact::Docker(said) => said.container.0 == container && wanted(&said.action),
        _other => false,
    });
    said.map(|event| event.at).context("Docker did not tell it")
}

fn ms(at: Stamp, from: Stamp) -> i64 {
    at.since(from).0 / 1_000_000
}
