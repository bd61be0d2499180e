//! The exported series: one handle for each metric and set of label values, evicted with the names in their labels.
//!
//! A name that no container has any more is remembered for [`REMEMBERED`], then its counters are evicted; a gauge is
//! evicted as soon as it is no longer set. Label values are escaped and cut as names are everywhere. Bounds: [`NAMES`] names and [`SERIES`] series; beyond them, values are counted
//! under `other`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_util::MetricKindMask;

use super::catalogue::{ALL, LABELS, Metric};
use crate::engine::stats::OTHER;
use crate::model::incident::{EXTERNAL, HOST};
use crate::model::label::NO_CONTAINER;
use crate::model::time::{Nanos, Stamp};
use crate::text::harmless_name;

/// Names of containers and services; a host has some dozens.
pub const NAMES: usize = 1_000;
/// Series of counters and gauges together.
pub const SERIES: usize = 10_000;
const REMEMBERED: Nanos = Nanos::from_secs(3_600);
/// How often every live series is touched, so that the exporter keeps it.
pub const TOUCH_EVERY: Nanos = Nanos::from_secs(10);
/// The exporter drops a series that was not touched for this long.
const SHOWN: Duration = Duration::from_secs(60);

/// Label values that are not the name of a container.
const RESERVED: [&str; 5] = [OTHER, HOST, EXTERNAL, NO_CONTAINER, "any"];

const METADATA: Metadata<'static> = Metadata::new("gaia_monitor", Level::INFO, None);

type Id = (&'static str, Vec<String>);

struct Kept<H> {
    handle: H,
    /// Indices of the names among the label values.
    names: Vec<usize>,
    set: Stamp,
}

pub struct Series {
    recorder: PrometheusRecorder,
    counters: HashMap<Id, Kept<Counter>>,
    gauges: HashMap<Id, Kept<Gauge>>,
    histograms: HashMap<Id, Histogram>,
    /// When a container last had each name.
    names: BTreeMap<String, Stamp>,
    now: Stamp,
}

impl Series {
    #[must_use]
    pub fn new() -> Self {
        let mask = MetricKindMask::COUNTER | MetricKindMask::GAUGE;
        let mut builder = PrometheusBuilder::new().idle_timeout(mask, Some(SHOWN));
        for metric in ALL.iter().filter(|metric| !metric.buckets.is_empty()) {
            let matcher = Matcher::Full(metric.name.to_owned());
            // Only an empty list is refused; without buckets the metric would be exported as a summary.
            builder = match builder.set_buckets_for_metric(matcher, metric.buckets) {
                Ok(builder) => builder,
                Err(_) => PrometheusBuilder::new().idle_timeout(mask, Some(SHOWN)),
            };
        }
        let recorder = builder.build_recorder();
        for metric in &ALL {
            let (name, help) = (metric.name.into(), metric.help.into());
            let unit: Option<Unit> = None;
            match metric.kind {
                super::catalogue::Kind::Counter => recorder.describe_counter(name, unit, help),
                super::catalogue::Kind::Gauge => recorder.describe_gauge(name, unit, help),
                super::catalogue::Kind::Histogram => recorder.describe_histogram(name, unit, help),
            }
        }
        Self {
            recorder,
            counters: HashMap::new(),
            gauges: HashMap::new(),
            histograms: HashMap::new(),
            names: BTreeMap::new(),
            now: Stamp(0),
        }
    }

    /// Renders the series, on any thread.
    #[must_use]
    pub fn handle(&self) -> PrometheusHandle {
        self.recorder.handle()
    }

    /// Moves time forward; it never goes back.
    pub fn advance(&mut self, now: Stamp) {
        self.now = self.now.max(now);
    }

    pub fn add<const N: usize>(&mut self, metric: &'static Metric<N>, values: [&str; N], count: u64) {
        let (id, names) = self.id(metric, values);
        let kept = self.counters.entry(id).or_insert_with_key(|id| Kept {
            handle: self.recorder.register_counter(&key(metric, id), &METADATA),
            names,
            set: self.now,
        });
        kept.handle.increment(count);
    }

    pub fn set<const N: usize>(&mut self, metric: &'static Metric<N>, values: [&str; N], value: f64) {
        let (id, names) = self.id(metric, values);
        let kept = self.gauges.entry(id).or_insert_with_key(|id| Kept {
            handle: self.recorder.register_gauge(&key(metric, id), &METADATA),
            names,
            set: self.now,
        });
        kept.handle.set(value);
        kept.set = self.now;
    }

    /// Evicts a gauge. Until the exporter drops it, its value is NaN: the last value would be wrong, such as `failed` of
    /// a pair that no longer exists.
    pub fn unset<const N: usize>(&mut self, metric: &'static Metric<N>, values: [&str; N]) {
        let (id, _) = self.id(metric, values);
        if let Some(kept) = self.gauges.remove(&id) {
            kept.handle.set(f64::NAN);
        }
    }

    pub fn record<const N: usize>(&mut self, metric: &'static Metric<N>, values: [&str; N], value: f64) {
        let (id, _) = self.id(metric, values);
        let recorder = &self.recorder;
        let histogram =
            self.histograms.entry(id).or_insert_with_key(|id| recorder.register_histogram(&key(metric, id), &METADATA));
        histogram.record(value);
    }

    /// A container has this name now.
    pub fn refresh_name(&mut self, name: &str) {
        let name = &*harmless_name(name);
        let room = self.names.len() < NAMES;
        match self.names.get_mut(name) {
            Some(last) => *last = self.now,
            None if room => drop(self.names.insert(name.to_owned(), self.now)),
            None => {}
        }
    }

    /// Does a container have this name, or did one until [`REMEMBERED`] ago?
    #[must_use]
    pub fn is_remembered(&self, name: &str) -> bool {
        let name = &*harmless_name(name);
        RESERVED.contains(&name) || self.names.contains_key(name)
    }

    /// Keeps the series of known names and evicts the rest. To be called every [`TOUCH_EVERY`].
    pub fn touch(&mut self) {
        let now = self.now;
        self.names.retain(|_, last| now.since(*last) < REMEMBERED);
        let names = &self.names;
        let remembered = |name: &String| RESERVED.contains(&name.as_str()) || names.contains_key(name);
        self.counters.retain(|(_, values), kept| {
            let known = kept.names.iter().filter_map(|index| values.get(*index)).all(remembered);
            if known {
                kept.handle.increment(0);
            }
            known
        });
        self.gauges.retain(|_, kept| now.since(kept.set) < Nanos(TOUCH_EVERY.0 * 2));
    }

    /// The series of these label values, within the bounds.
    fn id<const N: usize>(&mut self, metric: &'static Metric<N>, values: [&str; N]) -> (Id, Vec<usize>) {
        let is_name = |label: &str| LABELS.iter().any(|known| known.name == label && known.is_name);
        let names: Vec<usize> =
            metric.labels.iter().enumerate().filter(|(_, label)| is_name(label)).map(|(index, _)| index).collect();
        let mut values = values.map(|value| harmless_name(value).into_owned()).to_vec();
        for index in &names {
            if let Some(value) = values.get_mut(*index)
                && !self.is_remembered(value)
            {
                if self.names.len() < NAMES {
                    self.names.insert(value.clone(), self.now);
                } else {
                    *value = OTHER.to_owned();
                }
            }
        }
        let id = (metric.name, values);
        if self.counters.len() + self.gauges.len() < SERIES
            || self.counters.contains_key(&id)
            || self.gauges.contains_key(&id)
        {
            return (id, names);
        }
        let (name, mut values) = id;
        for index in &names {
            if let Some(value) = values.get_mut(*index) {
                *value = OTHER.to_owned();
            }
        }
        ((name, values), names)
    }
}

impl Default for Series {
    fn default() -> Self {
        Self::new()
    }
}

fn key<const N: usize>(metric: &'static Metric<N>, (name, values): &Id) -> Key {
    let labels: Vec<Label> =
        metric.labels.iter().zip(values).map(|(label, value)| Label::new(*label, value.clone())).collect();
    Key::from_parts(*name, labels)
}

#[cfg(test)]
mod tests {
    use super::{NAMES, SERIES, Series};
    use crate::model::time::{Nanos, Stamp};
    use crate::output::metrics::catalogue::{BROKEN, DNS_NAME_UP, IDLE_CLOSES, RESTARTS};

    #[test]
    fn counts_names_beyond_the_bound_under_other() {
        let mut series = Series::new();
        for number in 0..NAMES + 50 {
            series.add(&IDLE_CLOSES, [&format!("s{number}")], 2);
        }
        let text = series.handle().render();
        assert!(text.contains("gaia_monitor_idle_closes_total{service=\"other\"} 100\n"), "{text}");
        assert!(text.contains("gaia_monitor_idle_closes_total{service=\"s0\"} 2\n"));
    }

    #[test]
    fn counts_series_beyond_the_bound_under_other() {
        let mut series = Series::new();
        let names: Vec<String> = (0..=SERIES.isqrt()).map(|number| format!("s{number}")).collect();
        for (client, server) in names.iter().flat_map(|client| names.iter().map(move |server| (client, server))) {
            series.add(&BROKEN, [client, server, "ReadError", "app_closed", "false"], 1);
        }
        let shown = series.handle().render().lines().filter(|line| line.starts_with("gaia_monitor_broken")).count();
        assert_eq!(shown, SERIES + 1);
    }

    #[test]
    fn an_unset_gauge_is_nan_until_it_is_set_again() {
        let mut series = Series::new();
        let labels = ["core", "web"];
        series.set(&DNS_NAME_UP, labels, 0.0);
        series.unset(&DNS_NAME_UP, labels);
        let line = |value: &str| format!("gaia_monitor_dns_name_up{{name=\"core\",observer=\"web\"}} {value}");
        series.touch();
        let text = series.handle().render();
        assert!(text.contains(&line("NaN")), "{text}");
        series.set(&DNS_NAME_UP, labels, 1.0);
        let text = series.handle().render();
        assert!(text.contains(&line("1")), "{text}");
    }

    #[test]
    fn evicts_a_counter_an_hour_after_its_name() {
        let mut series = Series::new();
        let minute = |minutes: i64| Stamp(0).plus(Nanos::from_secs(60 * minutes));
        series.add(&RESTARTS, ["core-1", "core"], 1);
        series.add(&RESTARTS, ["web-1", "web"], 1);
        for minutes in 1..=60 {
            series.advance(minute(minutes));
            series.refresh_name("web");
            series.refresh_name("web-1");
            series.touch();
        }
        assert_eq!(series.counters.len(), 1);
        assert!(!series.is_remembered("core"));
    }
}
