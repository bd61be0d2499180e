//! A container's first process dies with requests open: sender, moment, and each client's error.

use crate::client::{Client, Pending, Request};
use crate::container::Recipe;
use crate::expect::{Break, Expected, INCOMPLETE_BODY, Killer, LEFT, NO_RESPONSE, RESET, broken};
use crate::gaia::{Caller, Gaia};
use crate::live_case::{LiveCase, live_case};
use crate::stage::{Server, Stage};
use crate::witness::ExitStatus;
use anyhow::Result;
use nix::sys::signal::Signal;

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case(
            "docker-kill-before-response",
            "a server killed by Docker before its response is dated by its exit",
            dies(HELD),
        ),
        live_case(
            "kill-before-response-by-h11",
            "the same for uvicorn with asyncio and h11",
            dies(Death { program: &["http", "--loop", "asyncio", "--http", "h11"], ..HELD }),
        ),
        live_case(
            "host-kill-before-response",
            "a server killed from the host before its response names the sender",
            dies(Death { fault: Fault::Host, kind: "process_killed", caller: Caller::Plain, ..HELD }),
        ),
        live_case(
            "kill-while-uploading",
            "a server killed while the client still uploads resets it",
            dies(Death {
                request: |server| Request::upload(&server.url("/upload?seconds=60"), 32 << 20),
                path: "/upload",
                caller: Caller::Loses,
                how: RESET,
                phase: "sending",
                ..HELD
            }),
        ),
        live_case(
            "kill-between-chunks",
            "a server killed between two chunks leaves the body incomplete",
            dies(Death {
                request: |server| Request::get(&server.url("/stream?chunks=600&pause=0.1")),
                path: "/stream",
                answer_begun: true,
                how: INCOMPLETE_BODY,
                phase: "receiving_body",
                ..HELD
            }),
        ),
        live_case(
            "kill-before-content-length",
            "a server killed before its content length is reached leaves the body incomplete",
            dies(Death {
                request: |server| Request::get(&server.url("/length?total=40000&sent=600&seconds=60")),
                path: "/length",
                answer_begun: true,
                how: INCOMPLETE_BODY,
                phase: "receiving_body",
                ..HELD
            }),
        ),
        live_case(
            "oom-by-memory-limit",
            "a server that exceeds its memory limit is an OOM victim",
            dies(Death {
                container: |recipe| recipe.memory(96 << 20),
                request: |server| Request::get(&server.url("/oom")),
                path: "/oom",
                fault: Fault::Itself,
                kind: "oom_killed",
                ..HELD
            }),
        ),
        live_case("segmentation-fault", "a segmentation fault is a crash", dies(SEGMENTATION_FAULT)),
        live_case(
            "abort-in-first-process",
            "an abort in a first process is a crash by SIGSEGV",
            // The kernel lets no SIGABRT end a first process; glibc's abort() goes on to an invalid instruction or access.
            dies(Death { end: ExitStatus::SIGSEGV, ..ABORT }),
        ),
        live_case(
            "segmentation-fault-under-init",
            "a segmentation fault under an init is a crash of its child",
            dies(Death { container: Recipe::init, under_init: true, ..SEGMENTATION_FAULT }),
        ),
        live_case(
            "abort-under-init",
            "an abort under an init is a crash of its child by SIGABRT",
            dies(Death { container: Recipe::init, under_init: true, ..ABORT }),
        ),
        live_case(
            "floating-point-under-init",
            "a SIGFPE that a process raises for itself is a crash",
            dies(Death {
                container: Recipe::init,
                under_init: true,
                request: |server| Request::get(&server.url("/kill-self?signal=SIGFPE")),
                path: "/kill-self",
                fault: Fault::Itself,
                kind: "process_crashed",
                end: ExitStatus::SIGFPE,
                ..HELD
            }),
        ),
        live_case(
            "kill-self-under-init",
            "a process that kills itself is its own sender",
            dies(Death {
                container: Recipe::init,
                under_init: true,
                request: |server| Request::get(&server.url("/kill-self?signal=SIGKILL")),
                path: "/kill-self",
                fault: Fault::Itself,
                kind: "process_killed",
                ..HELD
            }),
        ),
        live_case(
            "docker-kill-under-init",
            "a kill by Docker under an init is the child's death",
            // Docker signals the init; the kernel ends the rest of its namespace with it.
            dies(Death { container: Recipe::init, under_init: true, ..HELD }),
        ),
        live_case(
            "exit-with-code-3",
            "an exit with a code is reported with that code",
            dies(Death {
                request: |server| Request::get(&server.url("/exit?code=3")),
                path: "/exit",
                fault: Fault::Itself,
                kind: "process_exited",
                end: ExitStatus::Code(3),
                ..HELD
            }),
        ),
        live_case(
            "exit-with-code-0",
            "an exit with code zero that breaks a request is an incident",
            dies(Death {
                request: |server| Request::get(&server.url("/exit?code=0")),
                path: "/exit",
                fault: Fault::Itself,
                kind: "process_exited",
                end: ExitStatus::Code(0),
                ..HELD
            }),
        ),
        live_case(
            "twenty-connections",
            "one death lists all twenty connections that it broke",
            dies(Death {
                request: |server| Request::get(&server.url("/slow?seconds=60")).times(20),
                fault: Fault::Host,
                kind: "process_killed",
                ..HELD
            }),
        ),
        live_case("client-by-requests", "the class is httpx's also for a client that is not httpx", client_by_requests),
        live_case(
            "client-killed",
            "a client container that is killed lists the request that it had open",
            client_killed,
        ),
    ]
}

/// One death with one request open.
struct Death {
    container: fn(Recipe) -> Recipe,
    program: &'static [&'static str],
    /// The server is not the first process but the child of an init.
    under_init: bool,
    request: fn(&Server) -> Request,
    path: &'static str,
    caller: Caller,
    /// The fault happens after the client has the header section of its response.
    answer_begun: bool,
    fault: Fault,
    kind: &'static str,
    end: ExitStatus,
    how: Break,
    phase: &'static str,
}

enum Fault {
    /// `docker kill` with this signal.
    DockerKill(&'static str),
    /// SIGKILL by this test process.
    Host,
    /// The request itself is the fault.
    Itself,
}

/// Nothing sent yet, by a plain container: most cases change one thing of it.
const HELD: Death = Death {
    container: |recipe| recipe,
    program: &["http"],
    under_init: false,
    request: |server| Request::get(&server.url("/slow?seconds=60")),
    path: "/slow",
    caller: Caller::Retries,
    answer_begun: false,
    fault: Fault::DockerKill("KILL"),
    kind: "container_killed",
    end: ExitStatus::SIGKILL,
    how: NO_RESPONSE,
    phase: "awaiting_response",
};

const SEGMENTATION_FAULT: Death = Death {
    request: |server| Request::get(&server.url("/segv")),
    path: "/segv",
    fault: Fault::Itself,
    kind: "process_crashed",
    end: ExitStatus::SIGSEGV,
    ..HELD
};

const ABORT: Death = Death {
    request: |server| Request::get(&server.url("/abort")),
    path: "/abort",
    fault: Fault::Itself,
    kind: "process_crashed",
    end: ExitStatus::SIGABRT,
    ..HELD
};

fn dies(death: Death) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| match death.caller {
        Caller::Plain => {
            let server = stage.server((death.container)(stage.recipe("core")), "core", death.program)?;
            let client = stage.client("web")?;
            let pid = victim(&death, &server)?;
            let request = server.holds(&client, death.path, (death.request)(&server))?;
            let incident = struck(&death, &server, pid, &client, &request)?;
            let outcomes = client.ended(&request)?;
            Ok(vec![incident.breaking(broken(&client, &server.container, outcomes, death.how, death.phase)?)])
        }
        Caller::Retries | Caller::Loses => {
            let gaia = Gaia::begin(stage, death.container, death.program)?;
            let pid = victim(&death, &gaia.core)?;
            let request = gaia.holds(death.path, (death.request)(&gaia.core))?;
            let incident = struck(&death, &gaia.core, pid, &gaia.web, &request)?.role("primary");
            let fate = gaia.ended(&request, death.how, death.phase)?;
            let broken = match death.caller {
                Caller::Loses => fate.lost()?,
                Caller::Retries | Caller::Plain => fate.by_the_candidate()?,
            };
            Ok(vec![incident.breaking(broken)])
        }
    }
}

/// The process that will die; read while it is alive.
fn victim(death: &Death, server: &Server) -> Result<u32> {
    if !death.under_init {
        return Ok(server.pid);
    }
    server.host_pid(server.listening(1)?.into_iter().next().unwrap_or_default())
}

/// The fault, and the death that it is.
fn struck(death: &Death, server: &Server, pid: u32, client: &Client, request: &Pending) -> Result<Expected> {
    if death.answer_begun {
        client.begun(request)?;
    }
    let killer = strike(&death.fault, server)?;
    Ok(Expected::death(death.kind, &server.container, pid, death.end).by(killer))
}

fn strike(fault: &Fault, server: &Server) -> Result<Killer> {
    match fault {
        Fault::DockerKill(signal) => {
            server.container.kill(signal)?;
            Ok(Killer::Docker("docker kill"))
        }
        Fault::Host => {
            server.signal_from_host(server.pid, Signal::SIGKILL)?;
            Ok(Killer::Host(std::process::id()))
        }
        Fault::Itself => Ok(Killer::NoSender),
    }
}

fn client_by_requests(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let request = Request::get(&server.url("/slow?seconds=60")).by_requests();
    let request = server.holds(&client, "/slow", request)?;
    server.container.kill("KILL")?;
    let mut outcomes = client.ended(&request)?;
    for outcome in &mut outcomes {
        anyhow::ensure!(
            outcome.class == "ConnectionError" && outcome.message.contains("RemoteDisconnected"),
            "requests raised {outcome:?}"
        );
        NO_RESPONSE.class.clone_into(&mut outcome.class);
    }
    let broken = broken(&client, &server.container, outcomes, NO_RESPONSE, "awaiting_response")?;
    let death = Expected::death("container_killed", &server.container, server.pid, ExitStatus::SIGKILL);
    Ok(vec![death.by(Killer::Docker("docker kill")).breaking(broken)])
}

fn client_killed(stage: &Stage) -> Result<Vec<Expected>> {
    let server = stage.uvicorn("core")?;
    let client = stage.client("web")?;
    let pid = client.container.pid()?;
    let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=3")))?;
    let open = client.abandoned(&request)?;
    // Not by Docker: a request to Docker that breaks nothing is no incident.
    server.signal_from_host(pid, Signal::SIGKILL)?;
    let open = broken(&client, &server.container, open, LEFT, "awaiting_response")?;
    let death = Expected::death("process_killed", &client.container, pid, ExitStatus::SIGKILL);
    Ok(vec![death.by(Killer::Host(std::process::id())).breaking(open)])
}
