//! A monitored run: the monitor with JSON output into a file, and its lost events, processor time and memory. The usage
//! comes from `/proc/PID` (proc(5)), read while the monitor runs.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gaia_monitor_tests::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

const READY_WITHIN: Duration = Duration::from_secs(30);
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// Limit of the monitor's run in seconds, in case this program is killed.
const AT_MOST: &str = "600";

/// A running monitor. Dropping it stops the monitor.
pub struct Watch {
    child: Child,
    stderr: PathBuf,
}

/// Fields 14 and 15 of `/proc/PID/stat`, and `VmHWM`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub peak_mib: f64,
}

impl Watch {
    /// Starts the monitor and waits until every probe is attached.
    ///
    /// # Errors
    /// When the monitor exits or times out before; the error quotes its standard error.
    pub fn start(binary: &Path, folder: &Path) -> Result<Self> {
        let ready = folder.join("ready.json");
        let _ = fs::remove_file(&ready);
        let stderr = folder.join("monitor.err");
        let out = File::create(folder.join("incidents.jsonl")).context("cannot create a file for incidents")?;
        let err = File::create(&stderr).context("cannot create a file for the monitor's messages")?;
        let mut command = Command::new(binary);
        command.args(["run", "--output", "json", "--duration", AT_MOST, "--ready-file"]).arg(&ready);
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
        let mut watch = Self { child, stderr };
        wait::until("the monitor to be ready", READY_WITHIN, || {
            if let Some(status) = watch.child.try_wait().context("cannot poll the monitor")? {
                bail!("the monitor exited before it was ready ({status})");
            }
            Ok(fs::read_to_string(&ready).ok().filter(|text| text.ends_with('\n')))
        })
        .with_context(|| format!("the monitor wrote:\n{}", watch.stderr()))?;
        Ok(watch)
    }

    /// Usage so far.
    ///
    /// # Errors
    /// When the monitor has exited.
    pub fn usage(&self) -> Result<Usage> {
        let stat = self.proc("stat")?;
        // The second field may hold blanks and parentheses, so count from its end.
        let (_, rest) = stat.rsplit_once(')').context("no process name in /proc/PID/stat")?;
        let mut times = rest.split_whitespace().skip(11).map(str::parse::<u32>);
        let (Some(Ok(user)), Some(Ok(system))) = (times.next(), times.next()) else {
            bail!("no times in /proc/PID/stat");
        };
        let tick = sysconf(SysconfVar::CLK_TCK).context("no clock ticks")?.context("no clock ticks")?;
        let tick = f64::from(i32::try_from(tick).context("clock ticks")?);
        let status = self.proc("status")?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
        let peak: u32 = peak.and_then(|kib| kib.parse().ok()).context("no VmHWM in /proc/PID/status")?;
        Ok(Usage { cpu_seconds: f64::from(user.saturating_add(system)) / tick, peak_mib: f64::from(peak) / 1024.0 })
    }

    /// Stops the monitor by SIGINT and returns the lost events of its summary.
    ///
    /// # Errors
    /// When the monitor times out, fails, or prints no summary.
    pub fn stop(mut self) -> Result<u64> {
        self.end()?;
        lost(&self.stderr()).with_context(|| format!("no summary in what the monitor wrote:\n{}", self.stderr()))
    }

    fn end(&mut self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).context("a pid out of range")?);
        if let Ok(Some(status)) = self.child.try_wait() {
            bail!("the monitor exited early ({status}):\n{}", self.stderr());
        }
        kill(pid, Signal::SIGINT).context("cannot signal the monitor")?;
        if !wait::quietly(ENDS_WITHIN, || matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))) {
            self.child.kill().context("cannot kill the monitor")?;
            self.child.wait().context("cannot wait for the monitor")?;
            bail!("the monitor did not exit within {} s of SIGINT", ENDS_WITHIN.as_secs());
        }
        let status = self.child.wait().context("cannot wait for the monitor")?;
        if !status.success() {
            bail!("the monitor failed ({status}):\n{}", self.stderr());
        }
        Ok(())
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }

    fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None))
            && let Err(error) = self.end()
        {
            eprintln!("{error:#}");
        }
    }
}

/// Sum of `N events lost at stage …` in the summary; `None` without a summary.
fn lost(stderr: &str) -> Option<u64> {
    if stderr.lines().any(|line| line.trim() == "no events lost") {
        return Some(0);
    }
    let stages = stderr.lines().filter(|line| line.contains(" lost at stage "));
    let counts: Vec<u64> =
        stages.filter_map(|line| line.split_whitespace().next()?.replace(',', "").parse().ok()).collect();
    (!counts.is_empty()).then(|| counts.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_the_losses_of_all_stages() {
        let stderr = "  7 events lost at stage ring\n  1 event lost at stage filter\n";
        assert_eq!(lost(stderr), Some(8));
    }

    #[test]
    fn returns_none_without_a_summary() {
        assert_eq!((lost("  no events lost\n"), lost("killed")), (Some(0), None));
    }
}
