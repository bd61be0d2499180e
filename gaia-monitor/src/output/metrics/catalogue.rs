//! Catalogue of all metrics: name, kind, unit, labels and meaning. The exporter, the documentation, the alert rules and the
//! dashboard use this list.
//!
//! Labels are bounded: names of containers and services, values of the contract, reasons of the kernel. Never a port, a
//! pid, an id or an address.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    /// With the upper bounds of its buckets.
    Histogram,
}

impl Kind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A metric with N labels.
#[derive(Clone, Copy, Debug)]
pub struct Metric<const N: usize> {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: &'static str,
    pub labels: [&'static str; N],
    pub help: &'static str,
    /// Upper bounds; of histograms only.
    pub buckets: &'static [f64],
}

/// A metric, whatever its number of labels.
#[derive(Clone, Copy, Debug)]
pub struct CatalogueEntry {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: &'static str,
    pub labels: &'static [&'static str],
    pub help: &'static str,
    pub buckets: &'static [f64],
}

impl<const N: usize> Metric<N> {
    const fn entry(&'static self) -> CatalogueEntry {
        let Metric { name, kind, unit, labels, help, buckets } = self;
        CatalogueEntry { name, kind: *kind, unit, labels, help, buckets }
    }
}

const fn counter<const N: usize>(
    name: &'static str,
    unit: &'static str,
    labels: [&'static str; N],
    help: &'static str,
) -> Metric<N> {
    Metric { name, kind: Kind::Counter, unit, labels, help, buckets: &[] }
}

const fn gauge<const N: usize>(
    name: &'static str,
    unit: &'static str,
    labels: [&'static str; N],
    help: &'static str,
) -> Metric<N> {
    Metric { name, kind: Kind::Gauge, unit, labels, help, buckets: &[] }
}

pub static INCIDENTS: Metric<2> = counter(
    "gaia_monitor_incidents_total",
    "incidents",
    ["cause", "service"],
    "Incidents, each counted once: when it settles or closes, at the latest 2 s after its first revision.",
);
pub static INCIDENTS_WITHDRAWN: Metric<2> = counter(
    "gaia_monitor_incidents_withdrawn_total",
    "incidents",
    ["cause", "service"],
    "Counted incidents that were withdrawn: later facts ruled them out, or they are part of another one.",
);
pub static INCIDENTS_OPEN: Metric<2> = gauge(
    "gaia_monitor_incidents_open",
    "incidents",
    ["cause", "service"],
    "Incidents that are not closed: facts still arrive, or their condition lasts.",
);
pub static BROKEN: Metric<5> = counter(
    "gaia_monitor_broken_connections_total",
    "connections",
    ["client_service", "server_service", "httpx", "cause", "retried"],
    "Connections, connects and lookups that failed for their client, each counted once, at the latest 2 s after its attribution to a cause.",
);
pub static RESETS: Metric<4> = counter(
    "gaia_monitor_resets_total",
    "packets",
    ["container", "service", "direction", "reason"],
    "TCP resets at sockets of containers, whether or not they broke anything.",
);
pub static RESPONSES: Metric<2> = counter(
    "gaia_monitor_http_responses_total",
    "responses",
    ["service", "class"],
    "Final responses of plain HTTP/1.x that containers sent, by class of their status.",
);
pub static UNAVAILABLE: Metric<2> = counter(
    "gaia_monitor_http_unavailable_total",
    "responses",
    ["service", "status"],
    "Responses with status 502, 503 or 504: a client that retries them may never fail over on them.",
);
pub static IDLE_CLOSES: Metric<1> = counter(
    "gaia_monitor_idle_closes_total",
    "connections",
    ["service"],
    "Connections that the server closed with no response outstanding: not an incident.",
);
pub static CANCELLED: Metric<2> = counter(
    "gaia_monitor_client_cancelled_total",
    "connections",
    ["client_service", "server_service"],
    "Clients that disconnected before the response, early or because they ended.",
);
pub static CONTAINER_UP: Metric<3> = gauge(
    "gaia_monitor_container_up",
    "",
    ["container", "service", "role"],
    "1 while the container's first process runs (also while paused); the series ends when the container is removed.",
);
pub static RESTARTS: Metric<2> = counter(
    "gaia_monitor_container_restarts_total",
    "starts",
    ["container", "service"],
    "Starts of a container that had run before, whatever the reason.",
);
pub static OOM_KILLS: Metric<2> = counter(
    "gaia_monitor_oom_kills_total",
    "processes",
    ["container", "service"],
    "Processes of a container that the OOM killer chose, also workers of a container that keeps running.",
);
pub static PAIR_STATE: Metric<4> = gauge(
    "gaia_monitor_pair_state",
    "",
    ["client", "primary", "candidate", "state"],
    "1 for the current state of a primary and its candidate, 0 for the other three.",
);
pub static FAILOVER: Metric<1> = Metric {
    name: "gaia_monitor_failover_duration_seconds",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: ["service"],
    help: "From the end of a service's container to the first complete response of it, or of its candidate, to a later request.",
    buckets: &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0],
};
pub static DNS_NAME_UP: Metric<2> = gauge(
    "gaia_monitor_dns_name_up",
    "",
    ["name", "observer"],
    "1 while the name resolves inside the observer's network namespace, 0 while it is missing and needed.",
);
pub static FIRST_VERDICT: Metric<0> = Metric {
    name: "gaia_monitor_first_verdict_seconds",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: [],
    help: "From an incident's first fact (a client's error, otherwise its moment) to its first revision.",
    buckets: &[0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0],
};
pub static EVENTS: Metric<1> =
    counter("gaia_monitor_events_total", "events", ["source"], "Events that the engine processed.");
pub static LOST_EVENTS: Metric<1> = counter(
    "gaia_monitor_lost_events_total",
    "events",
    ["stage"],
    "Events that were lost before the engine: verdicts of that time are `possible`.",
);
pub static OUTPUT_LOST: Metric<1> = counter(
    "gaia_monitor_output_lost_total",
    "items",
    ["output"],
    "Revisions of incidents, or events of a recording, that an output lost.",
);
pub static RING_USED: Metric<0> = gauge(
    "gaia_monitor_ring_used_ratio",
    "ratio",
    [],
    "Highest fill level of the kernel's ring buffer in the last minute: at 1, events are lost.",
);
pub static DOCKER_CONNECTED: Metric<0> =
    gauge("gaia_monitor_docker_connected", "", [], "1 while Docker's event stream is connected and Docker responds.");
pub static PROBE_ATTACHED: Metric<1> = gauge(
    "gaia_monitor_probe_attached",
    "",
    ["probe"],
    "1 for each attached program; 0 for one whose event this kernel does not have.",
);
pub static MEMORY: Metric<0> = gauge("gaia_monitor_memory_bytes", "bytes", [], "Resident memory of the monitor.");
pub static START_TIME: Metric<0> =
    gauge("gaia_monitor_start_time_seconds", "seconds", [], "Start of this run, in seconds since the Unix epoch.");
pub static BUILD_INFO: Metric<2> = gauge(
    "gaia_monitor_build_info",
    "",
    ["version", "kernel"],
    "Always 1: version of the monitor and release of the kernel.",
);

/// All metrics, in the order of the documentation.
pub static ALL: [CatalogueEntry; 25] = [
    INCIDENTS.entry(),
    INCIDENTS_OPEN.entry(),
    INCIDENTS_WITHDRAWN.entry(),
    BROKEN.entry(),
    RESETS.entry(),
    IDLE_CLOSES.entry(),
    CANCELLED.entry(),
    RESPONSES.entry(),
    UNAVAILABLE.entry(),
    CONTAINER_UP.entry(),
    RESTARTS.entry(),
    OOM_KILLS.entry(),
    PAIR_STATE.entry(),
    FAILOVER.entry(),
    DNS_NAME_UP.entry(),
    FIRST_VERDICT.entry(),
    EVENTS.entry(),
    LOST_EVENTS.entry(),
    OUTPUT_LOST.entry(),
    RING_USED.entry(),
    DOCKER_CONNECTED.entry(),
    PROBE_ATTACHED.entry(),
    MEMORY.entry(),
    START_TIME.entry(),
    BUILD_INFO.entry(),
];

/// A label and its values.
pub struct Label {
    pub name: &'static str,
    pub meaning: &'static str,
    /// A name given by the user, not a fixed value: bounded by [`super::series::NAMES`], and evicted with its container.
    pub is_name: bool,
}

const fn word(name: &'static str, meaning: &'static str) -> Label {
    Label { name, meaning, is_name: false }
}

const fn name(name: &'static str, meaning: &'static str) -> Label {
    Label { name, meaning, is_name: true }
}

/// Every label that a metric may have.
pub static LABELS: [Label; 24] = [
    name(
        "service",
        "Compose service of the container, without one the container's name; of an incident, its subject's (`none` without a container)",
    ),
    name("container", "The container's name"),
    name("client_service", "As `service`; `host` for a process of the host, `external` for a client outside it"),
    name("server_service", "As `service`; `host` for a process of the host, `external` for a server outside it"),
    word("cause", "`cause.kind` of the incident"),
    word("httpx", "`client_error.httpx`: the class that httpx raises"),
    word("retried", "`true` or `false`: whether the client's policy retries this class"),
    word("direction", "`sent` or `received`, seen from the container"),
    word(
        "reason",
        "Sent: the kernel's reason (`enum sk_rst_reason`, without prefix). Received: the state of the receiving socket, because the packet carries no reason",
    ),
    word("class", "`2xx` `3xx` `4xx` `5xx` `other`"),
    word("status", "`502` `503` `504`"),
    word("role", "`primary` `candidate` `none`"),
    name(
        "client",
        "Service whose environment declares the pair; `any` where only the convention `NAME`, `NAME-candidate` does",
    ),
    name("primary", "Service of the primary"),
    name("candidate", "Service of the candidate"),
    word(
        "state",
        "`active` both can respond · `degraded` the candidate cannot · `failover_active` the primary cannot · `failed` neither can. A container can respond when it runs, has listened since its last end, is on a network, is not paused, and Docker's health check does not report `unhealthy`",
    ),
    name("name", "Name by which containers are found"),
    name("observer", "Service in whose network namespace the name was probed"),
    word("source", "`tcp` `http` `dns` `process` `link` `docker` `inventory` `monitor`"),
    word(
        "stage",
        "Stage of the loss: `ring.*` in the kernel's ring buffer, `pipeline.*` before the engine, `docker.*` at Docker",
    ),
    word("output", "`stdout` `journal` `recording` `incidents`"),
    word("probe", "eBPF program of the probe"),
    word("version", "Version of the monitor"),
    word("kernel", "Release of the kernel"),
];

/// The part of `docs/metrics.md` that is generated from this file.
#[must_use]
pub fn tables() -> String {
    let mut text = String::from("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
    for metric in &ALL {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let unit = if metric.unit.is_empty() { String::new() } else { format!(", {}", metric.unit) };
        text +=
            &format!("| `{}` | {}{unit} | {} | {} |\n", metric.name, metric.kind.name(), labels.join(" "), metric.help);
    }
    text += "\nBuckets, in seconds:\n\n";
    for metric in ALL.iter().filter(|metric| !metric.buckets.is_empty()) {
        let bounds: Vec<String> = metric.buckets.iter().map(f64::to_string).collect();
        text += &format!("* `{}`: {}\n", metric.name, bounds.join(", "));
    }
    text += "\n| label | values |\n|---|---|\n";
    for label in &LABELS {
        text += &format!("| `{}` | {} |\n", label.name, label.meaning);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ALL, Kind, LABELS, tables};

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    const BEGIN: &str =
        "<!-- generated from src/output/metrics/catalogue.rs: BLESS=1 cargo test -p gaia-monitor --lib catalogue -->\n";
    const END: &str = "<!-- end of the generated part -->\n";

    #[test]
    fn the_metrics_page_matches_the_catalogue() {
        let page = std::fs::read_to_string(PAGE).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (there, after) = rest.split_once(END).unwrap();
        if there != tables() && std::env::var_os("BLESS").is_some() {
            return std::fs::write(PAGE, [before, BEGIN, &tables(), END, after].concat()).unwrap();
        }
        assert!(there == tables(), "docs/metrics.md differs from the catalogue: run the test with BLESS=1");
    }

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        let plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit());
        let mut seen = BTreeSet::new();
        for metric in &ALL {
            assert!(seen.insert(metric.name), "{} is listed twice", metric.name);
            assert!(metric.name.starts_with("gaia_monitor_") && plain(metric.name), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert_eq!(metric.buckets.is_empty(), metric.kind != Kind::Histogram, "{}", metric.name);
            assert!(metric.buckets.is_sorted(), "{}", metric.name);
            for unit in ["seconds", "bytes", "ratio"] {
                assert_eq!(metric.name.ends_with(&format!("_{unit}")), metric.unit == unit, "{}", metric.name);
            }
        }
    }

    #[test]
    fn every_label_is_documented_and_none_is_an_id() {
        let used: BTreeSet<&str> = ALL.iter().flat_map(|metric| metric.labels).copied().collect();
        let explained: BTreeSet<&str> = LABELS.iter().map(|label| label.name).collect();
        assert_eq!(used, explained);
        for label in used {
            for banned in ["port", "pid", "id", "ip", "address", "netns", "cookie"] {
                assert!(label.split('_').all(|part| part != banned), "{label}");
            }
        }
    }
}
