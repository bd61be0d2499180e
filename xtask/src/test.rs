//! `cargo xtask test`: every suite of the repository. The offline suites run first, as the invoking user; then the live
//! suite runs as root on real Docker, with the release build. A missing privilege or tool is an error: nothing is
//! skipped.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use gaia_monitor_tests::cleanup;
use gaia_monitor_tests::host::{self, Need};
use gaia_monitor_tests::image::Image;
use gaia_monitor_tests::monitor::BINARY_ENV;

use crate::privilege;

/// Prefix of the harness's test targets that need root and Docker.
const LIVE: &str = "live";
const HARNESS: &str = "gaia-monitor-tests";
/// Requirements of the live suite in addition to Docker: the witness, tools that build its image, and tools that check
/// the shipped files.
const LIVE_NEEDS: [Need; 7] = [
    Need::Bpftrace,
    Need::Mmdebstrap,
    Need::DebianKeyring,
    Need::Pip,
    Need::SystemdAnalyze,
    Need::DockerCompose,
    Need::Prometheus,
];
/// Moments are compared to a millisecond: parallel tests would disturb each other.
const LIVE_THREADS: &str = "--test-threads=1";

#[derive(clap::Args)]
pub struct Args {
    /// Run only the suites that need neither root nor Docker.
    #[arg(long, conflicts_with = "live")]
    offline: bool,
    /// Run only the live suite.
    #[arg(long)]
    live: bool,
    /// Arguments of the test programs: a name filter, `--nocapture` …
    #[arg(last = true)]
    args: Vec<String>,
}

/// Runs the suites.
///
/// # Errors
/// When a requirement is missing, or a build or a test fails.
pub fn run(args: Args) -> Result<()> {
    cleanup::watch_signals()?;
    let offline = !args.live;
    let live = !args.offline;
    if live {
        // Fail before minutes of building.
        privilege::check_docker()?;
        host::ensure(&LIVE_NEEDS, &mut |step| eprintln!("{step}"))?;
    }
    let mut failed = Vec::new();
    if offline && !offline_suites(&args.args)? {
        failed.push("offline suites");
    }
    if live && !live_suite(&args.args)? {
        failed.push("live suite");
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn offline_suites(args: &[String]) -> Result<bool> {
    let mut all = cargo("test");
    all.args(["--workspace", "--exclude", HARNESS, "--no-fail-fast", "--"]).args(args);
    let mut harness = cargo("test");
    harness.args(["--package", HARNESS, "--no-fail-fast", "--lib"]);
    for target in test_targets()?.iter().filter(|target| !target.starts_with(LIVE)) {
        harness.args(["--test", target]);
    }
    harness.arg("--").args(args);
    // Run both, so that one failure does not hide another.
    let passed = [shown("unit suites", &mut all)?, shown("harness and offline suites", &mut harness)?];
    Ok(passed.iter().all(|passed| *passed))
}

fn live_suite(args: &[String]) -> Result<bool> {
    let binary = build_monitor()?;
    if privilege::is_root() {
        // Shows the progress. Without root, the first test builds the image.
        Image::ensure(&mut |step| eprintln!("{step}"))?;
    }
    let targets = test_targets()?;
    let live: Vec<&String> = targets.iter().filter(|target| target.starts_with(LIVE)).collect();
    ensure!(!live.is_empty(), "no live suite: no test target of {HARNESS} begins with `{LIVE}`");
    let mut suite = cargo("test");
    suite.args(["--package", HARNESS, "--no-fail-fast"]).env(BINARY_ENV, &binary);
    for target in live {
        suite.args(["--test", target]);
    }
    if !privilege::is_root() {
        // Built by the user, run as root.
        let mut runner = privilege::prefix()?;
        let mut own = OsString::from(format!("{BINARY_ENV}="));
        own.push(&binary);
        runner.push(own);
        let words: Vec<String> = runner.iter().map(|word| format!("{:?}", word.to_string_lossy())).collect();
        suite.arg("--config").arg(format!("target.'cfg(all())'.runner=[{}]", words.join(",")));
    }
    suite.args(["--", LIVE_THREADS]).args(args);
    shown("live suite", &mut suite)
}

/// Builds the monitor in release mode with cargo's own progress, or returns the binary that was built before sudo.
///
/// # Errors
/// When the build fails.
pub fn build_monitor() -> Result<PathBuf> {
    if let Some(built) = std::env::var_os(BINARY_ENV) {
        return Ok(built.into());
    }
    let mut build = cargo("build");
    build.args(["--release", "--package", "gaia-monitor"]);
    let status = build.status().context("cannot start cargo")?;
    ensure!(status.success(), "the build of gaia-monitor failed");
    Ok(host::target_dir().join("release/gaia-monitor"))
}

fn cargo(verb: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg(verb).current_dir(host::workspace());
    cargo
}

fn shown(what: &str, command: &mut Command) -> Result<bool> {
    eprintln!("\n== {what}");
    let status = command.status().context("cannot start cargo")?;
    if cleanup::is_interrupted() {
        bail!(cleanup::INTERRUPTED);
    }
    Ok(status.success())
}

/// Test targets of the harness, from its folder: one file, or one folder with a `main.rs`, each.
fn test_targets() -> Result<BTreeSet<String>> {
    let folder = host::workspace().join("tests/tests");
    let mut targets = BTreeSet::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        let is_target = path.extension().is_some_and(|end| end == "rs") || path.join("main.rs").exists();
        if let Some(stem) = path.file_stem().filter(|_| is_target) {
            targets.insert(stem.to_string_lossy().into_owned());
        }
    }
    Ok(targets)
}
