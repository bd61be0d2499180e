//! The selection of facts for a scope: it leaves strangers out, and changes nothing that a run in that scope reports.

use std::path::Path;

use anyhow::{Context, Result};
use gaia_monitor::engine::effect::Effect;
use gaia_monitor::model::event::{ContainerInfo, Event, Fact, Observation};
use gaia_monitor::model::settings::{Scope, Settings};
use gaia_monitor::selection::Selection;
use gaia_monitor_tests::scenario::{self, play};

/// The events that a run with this scope records.
fn selected(scope: &Scope, events: &[Event]) -> Vec<Event> {
    let mut selection = Selection::new(scope.clone());
    let mut all: Vec<Event> = Vec::new();
    let mut released = Vec::new();
    for event in events {
        selection.select(Observation { at: event.at, fact: event.fact.clone() }, &mut released);
        for Observation { at, fact } in released.drain(..) {
            all.push(Event { seq: all.len() as u64 + 1, seen: event.seen, at, fact });
        }
    }
    all
}

/// What outputs receive. Why a rule did not apply, and what is asked for besides, concerns nothing that is reported.
fn reported(settings: &Settings, events: &[Event]) -> Vec<Effect> {
    let played = play::play(settings, events).0.into_iter().map(|emitted| emitted.effect);
    played.filter(|effect| matches!(effect, Effect::Incident(_) | Effect::Story(_) | Effect::Count(_))).collect()
}

fn containers(events: &[Event]) -> Vec<ContainerInfo> {
    let inspections = events.iter().filter_map(|event| match &event.fact {
        Fact::ContainerSeen(info) => Some(info.as_ref().clone()),
        _ => None,
    });
    let mut all: Vec<ContainerInfo> = inspections.collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all.dedup_by(|one, other| one.name == other.name);
    all
}

#[test]
fn changes_no_report_of_any_scope() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    for path in scenario::texts(&folder)? {
        let name = path.display();
        let read = scenario::read(&std::fs::read_to_string(&path)?).with_context(|| name.to_string())?;
        for info in containers(&read.events) {
            let scope = Scope { containers: vec![info.name.clone()], ..Scope::default() };
            let settings = Settings { scope: scope.clone(), ..read.settings.clone() };
            let whole = reported(&settings, &read.events);
            assert_eq!(reported(&settings, &selected(&scope, &read.events)), whole, "{name}: scope {}", info.name);
        }
    }
    Ok(())
}

/// Two stacks on networks of their own; the statements after them come from each test.
const STACKS: &str = "# Two stacks.\nscope project=gaia\n\
    container web project=gaia network=gaia\ncontainer core project=gaia network=gaia listens=80\n\
    container theirs project=other network=other pid=7001\n\
    container shop project=other network=other listens=8000 published=8080:8000 pid=7002\n";

fn stacks(statements: &str) -> Result<(Settings, Vec<Event>)> {
    let read = scenario::read(&format!("{STACKS}{statements}\nsilent\n"))?;
    Ok((read.settings, read.events))
}

/// The facts that name a container or one of its processes.
fn naming<'a>(events: &'a [Event], name: &str, pid: &str) -> Result<Vec<&'a Fact>> {
    let texts = events.iter().map(|event| Ok((serde_json::to_string(&event.fact)?, &event.fact)));
    let texts = texts.collect::<Result<Vec<_>>>()?;
    let names = |text: &str| text.contains(&format!("\"{name}\"")) || text.contains(&format!("\"pid\":{pid}"));
    Ok(texts.into_iter().filter(|(text, _)| names(text)).map(|(_, fact)| fact).collect())
}

#[test]
fn leaves_out_another_stack() -> Result<()> {
    let (settings, events) = stacks(
        "connect theirs shop c1\nrequest c1\nresponse c1 200 length=2 done\nconnect web core c2\nrequest c2\n\
         lookup theirs shop ok\ndie shop 3\ndocker shop die 3\ndie core 3\n+20ms docker core die 3",
    )?;
    let selected = selected(&settings.scope, &events);
    for (name, pid) in [("theirs", "7001"), ("shop", "7002")] {
        assert_eq!(naming(&selected, name, pid)?, Vec::<&Fact>::new());
        assert!(!naming(&events, name, pid)?.is_empty(), "the test shows nothing of {name}");
    }
    assert_eq!(reported(&settings, &selected), reported(&settings, &events));
    Ok(())
}

#[test]
fn keeps_a_stranger_that_signals() -> Result<()> {
    let (settings, events) = stacks("signal core SIGKILL by theirs\ndie core SIGKILL\n+20ms docker core die 137")?;
    let selected = selected(&settings.scope, &events);
    assert!(!naming(&selected, "theirs", "7001")?.is_empty());
    assert_eq!(naming(&selected, "shop", "7002")?, Vec::<&Fact>::new());
    assert_eq!(reported(&settings, &selected), reported(&settings, &events));
    Ok(())
}

#[test]
fn keeps_a_stack_that_a_container_in_scope_uses() -> Result<()> {
    let (settings, events) = stacks(
        "connect web shop c1 via=8080\nrequest c1\nsignal shop SIGKILL by kernel\ndie shop SIGKILL\n\
         +20ms docker shop die 137",
    )?;
    let selected = selected(&settings.scope, &events);
    let incidents = |events: &[Event]| {
        reported(&settings, events).into_iter().filter(|effect| matches!(effect, Effect::Incident(_))).count()
    };
    assert!(incidents(&events) > 0, "the test shows no incident");
    assert_eq!(reported(&settings, &selected), reported(&settings, &events));
    Ok(())
}

#[test]
fn holds_a_new_container_until_it_is_inspected() -> Result<()> {
    let (settings, events) = stacks("docker theirs create")?;
    let is_create = |event: &&Event| matches!(event.fact, Fact::Docker(_));
    let create = events.iter().find(is_create).context("no create")?.clone();
    let inspected =
        |info: &ContainerInfo| Event { fact: Fact::ContainerSeen(Box::new(info.clone())), ..create.clone() };
    let all = containers(&events);
    let stranger = all.iter().find(|info| info.name == "theirs").context("no stranger")?;
    let before = [create.clone(), inspected(stranger)];
    assert_eq!(selected(&settings.scope, &before), []);
    let own = ContainerInfo { project: Some("gaia".to_owned()), ..stranger.clone() };
    let facts = |events: &[Event]| events.iter().map(|event| event.fact.clone()).collect::<Vec<_>>();
    let before = [create.clone(), inspected(&own)];
    assert_eq!(facts(&selected(&settings.scope, &before)), facts(&before));
    Ok(())
}
