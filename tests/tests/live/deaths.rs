//! A container's first process dies with requests open: who killed it, when, and what each client saw.

use gaia_monitor_tests::case::{Case, Server};
use gaia_monitor_tests::client::Request;
use gaia_monitor_tests::container::Recipe;
use gaia_monitor_tests::expect::{Break, Expected, INCOMPLETE_BODY, Killer, LEFT, NO_RESPONSE, RESET, broken};
use gaia_monitor_tests::instrument::ExitStatus;
use gaia_monitor_tests::play::live;
use nix::sys::signal::Signal;

const SIGKILL: ExitStatus = ExitStatus::Signal(9);
const SIGSEGV: ExitStatus = ExitStatus::Signal(11);

/// One death with one request open.
struct Death {
    container: fn(Recipe) -> Recipe,
    request: fn(&Server) -> Request,
    path: &'static str,
    /// The fault strikes when the client has the head of its answer, not before.
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
    request: |server| Request::get(&server.url("/slow?seconds=60")),
    path: "/slow",
    answer_begun: false,
    fault: Fault::DockerKill("KILL"),
    kind: "container_killed",
    end: SIGKILL,
    how: NO_RESPONSE,
    phase: "awaiting_response",
};

fn dies(name: &str, death: Death) {
    live(name, &[], |case| {
        let server = case.server((death.container)(case.recipe("core")), "core", &["http"])?;
        let client = case.client("web")?;
        let request = server.holds(&client, death.path, (death.request)(&server))?;
        if death.answer_begun {
            client.begun(&request)?;
        }
        let killer = strike(&death.fault, case, &server)?;
        let outcomes = client.ended(&request)?;
        let broken = broken(&client, &server.container, outcomes, death.how, death.phase)?;
        Ok(vec![Expected::death(death.kind, &server.container, server.pid, death.end).by(killer).breaking(broken)])
    });
}

fn strike(fault: &Fault, _case: &Case, server: &Server) -> anyhow::Result<Killer> {
    match fault {
        Fault::DockerKill(signal) => {
            server.container.kill(signal)?;
            Ok(Killer::Docker("docker kill"))
        }
        Fault::Host => {
            server.signal_from_host(server.pid, Signal::SIGKILL)?;
            Ok(Killer::Host(std::process::id()))
        }
        Fault::Itself => Ok(Killer::Nobody),
    }
}

#[test]
fn a_server_killed_by_docker_before_its_answer_is_pinned_to_its_exit() {
    dies("docker-kill-before-answer", HELD);
}

#[test]
fn a_server_killed_from_the_host_before_its_answer_names_the_sender() {
    dies("host-kill-before-answer", Death { fault: Fault::Host, kind: "process_killed", ..HELD });
}

#[test]
fn a_server_killed_while_the_client_still_uploads_resets_it() {
    let upload = Death {
        request: |server| Request::upload(&server.url("/upload?seconds=60"), 32 << 20),
        path: "/upload",
        fault: Fault::Host,
        kind: "process_killed",
        how: RESET,
        phase: "sending",
        ..HELD
    };
    dies("kill-while-uploading", upload);
}

#[test]
fn a_server_killed_between_two_chunks_leaves_the_body_incomplete() {
    let chunks = Death {
        request: |server| Request::get(&server.url("/stream?chunks=600&pause=0.1")),
        path: "/stream",
        answer_begun: true,
        how: INCOMPLETE_BODY,
        phase: "receiving_body",
        ..HELD
    };
    dies("kill-between-chunks", chunks);
}

#[test]
fn a_server_killed_before_its_content_length_is_reached_leaves_the_body_incomplete() {
    let length = Death {
        request: |server| Request::get(&server.url("/length?total=40000&sent=600&seconds=60")),
        path: "/length",
        answer_begun: true,
        how: INCOMPLETE_BODY,
        phase: "receiving_body",
        ..HELD
    };
    dies("kill-before-content-length", length);
}

#[test]
fn a_server_that_outgrows_its_memory_limit_is_an_oom_victim() {
    let oom = Death {
        container: |recipe| recipe.memory(96 << 20),
        request: |server| Request::get(&server.url("/oom")),
        path: "/oom",
        fault: Fault::Itself,
        kind: "oom_killed",
        ..HELD
    };
    dies("oom-by-memory-limit", oom);
}

#[test]
fn a_segmentation_fault_is_a_crash() {
    let segv = Death {
        request: |server| Request::get(&server.url("/segv")),
        path: "/segv",
        fault: Fault::Itself,
        kind: "process_crashed",
        end: SIGSEGV,
        ..HELD
    };
    dies("segmentation-fault", segv);
}

#[test]
fn an_abort_in_a_first_process_is_a_crash_by_sigsegv() {
    // The kernel lets no SIGABRT end a first process; glibc's abort() goes on to an invalid instruction or access.
    let abort = Death {
        request: |server| Request::get(&server.url("/abort")),
        path: "/abort",
        fault: Fault::Itself,
        kind: "process_crashed",
        end: SIGSEGV,
        ..HELD
    };
    dies("abort-in-first-process", abort);
}

#[test]
fn an_exit_with_a_code_is_told_with_that_code() {
    let exit = Death {
        request: |server| Request::get(&server.url("/exit?code=3")),
        path: "/exit",
        fault: Fault::Itself,
        kind: "process_exited",
        end: ExitStatus::Code(3),
        ..HELD
    };
    dies("exit-with-code-3", exit);
}

#[test]
fn an_exit_with_code_zero_that_breaks_a_request_is_an_incident_all_the_same() {
    let exit = Death {
        request: |server| Request::get(&server.url("/exit?code=0")),
        path: "/exit",
        fault: Fault::Itself,
        kind: "process_exited",
        end: ExitStatus::Code(0),
        ..HELD
    };
    dies("exit-with-code-0", exit);
}

#[test]
fn one_death_lists_all_twenty_connections_that_it_broke() {
    let twenty = Death {
        request: |server| Request::get(&server.url("/slow?seconds=60")).times(20),
        fault: Fault::Host,
        kind: "process_killed",
        ..HELD
    };
    dies("twenty-connections", twenty);
}

#[test]
fn the_class_is_httpxs_also_for_a_client_that_is_not_httpx() {
    live("client-by-requests", &[], |case| {
        let server = case.uvicorn("core")?;
        let client = case.client("web")?;
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
        let death = Expected::death("container_killed", &server.container, server.pid, SIGKILL);
        Ok(vec![death.by(Killer::Docker("docker kill")).breaking(broken)])
    });
}

#[test]
fn a_client_container_that_is_killed_lists_the_request_that_it_had_open() {
    live("client-killed", &[], |case| {
        let server = case.uvicorn("core")?;
        let client = case.client("web")?;
        let pid = client.container.pid()?;
        let request = server.holds(&client, "/slow", Request::get(&server.url("/slow?seconds=3")))?;
        let open = client.abandoned(&request)?;
        // Not by Docker: what Docker was asked for and broke nothing is no incident.
        server.signal_from_host(pid, Signal::SIGKILL)?;
        let open = broken(&client, &server.container, open, LEFT, "awaiting_response")?;
        let death = Expected::death("process_killed", &client.container, pid, SIGKILL);
        Ok(vec![death.by(Killer::Host(std::process::id())).breaking(open)])
    });
}
