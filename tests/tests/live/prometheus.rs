//! From a crash to its alert, and from the alert to the incident, by a real Prometheus; and the checks of promtool.

mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gaia_monitor::model::incident::{CauseKind, Incident};
use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::command::{OnInterrupt, run, run_any};
use gaia_monitor_tests::host::{self, Need};
use gaia_monitor_tests::monitor::{Monitor, Options, binary};
use gaia_monitor_tests::stage::Stage;
use gaia_monitor_tests::wait;
use gaia_monitor_tests::witness::Witness;
use nix::sys::signal::Signal;
use serde_json::Value;
use server::{Alert, Prometheus, free_address, get};

/// From the fault to the alert that fires, with the shipped intervals.
const FIRES_WITHIN: Duration = Duration::from_secs(30);
const WITHIN: Duration = Duration::from_secs(30);
/// Where the alerts' commands look for the journal.
const JOURNAL: &str = "/var/lib/gaia-monitor";
/// Alerts that this story may fire: failures, deaths, and the names and the pair of these containers.
const OF_THE_STORY: [&str; 5] =
    ["GaiaConnectionsDropped", "GaiaUnprotectedFailure", "GaiaProcessDied", "GaiaNameGone", "GaiaPairFailed"];
/// Queries of the dashboard, by a part of them, that this story leaves without data.
const WITHOUT_DATA: [&str; 6] = [
    "gaia_monitor_incidents_withdrawn_total",
    "gaia_monitor_idle_closes_total",
    "gaia_monitor_client_cancelled_total",
    "sum by (instance, container, service) ((gaia_monitor_oom_kills_total",
    "sum by (stage) ((gaia_monitor_lost_events_total",
    "sum by (output) ((gaia_monitor_output_lost_total",
];

fn passes(result: Result<()>) {
    if let Err(error) = result {
        panic!("{error:#}");
    }
}

fn asset(name: &str) -> Result<String> {
    Ok(run(Command::new(binary()?).args(["assets", name]), OnInterrupt::End)?.stdout)
}

fn tool(name: &str) -> Result<PathBuf> {
    Need::Prometheus.program(name).with_context(|| format!("no {name}"))
}

#[test]
fn the_rules_pass_promtool_and_their_unit_tests() {
    passes(rules_are_sound());
}

fn rules_are_sound() -> Result<()> {
    host::ensure(&[Need::Prometheus], &mut |step| eprintln!("{step}"))?;
    let place = tempfile::tempdir()?;
    let rules = place.path().join("rules.yml");
    fs::write(&rules, asset("prometheus-rules")?)?;
    let check = ["check", "rules", "--lint=all", "--lint-fatal"];
    run(Command::new(tool("promtool")?).args(check).arg(&rules), OnInterrupt::End)?;
    let stories = include_str!("../../prometheus/rules.test.yml");
    let file = place.path().join("rules.test.yml");
    fs::write(&file, stories)?;
    run(Command::new(tool("promtool")?).args(["test", "rules"]).arg(&file), OnInterrupt::End)?;
    // A story that expects something else must fail, or promtool read none.
    fs::write(&file, stories.replace("'Connections to gaia-core were dropped", "'Something else"))?;
    let (status, _) = run_any(Command::new(tool("promtool")?).args(["test", "rules"]).arg(&file), OnInterrupt::End)?;
    ensure!(!status.success(), "any story passes");

    let rules: Value = serde_saphyr::from_str(&fs::read_to_string(&rules)?)?;
    let stories: Value = serde_saphyr::from_str(stories)?;
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let cases: Vec<Value> = list(&stories, "tests").iter().flat_map(|test| list(test, "alert_rule_test")).collect();
    for rule in list(&rules, "groups").iter().flat_map(|group| list(group, "rules")) {
        let Some(alert) = rule["alert"].as_str() else { continue };
        let (silent, firing): (Vec<&Value>, Vec<&Value>) = cases
            .iter()
            .filter(|case| case["alertname"] == alert)
            .partition(|case| list(case, "exp_alerts").is_empty());
        ensure!(!silent.is_empty() && !firing.is_empty(), "{alert} has no story in which it fires, or none without it");
    }
    Ok(())
}

#[test]
fn a_crash_fires_its_alerts_within_30_s_that_lead_to_its_incident() {
    passes(from_crash_to_incident());
}

fn from_crash_to_incident() -> Result<()> {
    let stage = Stage::begin(Witness::get()?)?;
    let (journal, listen) = (stage.stack.folder().join("journal"), free_address()?);
    let options = Options::default().project(stage.stack.project()).arg("--listen").arg(listen.to_string());
    let monitor = Monitor::start(stage.stack.folder(), &options.arg("--journal").arg(&journal))?;
    let prometheus = Prometheus::start(&stage.stack.folder().join("prometheus"), listen)?;
    let (core, candidate) = (stage.uvicorn("core")?, stage.uvicorn("core-candidate")?);
    let client = stage.client("web")?;

    // An ordinary day: responses, a 503 or two, a restart that breaks nothing.
    candidate.container.verb("restart")?;
    candidate.listening(2)?;
    for path in ["/pid", "/status?code=503", "/status?code=503", "/pid"] {
        client.ask_well(Request::get(&core.url(path)))?;
        client.ask_well(Request::get(&candidate.url(path)))?;
    }
    wait::until("some scrapes of an ordinary day", WITHIN, || {
        let pair = prometheus.query("count_over_time(gaia_monitor_pair_state{state='active'}[1m]) > 2")?;
        Ok((!pair.is_empty()).then_some(()))
    })?;
    let before = prometheus.query("count_over_time(ALERTS{alertstate='firing'}[10m])")?;
    ensure!(before.is_empty(), "an alert before there was anything: {before:?}");

    let crash = Instant::now();
    client.ask(Request::get(&core.url("/segv")))?;
    let dropped = fires(
        &prometheus,
        crash,
        "GaiaConnectionsDropped",
        &[("cause", "process_crashed"), ("server_service", "core")],
    )?;
    leads_to(&dropped, &journal, core.container.name(), CauseKind::ProcessCrashed)?;
    let died = fires(&prometheus, crash, "GaiaProcessDied", &[("cause", "process_crashed"), ("service", "core")])?;
    leads_to(&died, &journal, core.container.name(), CauseKind::ProcessCrashed)?;
    let gone = fires(&prometheus, crash, "GaiaNameGone", &[("name", "core")])?;
    leads_to(&gone, &journal, core.container.name(), CauseKind::ProcessCrashed)?;
    let unprotected = |alerts: &[Alert]| alerts.iter().any(|alert| alert.is("GaiaUnprotectedFailure", &[]));
    ensure!(!unprotected(&prometheus.firing()?), "RemoteProtocolError is retried: {:?}", prometheus.firing()?);

    let state = prometheus.query("gaia_monitor_pair_state == 1")?;
    ensure!(
        state.iter().all(|series| series["metric"]["state"] == "failover_active") && !state.is_empty(),
        "the candidate can answer: {state:?}"
    );

    // The candidate ends during an upload: ReadError, which no policy retries.
    let upload = client.send(Request::upload(&candidate.url("/upload?seconds=60"), 32 << 20))?;
    candidate.entered("/upload", 1)?;
    let kill = Instant::now();
    candidate.signal_from_host(candidate.container.pid()?, Signal::SIGKILL)?;
    client.ended(&upload)?;
    let labels = [
        ("cause", "process_killed"),
        ("httpx", "ReadError"),
        ("client_service", "web"),
        ("server_service", "core-candidate"),
    ];
    let lost = fires(&prometheus, kill, "GaiaUnprotectedFailure", &labels)?;
    leads_to(&lost, &journal, candidate.container.name(), CauseKind::ProcessKilled)?;
    let pair = fires(&prometheus, kill, "GaiaPairFailed", &[("primary", "core"), ("candidate", "core-candidate")])?;
    leads_to(&pair, &journal, candidate.container.name(), CauseKind::ProcessKilled)?;
    for alert in prometheus.firing()? {
        ensure!(OF_THE_STORY.contains(&alert.label("alertname")), "an alert of another story: {alert:?}");
    }

    dashboard_has_data(&prometheus)?;
    metrics_are_clean(&stage, &get(&format!("http://{listen}/metrics"), &[])?)?;

    // A removed container is neither failed nor missing.
    stage.stack.run().remove_all()?;
    wait::until("the alerts of the removed pair to end", WITHIN, || {
        let lasting = ["GaiaPairFailed", "GaiaNameGone"];
        let firing = prometheus.firing()?;
        Ok((!firing.iter().any(|alert| lasting.contains(&alert.label("alertname")))).then_some(()))
    })?;
    drop(prometheus);
    let ended = monitor.stop()?;
    ensure!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    stage.stack.remove()
}

fn fires(prometheus: &Prometheus, fault: Instant, name: &str, labels: &[(&str, &str)]) -> Result<Alert> {
    let within = FIRES_WITHIN.saturating_sub(fault.elapsed());
    let alert = wait::until(&format!("{name} {labels:?}"), within, || {
        Ok(prometheus.firing()?.into_iter().find(|alert| alert.is(name, labels)))
    })
    .with_context(|| format!("there is {:?}", prometheus.firing()))?;
    eprintln!("{name} fires after {:.1} s", fault.elapsed().as_secs_f64());
    Ok(alert)
}

/// One click, one command: each must come to the incident of this container.
fn leads_to(alert: &Alert, journal: &Path, container: &str, cause: CauseKind) -> Result<()> {
    let page = get(alert.annotation("incidents"), &[])?;
    let page: Value = serde_json::from_str(&page)?;
    let incidents: Vec<Incident> = serde_json::from_value(page["incidents"].clone())?;
    let is_it = |found: &&Incident| found.subject.container.as_deref() == Some(container) && found.cause.kind == cause;
    let incident = incidents.iter().find(is_it).with_context(|| format!("{alert:?} leads to {page:#}"))?;

    let command = alert.annotation("command").replace(JOURNAL, &journal.to_string_lossy());
    let words = command.strip_prefix("gaia-monitor ").with_context(|| format!("{alert:?}"))?.split(' ');
    let mut explain = Command::new(binary()?);
    explain.args(words);
    let output = run(&mut explain, OnInterrupt::End)?.stdout;
    let pid = incident.subject.pid.context("no pid")?.0.to_string();
    for part in [container, &pid, &incident.moment.at.to_string()] {
        ensure!(output.contains(part), "`{command}` does not print {part}:\n{output}");
    }
    Ok(())
}

/// Every query of the dashboard, as Grafana sends it.
fn dashboard_has_data(prometheus: &Prometheus) -> Result<()> {
    let dashboard: Value = serde_json::from_str(&asset("grafana-dashboard")?)?;
    let now = format!("{:.3}", std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs_f64());
    let start = format!("{:.3}", now.parse::<f64>()? - 120.0);
    let mut empty = Vec::new();
    let mut asked = 0;
    for panel in dashboard["panels"].as_array().context("no panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expr = target["expr"].as_str().context("no query")?;
            let filled =
                [("$instance", ".*"), ("$__interval", "30s"), ("$__rate_interval", "30s"), ("$__range", "10m")]
                    .iter()
                    .fold(expr.to_owned(), |expr, (variable, value)| expr.replace(variable, value));
            ensure!(!filled.contains('$'), "{filled}");
            let data = if target["instant"] == true {
                prometheus.api("query", &[("query", &filled)])?
            } else {
                prometheus.api("query_range", &[("query", &filled), ("start", &start), ("end", &now), ("step", "5")])?
            };
            asked += 1;
            if data["result"].as_array().is_none_or(Vec::is_empty) {
                empty.push(expr.to_owned());
            }
        }
    }
    ensure!(asked > 30, "only {asked} queries");
    empty.retain(|expr| !WITHOUT_DATA.iter().any(|part| expr.contains(part)));
    ensure!(empty.is_empty(), "no data for {empty:#?}");
    let monitors = prometheus.api("label/instance/values", &[("match[]", "gaia_monitor_build_info")])?;
    ensure!(monitors.as_array().is_some_and(|monitors| monitors.len() == 1), "{monitors}");
    Ok(())
}

fn metrics_are_clean(stage: &Stage, page: &str) -> Result<()> {
    ensure!(page.contains("\ngaia_monitor_broken_connections_total{"), "{page}");
    let file = stage.stack.folder().join("metrics");
    fs::write(&file, page)?;
    let check = "exec \"$0\" check metrics < \"$1\"";
    let printed = run(Command::new("sh").args(["-c", check]).arg(tool("promtool")?).arg(&file), OnInterrupt::End)?;
    ensure!(printed.stdout.is_empty() && printed.stderr.is_empty(), "{}{}", printed.stdout, printed.stderr);
    Ok(())
}
