//! Ownership and removal of containers: run ids, labels, Ctrl-C, and the sweep of what dead runs left.
//!
//! Removal happens by label only, and only for the labels of this very run or of one that has no process any more. A run is
//! identified by pid *and* start time *and* boot, so that a reused pid never protects or endangers another run.

use std::process::id as own_pid;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::docker;

/// Label on everything that the harness creates; its value is the run's id.
pub const RUN_LABEL: &str = "gaia-monitor.run";
/// Label that names the process which owns the run: `BOOT:PID:STARTTIME`.
pub const OWNER_LABEL: &str = "gaia-monitor.owner";

/// The message of the error that Ctrl-C causes.
pub const INTERRUPTED: &str = "interrupted";

/// One owner of containers and networks: a demo, or one live test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunId {
    id: String,
    owner: String,
}

impl RunId {
    /// A new one; `purpose` is a word such as `demo`.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn new(purpose: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let owner = owner_of(own_pid())?.context("this process has no entry in /proc")?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // The start time's last digits distinguish runs with a reused pid.
        let started = owner.rsplit(':').next().unwrap_or_default();
        let tail = started.get(started.len().saturating_sub(4)..).unwrap_or(started);
        Ok(Self { id: format!("gm-{purpose}-{}-{tail}-{count}", own_pid()), owner })
    }

    /// Unique on this host; also the prefix of every name in the run, and the Compose project of its containers.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.id
    }

    /// `--label` arguments for `docker run` and `docker network create`.
    #[must_use]
    pub fn labels(&self) -> [String; 2] {
        [format!("{RUN_LABEL}={}", self.id), format!("{OWNER_LABEL}={}", self.owner)]
    }

    /// Removes every container and network of this run, and ensures that they are removed.
    ///
    /// # Errors
    /// With what is left.
    pub fn remove_all(&self) -> Result<()> {
        remove(&format!("{RUN_LABEL}={}", self.id))
    }
}

/// Removes what runs of dead processes left. Runs of living processes, on this or any other user's account, stay.
///
/// # Errors
/// When Docker does not respond.
pub fn sweep_dead() -> Result<()> {
    for owner in docker::label_values(OWNER_LABEL)? {
        if is_dead(&owner) {
            remove(&format!("{OWNER_LABEL}={owner}"))?;
        }
    }
    Ok(())
}

fn remove(label: &str) -> Result<()> {
    let filter = format!("label={label}");
    let containers = docker::always(["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter])?;
    let containers: Vec<&str> = containers.split_whitespace().collect();
    if !containers.is_empty() {
        let removed = docker::always(["rm", "--force", "--volumes"].iter().chain(&containers));
        // A container may have been removed meanwhile; what counts is that none is left.
        let left = docker::always(["ps", "--all", "--quiet", "--filter", &filter])?;
        if !left.trim().is_empty() {
            removed?;
            bail!("containers are left that cannot be removed: {}", left.trim().replace('\n', " "));
        }
    }
    let networks = docker::always(["network", "ls", "--quiet", "--no-trunc", "--filter", &filter])?;
    for network in networks.split_whitespace() {
        docker::always(["network", "rm", network])?;
    }
    Ok(())
}

/// `BOOT:PID:STARTTIME` of a living process, none if there is no such process.
fn owner_of(pid: u32) -> Result<Option<String>> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("cannot read the boot id")?;
    Ok(start_time(pid).map(|started| format!("{}:{pid}:{started}", boot.trim())))
}

/// Field 22 of `/proc/PID/stat` (proc(5)); the second field may hold blanks and parentheses, so count from its end.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// An owner that cannot be read counts as living: a leftover is better than the loss of another run's containers.
fn is_dead(owner: &str) -> bool {
    let Some(pid) = owner.split(':').nth(1).and_then(|pid| pid.parse().ok()) else { return false };
    match owner_of(pid) {
        Ok(Some(living)) => living != owner,
        Ok(None) => true,
        Err(_) => false,
    }
}

fn flag() -> &'static Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    FLAG.get_or_init(|| Arc::new(AtomicBool::new(false)))
}

/// From now on Ctrl-C (or SIGTERM, SIGHUP) makes every wait and command of the harness fail, so that the owners unwind
/// and clean up. A second one does not cut that short: one key press may arrive twice, by the terminal and by a parent
/// that passes it on (`sudo`, `timeout`).
///
/// # Errors
/// When a handler cannot be installed.
pub fn watch_signals() -> Result<()> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(flag())).map_err(|error| error.to_string())?;
        }
        Ok(())
    });
    installed.clone().map_err(anyhow::Error::msg).context("cannot install signal handlers")
}

/// Has Ctrl-C been pressed?
#[must_use]
pub fn is_interrupted() -> bool {
    flag().load(Ordering::Relaxed)
}

/// Fails once Ctrl-C has been pressed.
///
/// # Errors
/// [`INTERRUPTED`].
pub fn check_interrupt() -> Result<()> {
    if is_interrupted() {
        bail!(INTERRUPTED);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn treats_a_reused_pid_as_dead() {
        let owner = owner_of(own_pid()).unwrap().unwrap();
        assert!(!is_dead(&owner));
        let (head, started) = owner.rsplit_once(':').unwrap();
        assert!(is_dead(&format!("{head}:{}", started.parse::<u64>().unwrap() + 1)));
    }

    #[test]
    fn treats_an_unreadable_owner_as_alive() {
        assert!(!is_dead("unknown") && !is_dead("boot:not-a-pid:1"));
    }

    #[test]
    fn distinguishes_two_runs_of_one_process() {
        assert_ne!(RunId::new("t").unwrap(), RunId::new("t").unwrap());
    }
}
