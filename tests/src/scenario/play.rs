//! Drives the engine as the pipeline does: a tick whenever a timer is due, and the events in order of release.

use gaia_monitor::engine::Engine;
use gaia_monitor::engine::effect::Effect;
use gaia_monitor::model::event::{Event, Fact};
use gaia_monitor::model::ids::IncidentId;
use gaia_monitor::model::incident::Incident;
use gaia_monitor::model::settings::Settings;
use gaia_monitor::model::time::{Nanos, Stamp};

/// How long after the last fact the story is followed: every incident has settled by then.
const AFTERWARDS: Nanos = Nanos::from_secs(15);

/// One effect, and when it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub seen: Stamp,
    pub effect: Effect,
}

/// All that the engine told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Played(pub Vec<Told>);

impl Played {
    /// Every revision of every incident, in order.
    pub fn revisions(&self) -> impl Iterator<Item = (Stamp, &Incident)> {
        self.0.iter().filter_map(|told| match &told.effect {
            Effect::Incident(incident) => Some((told.seen, incident.as_ref())),
            Effect::Explained { .. } | Effect::Counted(_) | Effect::Wanted(_) => None,
        })
    }

    /// Incidents in the order in which they were first told.
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
    let (mut engine, mut told) = drive(settings, events);
    let mut seq = events.last().map_or(0, |event| event.seq);
    let end = events.last().map_or(Stamp(0), |event| event.seen).plus(AFTERWARDS);
    tick_until(&mut engine, end, &mut seq, &mut told);
    Played(told)
}

/// Plays the events up to the last one: what the engine has come to, and what it told.
#[must_use]
pub fn drive(settings: &Settings, events: &[Event]) -> (Engine, Vec<Told>) {
    let mut engine = Engine::new(settings.clone());
    let mut told = Vec::new();
    let mut seq = 0;
    for event in events {
        tick_until(&mut engine, event.seen, &mut seq, &mut told);
        step(&mut engine, event, &mut told);
        seq = event.seq;
    }
    (engine, told)
}

fn tick_until(engine: &mut Engine, until: Stamp, seq: &mut u64, told: &mut Vec<Told>) {
    while let Some(due) = engine.next_deadline().filter(|due| *due < until) {
        *seq += 1;
        step(engine, &tick(*seq, due), told);
    }
}

/// An event in which nothing happens.
#[must_use]
pub fn tick(seq: u64, at: Stamp) -> Event {
    Event { seq, seen: at, at, fact: Fact::Tick }
}

fn step(engine: &mut Engine, event: &Event, told: &mut Vec<Told>) {
    let mut effects = Vec::new();
    engine.step(event, &mut effects);
    told.extend(effects.into_iter().map(|effect| Told { seen: event.seen, effect }));
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
