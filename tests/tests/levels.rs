//! Names and pairs that metrics show as up or gone, from facts as in a scenario. An alert fires on them: a name that was
//! removed on purpose, or that no client uses any more, must not be shown as missing.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use gaia_monitor::engine::stats::gauges::PairState;
use gaia_monitor::model::event::{Event, Fact, Link, LinkKind, LinkState, LinksRead};
use gaia_monitor_tests::scenario::play::drive;
use gaia_monitor_tests::scenario::{self, Scenario};

/// The reader wants an expectation; none is checked here.
fn read(facts: &str) -> Result<Scenario> {
    scenario::read(&format!("# Gauges.\n{facts}\nsilent\n"))
}

/// Each name with its asker, and whether it is up, after these facts.
fn names(facts: &str) -> Result<Vec<String>> {
    let read = read(facts)?;
    let (mut engine, _) = drive(&read.settings, &read.events);
    let levels = engine.gauges().unwrap_or_default();
    let shown = |up: bool| if up { "up" } else { "gone" };
    Ok(levels.names.iter().map(|level| format!("{} in {}: {}", level.name, level.observer, shown(level.up))).collect())
}

const SERVED: &str = "container core listens=80\ncontainer web\ndns-probe web core ok\n";

#[test]
fn shows_the_name_of_a_stopped_server_as_gone() -> Result<()> {
    let stopped = "+1s docker core kill SIGTERM\ndie core 0\n+20ms docker core die 0\ndocker core stop\n+60ms dns-probe web core nxdomain";
    assert_eq!(names(&format!("{SERVED}{stopped}"))?, ["core in web: gone"]);
    let back = "+1s start core\n+20ms dns-probe web core ok";
    assert_eq!(names(&format!("{SERVED}{stopped}\n{back}"))?, ["core in web: up"]);
    Ok(())
}

#[test]
fn ignores_a_finished_job_but_not_a_stopped_one() -> Result<()> {
    let job = "container job\ncontainer web\ndns-probe web job ok\n";
    let done = "+1s exit job 0\n+20ms docker job die 0\n+60ms dns-probe web job nxdomain";
    assert!(names(&format!("{job}{done}"))?.is_empty());
    let stopped = "+1s docker job kill SIGTERM\nexit job 0\n+20ms docker job die 0\ndocker job stop\n+60ms dns-probe web job nxdomain";
    assert_eq!(names(&format!("{job}{stopped}"))?, ["job in web: gone"]);
    Ok(())
}

#[test]
fn shows_a_name_that_never_ran_only_when_an_endpoint_has_it() -> Result<()> {
    assert!(names("container web\ndns-probe web core nxdomain")?.is_empty());
    assert_eq!(names("container web endpoint=CORE:core\ndns-probe web core nxdomain")?, ["core in web: gone"]);
    Ok(())
}

#[test]
fn drops_a_name_when_its_observer_is_gone() -> Result<()> {
    let gone = "+1s die core 3\n+20ms docker core die 3\n+60ms dns-probe web core nxdomain";
    let asker = "+1s exit web 0\n+20ms docker web die 0";
    assert!(names(&format!("{SERVED}{gone}\n{asker}"))?.is_empty());
    Ok(())
}

#[test]
fn shows_a_removed_server_as_gone_for_ten_minutes() -> Result<()> {
    let removed = "+1s docker core kill SIGKILL\ndie core SIGKILL\n+20ms docker core die 137\ndocker core destroy\n+60ms dns-probe web core nxdomain";
    assert_eq!(names(&format!("{SERVED}{removed}"))?, ["core in web: gone"]);
    assert!(names(&format!("{SERVED}{removed}\nwait 601s\nfork web.w"))?.is_empty());
    Ok(())
}

#[test]
fn uses_the_last_observer_of_a_network_except_for_endpoints() -> Result<()> {
    let exchange = "+1s die core 3\n+20ms docker core die 3\n+60ms dns-probe web core nxdomain\ncontainer mcp\n+1s start core\n+1s dns-probe mcp core ok";
    assert_eq!(names(&format!("{SERVED}{exchange}"))?, ["core in mcp: up"]);
    let declared = SERVED.replace("container web", "container web endpoint=CORE:core");
    assert_eq!(names(&format!("{declared}{exchange}"))?, ["core in mcp: up", "core in web: gone"]);
    Ok(())
}

#[test]
fn shows_a_restarted_candidate_as_active_when_its_interface_changed() -> Result<()> {
    let mut read = read(
        "container core listens=80\ncontainer core-candidate listens=80\nlinks\n\
         +1s docker core-candidate kill SIGTERM\ndie core-candidate 0\n+20ms docker core-candidate die 0\n\
         +100ms start core-candidate\n+100ms listen core-candidate 80",
    )?;
    let candidate = read.events.iter().rev().find_map(|event| match &event.fact {
        Fact::ContainerSeen(seen) => Some(seen.clone()),
        _ => None,
    });
    let candidate = candidate.context("no inspection")?;
    // The namespace is new as well, but its number is one that was free: that of the one before.
    let netns = candidate.netns.context("no namespace")?;
    let eth0 = Link {
        index: 99,
        name: "eth0".into(),
        kind: LinkKind::Veth,
        state: LinkState::Up,
        master: None,
        peer: Some(100),
    };
    let addresses = candidate.networks.iter().flat_map(|network| &network.addresses).map(|ip| (99, *ip)).collect();
    let last = read.events.last().context("no event")?.clone();
    let fact = Fact::LinksRead(LinksRead { netns, host: false, links: vec![eth0], addresses });
    read.events.push(Event { seq: last.seq + 1, fact, ..last });
    let (mut engine, _) = drive(&read.settings, &read.events);
    let pairs: BTreeMap<_, _> = engine.gauges().unwrap_or_default().pairs;
    assert_eq!(pairs.into_values().collect::<Vec<_>>(), [PairState::Active]);
    Ok(())
}

/// The pairs after these facts.
fn pairs(facts: &str) -> Result<Vec<String>> {
    let read = read(facts)?;
    let (mut engine, _) = drive(&read.settings, &read.events);
    let pairs = engine.gauges().unwrap_or_default().pairs;
    let shown = pairs
        .iter()
        .map(|(names, state)| format!("{}: {}, {} {}", names.client, names.primary, names.candidate, state.name()));
    Ok(shown.collect())
}

const TWO_STACKS: &str = "container a-core project=a service=core network=a listens=80\n\
                          container a-standby project=a service=core-candidate network=a listens=80\n\
                          container b-core project=b service=core network=b listens=80\n\
                          container b-standby project=b service=core-candidate network=b listens=80\n\
                          +1s die b-core 3\n+20ms docker b-core die 3\n";

#[test]
fn never_mixes_a_pair_from_two_stacks() -> Result<()> {
    let active = ["any: core, core-candidate active"];
    assert_eq!(pairs(&format!("scope project=a\n{TWO_STACKS}"))?, active);
    assert_eq!(pairs(&format!("scope project=b\n{TWO_STACKS}"))?, ["any: core, core-candidate failover_active"]);
    // One stack has the primary, the other one the candidate.
    let halves = "scope project=a\ncontainer a-core project=a service=core network=a listens=80\n\
                  container b-standby project=b service=core-candidate network=b listens=80\n";
    assert!(pairs(halves)?.is_empty());
    let declared = "container web project=a network=a endpoint=CORE:core fallback=CORE:core-candidate\n";
    assert_eq!(pairs(&format!("{halves}{declared}"))?, ["web: core, core-candidate degraded"]);
    assert_eq!(pairs(&format!("scope project=a\n{TWO_STACKS}{declared}"))?, ["web: core, core-candidate active"]);
    Ok(())
}

#[test]
fn shows_the_worse_state_when_two_stacks_share_the_names() -> Result<()> {
    assert_eq!(pairs(TWO_STACKS)?, ["any: core, core-candidate failover_active"]);
    Ok(())
}
