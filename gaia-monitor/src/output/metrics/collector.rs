//! The collector: which effect, counter, level and reading changes which series.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use metrics_exporter_prometheus::PrometheusHandle;

use super::catalogue as all;
use super::series::{Series, TOUCH_EVERY};
use crate::engine::Engine;
use crate::engine::effect::{Counter, Effect};
use crate::engine::stats::CounterDelta;
use crate::engine::stats::gauges::{ContainerGauge, Gauges, PairState};
use crate::model::ids::IncidentId;
use crate::model::incident::{CauseKind, HttpxClass, Incident, State, name_of};
use crate::model::label::NO_CONTAINER;
use crate::model::time::{Nanos, Stamp};
use crate::output::Fold;

/// An incident that does not settle (its clients keep retrying) is counted after this time: an alert cannot wait.
pub const COUNTED_AFTER: Nanos = Nanos::from_secs(2);
/// Open incidents tracked, as many as the engine keeps.
const MAX_OPEN: usize = 4_096;

/// The monitor's own state.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    pub ring_used: f64,
    pub docker_connected: bool,
    pub memory_bytes: u64,
    /// Each eBPF program, and whether it is attached.
    pub probes: Vec<(String, bool)>,
    /// Losses of each output so far.
    pub outputs: Vec<(&'static str, u64)>,
}

pub struct Metrics {
    /// Reads the monitor's own state.
    readings: Box<dyn FnMut() -> Readings>,
    series: Series,
    started: Stamp,
    version: String,
    kernel: String,
    open: BTreeMap<IncidentId, Open>,
    /// Keys of `incidents_open` that are shown, also at 0.
    shown: BTreeSet<Key>,
    levels: Gauges,
    outputs: BTreeMap<&'static str, u64>,
    /// Idle closes since the last publication, by service: as frequent as connections.
    idle: HashMap<String, u64>,
    touched: Option<Stamp>,
}

type Key = (CauseKind, String);

struct Open {
    key: Key,
    first: Stamp,
    /// The key under which it was counted.
    counted: Option<Key>,
}

impl Metrics {
    #[must_use]
    pub fn new(version: &str, kernel: &str, started: Stamp, readings: impl FnMut() -> Readings + 'static) -> Self {
        Self {
            readings: Box::new(readings),
            series: Series::new(),
            started,
            version: version.to_owned(),
            kernel: kernel.to_owned(),
            open: BTreeMap::new(),
            shown: BTreeSet::new(),
            levels: Gauges::default(),
            outputs: BTreeMap::new(),
            idle: HashMap::new(),
            touched: None,
        }
    }

    #[must_use]
    pub fn handle(&self) -> PrometheusHandle {
        self.series.handle()
    }

    fn counted(&mut self, counted: &Counter) {
        let series = &mut self.series;
        match counted {
            Counter::ClientCancelled { client, server } => series.add(&all::CANCELLED, [client, server], 1),
            Counter::IdleClose { server } => match self.idle.get_mut(server) {
                Some(count) => *count += 1,
                None => drop(self.idle.insert(server.clone(), 1)),
            },
            // Reported once for each container, in the summary.
            Counter::LogsUnread { .. } => {}
            Counter::Lost { stage, count } => series.add(&all::LOST_EVENTS, [stage], *count),
            Counter::Broken { client, server, httpx, cause, retried } => {
                let (httpx, cause) = (class(*httpx), name_of(cause));
                series.add(&all::BROKEN, [client, server, httpx, &cause, word(*retried)], 1);
            }
            Counter::Restarted { container, service } => series.add(&all::RESTARTS, [container, service], 1),
            Counter::OomKill { container, service } => series.add(&all::OOM_KILLS, [container, service], 1),
            Counter::ServedAgain { service, after } => series.record(&all::FAILOVER, [service], seconds(*after)),
        }
    }

    fn incident(&mut self, incident: &Incident, seen: Stamp) {
        let key = (incident.cause.kind, incident.subject.service_label().unwrap_or(NO_CONTAINER).to_owned());
        if incident.revision == 1 {
            let broke = incident.affected.iter().find(|entry| entry.client_error.httpx != HttpxClass::None);
            let fact = broke.map_or(incident.moment.at, |entry| entry.at).0;
            self.series.record(&all::FIRST_VERDICT, [], seconds(seen.since(fact)).max(0.0));
        }
        let mut open = self.open.remove(&incident.id).unwrap_or(Open { key: key.clone(), first: seen, counted: None });
        open.key = key;
        self.shown.insert(open.key.clone());
        match incident.state {
            State::Open => {}
            State::Settled | State::Closed => count(&mut self.series, &mut open),
            State::Withdrawn => {
                if let Some((cause, service)) = &open.counted {
                    self.series.add(&all::INCIDENTS_WITHDRAWN, [&name_of(cause), service], 1);
                }
            }
        }
        if matches!(incident.state, State::Open | State::Settled) {
            self.open.insert(incident.id.clone(), open);
        }
        while self.open.len() > MAX_OPEN {
            self.open.pop_first();
        }
    }

    fn read_counters(&mut self, engine: &mut Engine) {
        let series = &mut self.series;
        for (server, count) in self.idle.drain() {
            series.add(&all::IDLE_CLOSES, [&server], count);
        }
        engine.drain_counters(|flow| match flow {
            CounterDelta::Events { source, count } => series.add(&all::EVENTS, [source.name()], count),
            CounterDelta::Resets { container, service, direction, reason, count } => {
                series.add(&all::RESETS, [container, service, direction.name(), reason], count);
            }
            CounterDelta::Responses { service, class, count } => {
                series.add(&all::RESPONSES, [service, class.name()], count)
            }
            CounterDelta::Unavailable { service, status, count } => {
                series.add(&all::UNAVAILABLE, [service, status.status()], count);
            }
        });
    }

    fn show_open(&mut self) {
        let mut counts: BTreeMap<&Key, u32> = self.shown.iter().map(|key| (key, 0)).collect();
        for open in self.open.values() {
            if let Some(count) = counts.get_mut(&open.key) {
                *count += 1;
            }
        }
        for ((cause, service), count) in counts {
            self.series.set(&all::INCIDENTS_OPEN, [&name_of(cause), service], f64::from(count));
        }
        let open: BTreeSet<&Key> = self.open.values().map(|open| &open.key).collect();
        let series = &self.series;
        self.shown.retain(|key| open.contains(key) || series.is_remembered(&key.1));
    }

    fn change_levels(&mut self, now: Gauges) {
        let before = std::mem::replace(&mut self.levels, now);
        let (now, series) = (&self.levels, &mut self.series);
        for level in &before.containers {
            let is_same = |other: &ContainerGauge| {
                (&other.container, &other.service, other.role) == (&level.container, &level.service, level.role)
            };
            if !now.containers.iter().any(is_same) {
                series.unset(&all::CONTAINER_UP, [&level.container, &level.service, &name_of(&level.role)]);
            }
        }
        for names in before.pairs.keys().filter(|names| !now.pairs.contains_key(names)) {
            for each in PairState::ALL {
                series.unset(&all::PAIR_STATE, [&names.client, &names.primary, &names.candidate, each.name()]);
            }
        }
        for level in &before.names {
            if !now.names.iter().any(|other| (&other.name, &other.observer) == (&level.name, &level.observer)) {
                series.unset(&all::DNS_NAME_UP, [&level.name, &level.observer]);
            }
        }
    }

    fn show_levels(&mut self) {
        let series = &mut self.series;
        for level in &self.levels.containers {
            series.refresh_name(&level.container);
            series.refresh_name(&level.service);
            series.set(
                &all::CONTAINER_UP,
                [&level.container, &level.service, &name_of(&level.role)],
                f64::from(u8::from(level.up)),
            );
        }
        for (names, state) in &self.levels.pairs {
            for each in PairState::ALL {
                let labels = [&*names.client, &*names.primary, &*names.candidate, each.name()];
                series.set(&all::PAIR_STATE, labels, f64::from(u8::from(each == *state)));
            }
        }
        for level in &self.levels.names {
            series.set(&all::DNS_NAME_UP, [&level.name, &level.observer], f64::from(u8::from(level.up)));
        }
    }

    fn show_readings(&mut self, readings: &Readings) {
        let series = &mut self.series;
        series.set(&all::BUILD_INFO, [&self.version, &self.kernel], 1.0);
        #[expect(clippy::cast_precision_loss, reason = "a clock's seconds and a process' bytes are far below 2^52")]
        {
            series.set(&all::START_TIME, [], self.started.0 as f64 / 1e9);
            series.set(&all::MEMORY, [], readings.memory_bytes as f64);
        }
        series.set(&all::RING_USED, [], readings.ring_used);
        series.set(&all::DOCKER_CONNECTED, [], f64::from(u8::from(readings.docker_connected)));
        for (probe, attached) in &readings.probes {
            series.set(&all::PROBE_ATTACHED, [probe], f64::from(u8::from(*attached)));
        }
        for (output, lost) in &readings.outputs {
            let before = self.outputs.insert(output, *lost).unwrap_or(0);
            series.add(&all::OUTPUT_LOST, [output], lost.saturating_sub(before));
        }
    }
}

impl Fold for Metrics {
    fn fold(&mut self, effect: &Effect, seen: Stamp) {
        self.series.advance(seen);
        match effect {
            Effect::Incident(incident) => self.incident(incident, seen),
            Effect::Story(_) | Effect::Explained(_) | Effect::Enrich(_) => {}
            Effect::Count(counted) => self.counted(counted),
        }
    }

    fn publish(&mut self, now: Stamp, engine: &mut Engine, lost: &[(&'static str, u64)]) {
        let readings = Readings { outputs: lost.to_vec(), ..(self.readings)() };
        self.series.advance(now);
        for open in self.open.values_mut().filter(|open| now.since(open.first) >= COUNTED_AFTER) {
            count(&mut self.series, open);
        }
        self.show_open();
        self.read_counters(engine);
        let changed = engine.gauges().map(|levels| self.change_levels(levels)).is_some();
        let due = self.touched.is_none_or(|touched| now.since(touched) >= TOUCH_EVERY);
        if changed || due {
            self.show_levels();
        }
        self.show_readings(&readings);
        if due {
            self.touched = Some(now);
            self.series.touch();
        }
    }
}

fn count(series: &mut Series, open: &mut Open) {
    if open.counted.is_none() {
        let (cause, service) = &open.key;
        series.add(&all::INCIDENTS, [&name_of(cause), service], 1);
        open.counted = Some(open.key.clone());
    }
}

#[expect(clippy::cast_precision_loss, reason = "no span of a run comes near 2^52 ns, which are 52 days")]
fn seconds(span: Nanos) -> f64 {
    span.0 as f64 / 1e9
}

fn word(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}

/// The class's name in the JSON, without an allocation.
fn class(class: HttpxClass) -> &'static str {
    match class {
        HttpxClass::ConnectError => "ConnectError",
        HttpxClass::ConnectTimeout => "ConnectTimeout",
        HttpxClass::ReadError => "ReadError",
        HttpxClass::ReadTimeout => "ReadTimeout",
        HttpxClass::WriteError => "WriteError",
        HttpxClass::WriteTimeout => "WriteTimeout",
        HttpxClass::RemoteProtocolError => "RemoteProtocolError",
        HttpxClass::None => "none",
    }
}
