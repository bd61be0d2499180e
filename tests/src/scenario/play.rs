//! Drives the engine as the pipeline does: a tick whenever a timer is due, and the events in order of release.

use gaia_monitor::engine::Engine;
use gaia_monitor::engine::effect::Effect;
use gaia_monitor::model::event::{Event, Fact};
use gaia_monitor::model::ids::IncidentId;
use gaia_monitor::model::incident::Incident;
use gaia_monitor::model::settings::Settings;
use gaia_monitor::model::time::{Nanos, Stamp};

/// How long after the last fact the story is followed: every lookup is over and every incident has settled by then.
const AFTERWARDS: Nanos = Nanos::from_secs(45);

/// One effect, and when it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Emitted {
    pub seen: Stamp,
    pub effect: Effect,
}

/// All effects of the engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Played(pub Vec<Emitted>);

impl Played {
    /// Every revision of every incident, in order.
    pub fn revisions(&self) -> impl Iterator<Item = (Stamp, &Incident)> {
        self.0.iter().filter_map(|emitted| match &emitted.effect {
            Effect::Incident(incident) => Some((emitted.seen, incident.as_ref())),
            Effect::Story(_) | Effect::Explained(_) | Effect::Count(_) | Effect::Enrich(_) => None,
        })
    }

    /// Incidents in the order of their first revisions.
    #[must_use]
    pub fn ids(&self) -> Vec<IncidentId> {
        let mut ids = Vec::new();
        for (_, incident) in self.revisions() {
            if !ids.contains(&incident.id) {
                ids.push(incident.id.clone());
            }
        }
        ids
    }

    /// The revisions of one incident.
    #[must_use]
    pub fn of(&self, id: &IncidentId) -> Vec<(Stamp, &Incident)> {
        self.revisions().filter(|(_, incident)| incident.id == *id).collect()
    }

    /// The last revision of each incident.
    #[must_use]
    pub fn last(&self) -> Vec<&Incident> {
        self.ids().iter().filter_map(|id| self.of(id).last().map(|(_, incident)| *incident)).collect()
    }
}

/// Plays the events, and follows the story until nothing more can come of it.
#[must_use]
pub fn play(settings: &Settings, events: &[Event]) -> Played {
    let (mut engine, mut emitted) = drive(settings, events);
    let mut seq = events.last().map_or(0, |event| event.seq);
    let end = events.last().map_or(Stamp(0), |event| event.seen).plus(AFTERWARDS);
    tick_until(&mut engine, end, &mut seq, &mut emitted);
    Played(emitted)
}

/// Plays the events up to the last one: the engine and its effects.
#[must_use]
pub fn drive(settings: &Settings, events: &[Event]) -> (Engine, Vec<Emitted>) {
    let mut engine = Engine::new(settings.clone());
    let mut emitted = Vec::new();
    let mut seq = 0;
    for event in events {
        tick_until(&mut engine, event.seen, &mut seq, &mut emitted);
        step(&mut engine, event, &mut emitted);
        seq = event.seq;
    }
    (engine, emitted)
}

fn tick_until(engine: &mut Engine, until: Stamp, seq: &mut u64, emitted: &mut Vec<Emitted>) {
    while let Some(due) = engine.next_deadline().filter(|due| *due < until) {
        *seq += 1;
        step(engine, &tick(*seq, due), emitted);
    }
}

/// An event in which nothing happens.
#[must_use]
pub fn tick(seq: u64, at: Stamp) -> Event {
    Event { seq, seen: at, at, fact: Fact::Tick }
}

fn step(engine: &mut Engine, event: &Event, emitted: &mut Vec<Emitted>) {
    let mut effects = Vec::new();
    let before = engine.work();
    engine.step(event, &mut effects);
    let after = engine.work();
    let cases = (before.open + after.opened - before.opened) * (after.steps - before.steps);
    let judgements = after.judgements - before.judgements;
    assert!(judgements <= cases, "{judgements} judgements of {cases} cases in one step: {event:?}");
    emitted.extend(effects.into_iter().map(|effect| Emitted { seen: event.seen, effect }));
}

/// Plays the events just as they are, with no tick but a last one.
#[must_use]
pub fn play_as_is(settings: &Settings, events: &[Event]) -> Vec<Effect> {
    let mut engine = Engine::new(settings.clone());
    let mut effects = Vec::new();
    for event in events {
        engine.step(event, &mut effects);
    }
    let end = events.last().map_or(Stamp(0), |event| event.seen).plus(AFTERWARDS).minus(Nanos(1));
    engine.step(&tick(0, end), &mut effects);
    effects
}
