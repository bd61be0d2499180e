//! A Prometheus server of a test's own, as an operator sets it up: the shipped scrape job and rules, nothing else.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use gaia_monitor_tests::command::{OnInterrupt, run};
use gaia_monitor_tests::host::{self, Need};
use gaia_monitor_tests::wait;
use serde_json::Value;

use super::{asset, tool};

/// What the scrape snippet names, and a test replaces.
const SHIPPED_TARGET: &str = "127.0.0.1:9435";
const READY_WITHIN: Duration = Duration::from_secs(30);
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// Ends it should this process be killed.
const AT_MOST: &str = "600";

/// Ended when it is dropped.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    /// Its configuration, data and log go to `folder`.
    pub fn start(folder: &Path, monitor: SocketAddr) -> Result<Self> {
        host::ensure(&[Need::Prometheus], &mut |step| eprintln!("{step}"))?;
        fs::create_dir_all(folder)?;
        fs::write(folder.join("gaia-monitor.rules.yml"), asset("prometheus-rules")?)?;
        let job = asset("prometheus-scrape")?;
        ensure!(job.contains(SHIPPED_TARGET), "{job}");
        let job: Vec<String> =
            job.replace(SHIPPED_TARGET, &monitor.to_string()).lines().map(|line| format!("  {line}\n")).collect();
        let config = folder.join("prometheus.yml");
        fs::write(&config, format!("rule_files: [gaia-monitor.rules.yml]\nscrape_configs:\n{}", job.concat()))?;
        run(Command::new(tool("promtool")?).args(["check", "config"]).arg(&config), OnInterrupt::End)?;
        let address = free_address()?;
        let log = fs::File::create(folder.join("prometheus.log"))?;
        let child = Command::new("timeout")
            .arg(AT_MOST)
            .arg(tool("prometheus")?)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start Prometheus")?;
        let mut prometheus = Self { child, address };
        wait::until("Prometheus to be ready", READY_WITHIN, || {
            if let Some(status) = prometheus.child.try_wait()? {
                bail!("Prometheus ended ({status})");
            }
            Ok(get(&format!("http://{address}/-/ready"), &[]).ok())
        })
        .with_context(|| fs::read_to_string(folder.join("prometheus.log")).unwrap_or_default())?;
        Ok(prometheus)
    }

    /// The `data` of a response of the API.
    pub fn api(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        let text = get(&format!("http://{}/api/v1/{path}", self.address), query)?;
        let mut answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        ensure!(answer.get("status") == Some(&Value::from("success")), "{query:?}: {text}");
        ensure!(answer.get("warnings").is_none(), "{query:?}: {text}");
        Ok(answer.get_mut("data").map(Value::take).unwrap_or_default())
    }

    /// What an instant query yields: each series' labels and value.
    pub fn query(&self, expr: &str) -> Result<Vec<Value>> {
        let data = self.api("query", &[("query", expr)])?;
        data.get("result").and_then(Value::as_array).cloned().context("no result")
    }

    /// The alerts that fire.
    pub fn firing(&self) -> Result<Vec<Alert>> {
        let data = self.api("alerts", &[])?;
        let alerts = data.get("alerts").and_then(Value::as_array).context("no alerts")?;
        Ok(alerts.iter().filter(|alert| alert["state"] == "firing").cloned().map(Alert).collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // `timeout` hands the signal on.
        let pid = i32::try_from(self.child.id()).map(nix::unistd::Pid::from_raw);
        let asked = pid.is_ok_and(|pid| nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).is_ok());
        if !asked || !wait::quietly(READY_WITHIN, || matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))) {
            eprintln!("Prometheus at {} did not end", self.address);
        }
    }
}

/// One alert, as the API returns it.
#[derive(Clone, Debug)]
pub struct Alert(Value);

impl Alert {
    pub fn label(&self, name: &str) -> &str {
        self.0["labels"][name].as_str().unwrap_or_default()
    }

    pub fn annotation(&self, name: &str) -> &str {
        self.0["annotations"][name].as_str().unwrap_or_default()
    }

    pub fn is(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.label("alertname") == name && labels.iter().all(|(label, value)| self.label(label) == *value)
    }
}

/// The body of a response, or its error.
pub fn get(url: &str, query: &[(&str, &str)]) -> Result<String> {
    let request = ureq::get(url).query_pairs(query.iter().copied());
    let request = request.config().timeout_global(Some(ANSWERS_WITHIN)).http_status_as_error(false).build();
    let mut answer = request.call().with_context(|| format!("asking {url}"))?;
    let text = answer.body_mut().read_to_string().with_context(|| format!("reading {url}"))?;
    ensure!(answer.status().is_success(), "{url} {query:?} answers {}: {text}", answer.status());
    Ok(text)
}

/// An address without a listener at this moment.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
