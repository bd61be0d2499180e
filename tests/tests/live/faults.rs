//! Faults of the host that a run survives or refuses: a hung engine, a journal that disappears, a recording in use.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use gaia_monitor_tests::host;
use gaia_monitor_tests::monitor::{Monitor, Options, binary};
use gaia_monitor_tests::wait;

/// What the contract of the fault promises.
const START_ENDS_WITHIN: Duration = Duration::from_secs(10);
/// The journal is checked every 5 s.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

#[test]
fn a_start_ends_with_3_when_docker_hangs() {
    if let Err(error) = hung() {
        panic!("{error:#}");
    }
}

fn hung() -> Result<()> {
    host::ensure(&[], &mut |step| eprintln!("{step}"))?;
    let place = tempfile::tempdir()?;
    let socket = place.path().join("docker.sock");
    // The kernel accepts connections for it; it reads none.
    let _listener = UnixListener::bind(&socket)?;
    let began = Instant::now();
    let url = format!("unix://{}", socket.display());
    let ended = Command::new(binary()?).args(["run", "--duration", "60", "--docker-host", &url]).output()?;
    let (stderr, took) = (String::from_utf8_lossy(&ended.stderr), began.elapsed());
    ensure!(ended.status.code() == Some(3) && stderr.contains("has not responded for"), "{}: {stderr}", ended.status);
    ensure!(took < START_ENDS_WITHIN, "{took:?}");
    Ok(())
}

#[test]
fn a_journal_that_is_deleted_is_continued_and_a_recording_in_use_is_refused() {
    if let Err(error) = files() {
        panic!("{error:#}");
    }
}

fn files() -> Result<()> {
    host::ensure(&[], &mut |step| eprintln!("{step}"))?;
    let place = tempfile::tempdir()?;
    let journal = place.path().join("journal");
    let monitor = Monitor::start(place.path(), &Options::default().arg("--journal").arg(&journal))?;
    let second = Command::new(binary()?)
        .args(["run", "--force", "--duration", "60", "--record"])
        .arg(monitor.recording())
        .output()?;
    let stderr = String::from_utf8_lossy(&second.stderr);
    ensure!(second.status.code() == Some(2) && stderr.contains("another monitor"), "{}: {stderr}", second.status);
    fs::remove_dir_all(&journal)?;
    wait::until("the journal to continue", NOTICED_WITHIN, || Ok(has_file(&journal).then_some(())))?;
    ensure!(monitor.stderr().contains("was deleted while the monitor wrote to it"), "{}", monitor.stderr());
    let ended = monitor.stop()?;
    ensure!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    let again = Command::new(binary()?).args(["run", "--record"]).arg(&ended.recording).output()?;
    let stderr = String::from_utf8_lossy(&again.stderr);
    ensure!(again.status.code() == Some(2) && stderr.contains("--force"), "{}: {stderr}", again.status);
    Ok(())
}

fn has_file(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}
