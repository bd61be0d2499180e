//! Evidence besides traffic: a container's last log lines, a client's own line, a core file, the memory in use.

use crate::client::Request;
use crate::docker::docker;
use crate::expect::{Expected, Killer, NO_RESPONSE, RESET, broken};
use crate::live_case::{LiveCase, live_case};
use crate::stage::Stage;
use crate::witness::ExitStatus;
use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case("faulthandler", "the lines of faulthandler are in the timeline of the crash", faulthandler),
        live_case(
            "client-names-read-error",
            "a client's line that names its error is joined to the incident that explains it",
            client_names_read_error,
        ),
        live_case("oom-in-use", "an OOM kill is reported with the limit and the memory in use", oom_in_use),
        live_case("core-file", "a core file is at the path in the timeline", core_file),
    ]
}

const MIB: u64 = 1 << 20;

fn faulthandler(stage: &Stage) -> Result<Vec<Expected>> {
    let recipe = stage.recipe("core").env("PYTHONFAULTHANDLER", "1");
    let server = stage.server(recipe, "core", &["http"])?;
    let client = stage.client("web")?;
    let outcomes = client.ask(Request::get(&server.url("/segv")))?;
    let broken = broken(&client, &server.container, outcomes, NO_RESPONSE, "awaiting_response")?;
    let name = server.container.name();
    let said = |words: &str| format!("{name} stderr: {words}");
    Ok(vec![
        Expected::death("process_crashed", &server.container, server.pid, ExitStatus::SIGSEGV)
            .breaking(broken)
            .saying("log", said("Fatal Python error: Segmentation fault"))
            .saying("log", said("Current thread 0x"))
            .saying("log", "in string_at"),
    ])
}

fn client_names_read_error(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let upload = Request::upload(&server.url("/upload?seconds=60"), 32 << 20);
    let request = server.holds(&client, "/upload", upload)?;
    server.signal_from_host(server.pid, Signal::SIGKILL)?;
    let broken = broken(&client, &server.container, client.ended(&request)?, RESET, "sending")?;
    let client = client.container.name();
    let line = format!("{client} logged ReadError: POST {} failed (ReadError)", server.url("/upload?seconds=60"));
    Ok(vec![
        Expected::death("process_killed", &server.container, server.pid, ExitStatus::SIGKILL)
            .by(Killer::Host(std::process::id()))
            .breaking(broken)
            .saying("log", line),
    ])
}

fn oom_in_use(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.server(stage.recipe("core").memory(96 * MIB), "core", &["http"])?;
    let client = stage.client("web")?;
    let outcomes = client.ask(Request::get(&server.url("/oom")))?;
    let broken = broken(&client, &server.container, outcomes, NO_RESPONSE, "awaiting_response")?;
    Ok(vec![
        Expected::death("oom_killed", &server.container, server.pid, ExitStatus::SIGKILL)
            .breaking(broken)
            .saying("process", "memory limit 96 MiB, in use 96 MiB when the OOM killer came"),
    ])
}

fn core_file(stage: &Stage) -> Result<Vec<Expected>> {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    let recipe = stage.recipe("core").option("--ulimit", "core=-1");
    let server = stage.server(recipe, "core", &["http"])?;
    let client = stage.client("web")?;
    let outcomes = client.ask(Request::get(&server.url("/segv?in=/tmp")))?;
    let broken = broken(&client, &server.container, outcomes, NO_RESPONSE, "awaiting_response")?;
    let name = server.container.name();
    let place = if pattern.trim() == "core" {
        // Docker itself is the witness: the file is there.
        let copied = stage.stack.folder().join("core.copy");
        docker(["cp", &format!("{name}:/tmp/core"), copied.to_str().unwrap_or_default()])?;
        ensure!(std::fs::metadata(&copied)?.len() > 0, "an empty core");
        std::fs::remove_file(&copied)?;
        format!("core dumped: /tmp/core in the file system of {name} (docker cp {name}:/tmp/core .)")
    } else if pattern.starts_with('|') {
        "core dumped: handed to ".to_owned()
    } else {
        "core dumped: /".to_owned()
    };
    let death = Expected::death("process_crashed", &server.container, server.pid, ExitStatus::SIGSEGV);
    Ok(vec![death.breaking(broken).saying("process", place)])
}
