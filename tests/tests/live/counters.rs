//! The kernel's own counters and the probe's records of a full accept queue.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gaia_monitor::model::event::{Event, Fact};
use gaia_monitor::model::ids::NetnsId;
use gaia_monitor::model::incident::{CauseKind, Confidence};
use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::monitor::events_of;
use gaia_monitor_tests::play::replays;
use gaia_monitor_tests::stage::Stage;
use gaia_monitor_tests::wait;
use gaia_monitor_tests::witness::Witness;

const PUBLISHED_WITHIN: Duration = Duration::from_secs(15);

#[test]
fn the_kernel_counts_a_full_queue_as_often_as_the_probe() {
    if let Err(error) = counted() {
        panic!("{error:#}");
    }
}

fn counted() -> Result<()> {
    let stage = Stage::begin(Witness::get()?)?;
    let mut monitor = stage.monitor()?;
    let server = stage.server(stage.recipe("core"), "core", &["hoard", "--fill", "2"])?;
    let client = stage.client("web")?;
    // The SYN is retransmitted a second after the first, and once more two seconds later.
    client.ask(Request::get(&server.url("/ok")).connect_timeout(4.0))?;
    let netns = netns_of(server.pid)?;
    let (seen, overflows) = wait::until("the last packet to be counted", PUBLISHED_WITHIN, || {
        let events = events_of(monitor.recording())?;
        let seen = events.iter().filter(|event| met_a_full_queue(event, netns)).count() as u64;
        let (overflows, drops) = counts(&events, netns);
        ensure!(drops >= overflows, "ListenDrops {drops} hold ListenOverflows {overflows}");
        Ok((seen > 1 && overflows >= seen).then_some((seen, overflows)))
    })?;
    ensure!(seen == overflows, "the probe saw {seen}, the kernel counted {overflows}");
    let incident = monitor.wait_for("the incident with the count", PUBLISHED_WITHIN, |all| {
        let counted = |text: &str| text.contains("(ListenOverflows ") && text.contains(server.container.name());
        let of = |incident: &&gaia_monitor::model::incident::Incident| {
            incident.cause.kind == CauseKind::BacklogOverflow
                && incident.timeline.iter().any(|entry| counted(&entry.text))
        };
        all.iter().find(of).cloned()
    })?;
    ensure!(incident.cause.confidence == Confidence::Certain, "{incident:?}");
    let ended = monitor.stop()?;
    replays(&ended)?;
    stage.stack.remove()
}

fn netns_of(pid: u32) -> Result<NetnsId> {
    use std::os::unix::fs::MetadataExt;
    let path = format!("/proc/{pid}/ns/net");
    Ok(NetnsId(std::fs::metadata(&path).with_context(|| path.clone())?.ino()))
}

fn met_a_full_queue(event: &Event, netns: NetnsId) -> bool {
    matches!(&event.fact, Fact::AcceptQueueFull(met) if met.netns == netns)
}

/// Both counters' growth.
fn counts(events: &[Event], netns: NetnsId) -> (u64, u64) {
    let grown = events.iter().filter_map(|event| match &event.fact {
        Fact::AcceptQueueCounts(counts) if counts.netns == netns => Some((counts.overflows, counts.drops)),
        _other => None,
    });
    grown.fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1))
}
