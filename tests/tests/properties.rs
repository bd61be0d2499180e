//! Properties of the engine for any input: time alone changes nothing, slow sources change no final verdict, loss never
//! invents a cause, and no order of facts makes the engine fail.

mod chaos;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use gaia_monitor::engine::effect::Effect;
use gaia_monitor::model::event::{Event, Fact};
use gaia_monitor::model::incident::{CauseKind, Confidence, Incident, State};
use gaia_monitor::model::time::{Nanos, Stamp};
use gaia_monitor_tests::scenario::{self, Scenario, play};
use proptest::prelude::{Strategy, any, prop};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// Every scenario of the suite, with its name.
fn scenarios() -> Result<Vec<(String, Scenario)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut all = Vec::new();
    for path in scenario::texts(&folder)? {
        let name = path.strip_prefix(&folder).unwrap_or(&path).display().to_string();
        let read = scenario::read(&std::fs::read_to_string(&path)?).with_context(|| name.clone())?;
        all.push((name, read));
    }
    Ok(all)
}

/// The same cases in every run, so that a change is judged by what it changed. `MORE_CASES=20` plays twenty times as
/// many, others each time.
fn runner(cases: u32) -> TestRunner {
    let more = std::env::var("MORE_CASES").ok().and_then(|times| times.parse::<u32>().ok());
    // No files next to the sources: a failing case prints its input.
    let config = Config { cases: cases * more.unwrap_or(1), failure_persistence: None, ..Config::default() };
    match more {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn failure(error: anyhow::Error) -> TestCaseError {
    TestCaseError::fail(format!("{error:#}"))
}

/// The effects without their instants.
fn effects(played: &play::Played) -> Vec<&Effect> {
    played.0.iter().map(|emitted| &emitted.effect).collect()
}

#[test]
fn ticks_change_nothing() -> Result<()> {
    for (name, scenario) in scenarios()? {
        let played = play::play(&scenario.settings, &scenario.events);
        let ticked = effects(&played);
        let bare = play::play_as_is(&scenario.settings, &scenario.events);
        assert_eq!(bare.iter().collect::<Vec<_>>(), ticked, "{name}: without any tick");
        let places = prop::collection::vec((any::<prop::sample::Index>(), 0_i64..2_000_000_000), 1..20);
        runner(8)
            .run(&places, |places| {
                let mut events = scenario.events.clone();
                for (index, after) in places {
                    let seen = events[index.index(events.len())].seen.plus(Nanos(after));
                    let at = events.partition_point(|event| event.seen <= seen);
                    events.insert(at, play::tick(0, seen));
                }
                // The story is followed for the same time after its last fact.
                let end = scenario.events.last().map_or(Stamp(0), |event| event.seen);
                events.retain(|event| event.seen <= end);
                let more = play::play_as_is(&scenario.settings, &events);
                proptest::prop_assert_eq!(&more, &bare, "{} with more ticks", name);
                Ok(())
            })
            .map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
    }
    Ok(())
}

#[test]
fn same_events_give_the_same_bytes() -> Result<()> {
    for (name, scenario) in scenarios()? {
        let lines = |played: &play::Played| -> Result<Vec<String>> {
            played.revisions().map(|(_, incident)| Ok(serde_json::to_string(incident)?)).collect()
        };
        let once = play::play(&scenario.settings, &scenario.events);
        let again = play::play(&scenario.settings, &scenario.events);
        assert_eq!(lines(&once)?, lines(&again)?, "{name}");
        let ids = once.ids();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{name}: an id was used twice");
    }
    Ok(())
}

/// The part of an incident that must not depend on the order of sources: all but its name, its history and its losses.
fn verdicts(played: &play::Played) -> Result<Vec<serde_json::Value>> {
    let mut verdicts = BTreeMap::new();
    for incident in played.last().into_iter().filter(|incident| incident.state != State::Withdrawn) {
        let mut value = serde_json::to_value(incident)?;
        for history in ["/id", "/revision", "/failover_of", "/merged_into", "/lost_events", "/cause/caused_by"] {
            *value.pointer_mut(history).context(history)? = serde_json::Value::Null;
        }
        verdicts.insert(value.to_string(), value);
    }
    Ok(verdicts.into_values().collect())
}

/// Is it one of Docker's own facts, which another source may overtake?
fn is_dockers(fact: &Fact) -> bool {
    matches!(fact, Fact::Docker(_) | Fact::ContainerSeen(_) | Fact::Log(_) | Fact::LogsUnread(_))
}

/// The same facts with Docker's released later; the order within each source stays.
fn delayed(events: &[Event], delays: &[i64]) -> Vec<Event> {
    let begin = events.first().map_or(Stamp(0), |event| event.at).plus(Nanos(1_000_000));
    let mut last = Stamp(0);
    let mut delays = delays.iter().cycle();
    let mut events: Vec<Event> = events
        .iter()
        .cloned()
        .map(|mut event| {
            // The inventory's facts precede everything.
            if is_dockers(&event.fact) && event.at > begin {
                event.seen = event.seen.plus(Nanos(*delays.next().unwrap_or(&0))).max(last);
                last = event.seen;
            }
            event
        })
        .collect();
    events.sort_by_key(|event| event.seen);
    events
}

#[test]
fn a_slow_docker_changes_no_settled_verdict() -> Result<()> {
    for (name, scenario) in scenarios()? {
        // The end of a run depends on the facts up to then.
        if scenario.events.iter().any(|event| event.fact == Fact::Shutdown) {
            continue;
        }
        let wanted = verdicts(&play::play(&scenario.settings, &scenario.events))?;
        // Measured: 143 ms at most on an idle machine, 185 ms on a loaded one.
        runner(8)
            .run(&prop::collection::vec(0_i64..200_000_000, 1..8), |delays| {
                let events = delayed(&scenario.events, &delays);
                let found = verdicts(&play::play(&scenario.settings, &events)).map_err(failure)?;
                proptest::prop_assert_eq!(&found, &wanted, "{}", name);
                Ok(())
            })
            .map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
    }
    Ok(())
}

/// What an incident claims.
fn claim(incident: &Incident) -> (CauseKind, Option<String>) {
    (incident.cause.kind, incident.subject.container.clone())
}

#[test]
fn loss_lowers_confidence_and_never_invents_a_cause() -> Result<()> {
    for (name, scenario) in scenarios()? {
        let whole = play::play(&scenario.settings, &scenario.events);
        let known: Vec<_> = whole.last().into_iter().map(claim).collect();
        let places = prop::collection::vec(any::<prop::sample::Index>(), 1..6);
        runner(24)
            .run(&places, |places| {
                let mut events = scenario.events.clone();
                for place in places {
                    let event = &mut events[place.index(scenario.events.len())];
                    let kernel = !is_dockers(&event.fact) && !matches!(event.fact, Fact::Shutdown | Fact::Lost { .. });
                    if kernel {
                        event.fact = Fact::Lost { stage: "ring.any".to_owned(), count: 1 };
                    }
                }
                let played = play::play(&scenario.settings, &events);
                for incident in played.last().into_iter().filter(|incident| incident.state != State::Withdrawn) {
                    let sure = incident.cause.confidence > Confidence::Possible;
                    let new = !known.contains(&claim(incident));
                    let shown = scenario::shown(incident);
                    proptest::prop_assert!(!(sure && new), "{}: loss made this up:\n{}", name, shown);
                }
                Ok(())
            })
            .map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
    }
    Ok(())
}

#[test]
fn any_facts_in_any_order_keep_the_contract() -> Result<()> {
    let strategy = (any::<bool>(), prop::collection::vec(chaos::fact(), 1..120)).prop_map(|(cancelled, facts)| {
        let settings = gaia_monitor::model::settings::Settings { include_cancelled: cancelled, ..Default::default() };
        (settings, chaos::events(facts))
    });
    runner(1_500)
        .run(&strategy, |(settings, events)| {
            let played = play::play(&settings, &events);
            scenario::keeps_the_contract(&played).map_err(failure)?;
            let bare = play::play_as_is(&settings, &events);
            proptest::prop_assert_eq!(bare.iter().collect::<Vec<_>>(), effects(&played));
            Ok(())
        })
        .map_err(|error| anyhow::anyhow!("{error}"))
}
