//! Starts of a run that fail or are interrupted.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gaia_monitor_tests::host;
use gaia_monitor_tests::monitor::{Monitor, Options, binary};
use gaia_monitor_tests::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const ENDS_WITHIN: Duration = Duration::from_secs(15);

#[test]
fn a_signal_during_the_start_ends_the_run_with_0() {
    let ended = interrupted_at_once();
    let ended = ended.unwrap_or_else(|error| panic!("{error:#}"));
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{stderr}");
    assert!(!stderr.contains("Summary of 0 s"), "{stderr}");
}

/// SIGTERM as soon as the monitor blocks it, long before its probes are attached.
fn interrupted_at_once() -> Result<Output> {
    host::ensure(&[], &mut |step| eprintln!("{step}"))?;
    let mut command = Command::new(binary()?);
    command.args(["run", "--duration", "60"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn()?;
    wait::until("the monitor to wait for signals", ENDS_WITHIN, || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).context("no mask")?;
        let blocked = u64::from_str_radix(blocked.trim(), 16)?;
        Ok((blocked & 1 << 14 != 0).then_some(()))
    })?;
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
    Ok(child.wait_with_output()?)
}

#[test]
fn sighup_ends_a_run_with_its_summary() {
    if let Err(error) = hung_up() {
        panic!("{error:#}");
    }
}

fn hung_up() -> Result<()> {
    let place = tempfile::tempdir()?;
    let monitor = Monitor::start(place.path(), &Options::default())?;
    let pid = Pid::from_raw(i32::try_from(monitor.pid())?);
    kill(pid, Signal::SIGHUP)?;
    wait::until("the summary", ENDS_WITHIN, || Ok(monitor.stderr().contains("Summary of ").then_some(())))?;
    let ended = monitor.stop()?;
    ensure!(ended.status.code() == Some(0), "{}: {}", ended.status, ended.stderr);
    Ok(())
}

#[test]
fn a_web_server_instead_of_docker_is_named_without_its_page() {
    let ended = with_a_web_server().unwrap_or_else(|error| panic!("{error:#}"));
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(3), "{stderr}");
    let message = stderr.lines().last().unwrap_or_default();
    assert!(message.starts_with("gaia-monitor: ") && message.contains("tcp://127.0.0.1:"), "{stderr}");
    assert!(!stderr.contains("<html") && !stderr.contains("Summary of"), "{stderr}");
}

fn with_a_web_server() -> Result<Output> {
    host::ensure(&[], &mut |step| eprintln!("{step}"))?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let page = "<!DOCTYPE HTML>\n<html><body><h1>Not Found</h1></body></html>\n";
            let _ = stream.read(&mut [0; 4_096]);
            let _ = write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
                page.len()
            );
        }
    });
    let host = format!("tcp://{address}");
    Ok(Command::new(binary()?).args(["run", "--duration", "30", "--docker-host", &host]).output()?)
}
