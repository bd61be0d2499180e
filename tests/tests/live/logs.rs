//! What a container leaves behind beside its traffic: last words, a client's own line, a core file, the memory it held.

use std::time::Duration;

use anyhow::{Result, ensure};
use gaia_monitor_tests::case::Case;
use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::docker::docker;
use gaia_monitor_tests::expect::{Expected, Killer, NO_RESPONSE, RESET, broken};
use gaia_monitor_tests::instrument::{ExitStatus, Instrument};
use gaia_monitor_tests::monitor::{Monitor, Options};
use gaia_monitor_tests::play::{live, replays};
use nix::sys::signal::Signal;

const SIGSEGV: ExitStatus = ExitStatus::Signal(11);
const SIGKILL: ExitStatus = ExitStatus::Signal(9);
const MIB: u64 = 1 << 20;
const SETTLES_WITHIN: Duration = Duration::from_secs(12);

#[test]
fn the_words_of_faulthandler_stand_in_the_timeline_of_the_crash() {
    live("faulthandler", &[], |case| {
        let recipe = case.recipe("core").env("PYTHONFAULTHANDLER", "1");
        let server = case.server(recipe, "core", &["http"])?;
        let client = case.client("web")?;
        let outcomes = client.ask(Request::get(&server.url("/segv")))?;
        let broken = broken(&client, &server.container, outcomes, NO_RESPONSE, "awaiting_response")?;
        let name = server.container.name();
        let said = |words: &str| format!("{name} stderr: {words}");
        Ok(vec![
            Expected::death("process_crashed", &server.container, server.pid, SIGSEGV)
                .breaking(broken)
                .saying("log", said("Fatal Python error: Segmentation fault"))
                .saying("log", said("Current thread 0x"))
                .saying("log", "in string_at"),
        ])
    });
}

#[test]
fn a_clients_line_that_names_its_error_is_joined_to_what_explains_it() {
    live("client-names-read-error", &[], |case| {
        let server = case.uvicorn("core")?;
        let client = case.client("web")?;
        let upload = Request::upload(&server.url("/upload?seconds=60"), 32 << 20);
        let request = server.holds(&client, "/upload", upload)?;
        server.signal_from_host(server.pid, Signal::SIGKILL)?;
        let broken = broken(&client, &server.container, client.ended(&request)?, RESET, "sending")?;
        let client = client.container.name();
        let line =
            format!("{client}'s log names ReadError: GET {} failed (ReadError)", server.url("/upload?seconds=60"));
        Ok(vec![
            Expected::death("process_killed", &server.container, server.pid, SIGKILL)
                .by(Killer::Host(std::process::id()))
                .breaking(broken)
                .saying("log", line),
        ])
    });
}

#[test]
fn an_oom_kill_is_told_with_the_limit_and_what_was_in_use() {
    live("oom-in-use", &[], |case| {
        let server = case.server(case.recipe("core").memory(96 * MIB), "core", &["http"])?;
        let client = case.client("web")?;
        let outcomes = client.ask(Request::get(&server.url("/oom")))?;
        let broken = broken(&client, &server.container, outcomes, NO_RESPONSE, "awaiting_response")?;
        Ok(vec![
            Expected::death("oom_killed", &server.container, server.pid, SIGKILL)
                .breaking(broken)
                .saying("process", "memory limit 96 MiB, in use 96 MiB when the OOM killer came"),
        ])
    });
}

#[test]
fn a_core_file_is_where_the_timeline_says() {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    live("core-file", &[], |case| {
        let recipe = case.recipe("core").option("--ulimit", "core=-1");
        let server = case.server(recipe, "core", &["http"])?;
        let client = case.client("web")?;
        let outcomes = client.ask(Request::get(&server.url("/segv?in=/tmp")))?;
        let broken = broken(&client, &server.container, outcomes, NO_RESPONSE, "awaiting_response")?;
        let name = server.container.name();
        let place = if pattern.trim() == "core" {
            // Docker itself is the witness: the file is there.
            let copied = case.stack.folder().join("core.copy");
            docker(["cp", &format!("{name}:/tmp/core"), copied.to_str().unwrap_or_default()])?;
            ensure!(std::fs::metadata(&copied)?.len() > 0, "an empty core");
            std::fs::remove_file(&copied)?;
            format!("core dumped: /tmp/core in the file system of {name} (docker cp {name}:/tmp/core .)")
        } else if pattern.starts_with('|') {
            "core dumped: handed to ".to_owned()
        } else {
            "core dumped: /".to_owned()
        };
        let death = Expected::death("process_crashed", &server.container, server.pid, SIGSEGV);
        Ok(vec![death.breaking(broken).saying("process", place)])
    });
}

#[test]
fn a_log_that_docker_cannot_give_back_is_said_once_and_costs_nothing_else() {
    if let Err(error) = unreadable() {
        panic!("{error:#}");
    }
}

fn unreadable() -> Result<()> {
    let case = Case::begin(Instrument::get()?)?;
    let mut monitor = Monitor::start(case.stack.folder(), &Options::default().project(case.stack.project()))?;
    let server = case.server(case.recipe("core").option("--log-driver", "none"), "core", &["http"])?;
    let client = case.client("web")?;
    client.ask(Request::get(&server.url("/segv")))?;
    let settled = |incident: &gaia_monitor::model::incident::Incident| {
        incident.state == gaia_monitor::model::incident::State::Settled && incident.affected_total == 1
    };
    monitor.wait_for("the crash to settle", SETTLES_WITHIN, |all| all.iter().any(settled).then_some(()))?;
    let ended = monitor.stop()?;
    let said = ended.stderr.matches("does not support reading").count();
    // The warning when it was found, and the summary's line.
    ensure!(said == 2, "said {said} times:\n{}", ended.stderr);
    let [incident] = ended.incidents().try_into().map_err(|all| anyhow::anyhow!("{all:?}"))?;
    ensure!(incident.lost_events.is_empty(), "{:?}", incident.lost_events);
    replays(&ended)?;
    case.stack.remove()
}
