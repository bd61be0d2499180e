//! Remains of a killed monitor: a recording, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::command::{OnInterrupt, run};
use gaia_monitor_tests::host::{self, Need};
use gaia_monitor_tests::monitor::binary;
use gaia_monitor_tests::stage::Stage;
use gaia_monitor_tests::wait;
use gaia_monitor_tests::witness::Witness;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// The kernel frees programs and links after the last reference is dropped and a grace period is over.
const FREED_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn leaves_a_readable_recording_and_nothing_in_the_kernel_when_killed() {
    if let Err(error) = killed() {
        panic!("{error:#}");
    }
}

fn killed() -> Result<()> {
    host::ensure(&[Need::Bpftool], &mut |step| eprintln!("{step}"))?;
    let stage = Stage::begin(Witness::get()?)?;
    let mut monitor = stage.monitor()?;
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=60")))?;
    server.container.kill("KILL")?;
    client.ended(&request)?;
    monitor.wait_for("an incident", TOLD_WITHIN, |incidents| (!incidents.is_empty()).then_some(()))?;

    let pid = monitor.pid();
    let loaded = loaded_by(pid)?;
    ensure!(!loaded.is_empty(), "the monitor has no program loaded");
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?;
    let ended = monitor.stop()?;
    ensure!(!ended.status.success(), "the monitor survived SIGKILL");
    wait::until("the kernel to free all that the monitor had loaded", FREED_WITHIN, || {
        Ok(in_kernel()?.is_disjoint(&loaded).then_some(()))
    })?;

    let replay = Command::new(binary()?).arg("replay").arg(&ended.recording).args(["--output", "json"]).output()?;
    let replayed = String::from_utf8(replay.stdout)?;
    let mut lines = replayed.lines();
    for line in &ended.lines {
        let next = lines.next();
        ensure!(next == Some(line.raw.as_str()), "the run printed\n{}\nthe replay\n{next:?}", line.raw);
    }
    stage.stack.remove()
}

/// Kind and id of every BPF program, link and map that a process holds.
fn loaded_by(pid: u32) -> Result<BTreeSet<(&'static str, u64)>> {
    let mut loaded = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("the monitor's descriptors")? {
        // A descriptor may close between the listing and the look.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let kind = match key {
                "prog_id" => "prog",
                "link_id" => "link",
                "map_id" => "map",
                _ => continue,
            };
            loaded.insert((kind, value.trim().parse()?));
        }
    }
    Ok(loaded)
}

/// The same for the whole kernel.
fn in_kernel() -> Result<BTreeSet<(&'static str, u64)>> {
    let mut all = BTreeSet::new();
    for kind in ["prog", "link", "map"] {
        let listed = run(Command::new("bpftool").args(["--json", kind, "show"]), OnInterrupt::End)?.stdout;
        let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).context("bpftool's list")?;
        all.extend(listed.iter().filter_map(|entry| Some((kind, entry.get("id")?.as_u64()?))));
    }
    Ok(all)
}
