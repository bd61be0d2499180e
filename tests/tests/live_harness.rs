//! The harness against a real Docker: what it starts is reachable by name, and nothing of it is left behind.
//! Needs root and Docker, and fails without them.

use std::fs;
use std::process::Command;
use std::time::Duration;

use gaia_monitor_tests::cleanup::{OWNER_LABEL, RUN_LABEL};
use gaia_monitor_tests::container;
use gaia_monitor_tests::docker::docker;
use gaia_monitor_tests::stack::Stack;

fn begin() -> Stack {
    Stack::begin("harness", &mut |step| eprintln!("{step}")).expect("a stack")
}

fn networks_of(run: &str) -> String {
    docker(["network", "ls", "--quiet", "--filter", &format!("label={RUN_LABEL}={run}")])
        .expect("Docker's list of networks")
}

#[test]
fn reaches_a_server_by_its_service_name_until_the_stack_is_removed() {
    let stack = begin();
    let server = stack
        .container("server")
        .publish(8000)
        .start(&["python3", "-m", "http.server", "--directory", "/etc/debian_version"])
        .unwrap();
    server.wait_listening(8000, Duration::from_secs(20)).unwrap();
    assert!(server.published_port(8000).unwrap() > 0);
    assert!(server.ip().unwrap().starts_with(stack.network().subnet().split(".0/").next().unwrap()));
    let code = "import httpx, fastapi, uvicorn, uvloop, httptools, requests, gunicorn\n\
                print('status', httpx.get('http://server:8000/').status_code)";
    let client = stack.container("client").start(&["python3", "-c", code]).unwrap();
    client.wait_log("status 404", Duration::from_secs(20)).unwrap();
    assert_eq!(client.wait_exit(Duration::from_secs(10)).unwrap(), 0);
    let run = stack.project().to_owned();
    let folder = stack.folder().to_owned();
    stack.remove().unwrap();
    assert!(container::of_run(&run).unwrap().is_empty());
    assert_eq!(networks_of(&run), "");
    assert!(!folder.exists());
}

#[test]
fn removes_everything_when_a_stack_is_dropped() {
    let stack = begin();
    stack.container("idle").start(&["sleep", "1000"]).unwrap();
    let run = stack.project().to_owned();
    assert_eq!(container::of_run(&run).unwrap().len(), 1);
    drop(stack);
    assert!(container::of_run(&run).unwrap().is_empty());
    assert_eq!(networks_of(&run), "");
}

#[test]
fn sweeps_remains_of_dead_runs_only() {
    let living = begin();
    living.container("living").start(&["sleep", "1000"]).unwrap();
    // A process that has ended: its pid and start time belong to no process.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let mut dead = Command::new("true").spawn().unwrap();
    let pid = dead.id();
    dead.wait().unwrap();
    let run = format!("gm-harness-dead-{pid}");
    let labels = [format!("{RUN_LABEL}={run}"), format!("{OWNER_LABEL}={}:{pid}:1", boot.trim())];
    docker(["network", "create", "--label", &labels[0], "--label", &labels[1], &run]).unwrap();
    let image = living.image().tag();
    docker(["create", "--label", &labels[0], "--label", &labels[1], "--network", &run, image, "true"]).unwrap();

    let next = begin();

    assert!(container::of_run(&run).unwrap().is_empty());
    assert_eq!(networks_of(&run), "");
    assert_eq!(container::of_run(living.project()).unwrap().len(), 1);
    drop(next);
}

#[test]
fn quotes_docker_when_a_command_is_refused() {
    let stack = begin();
    let error = stack.container("x").option("--network", "no-such-network-here").start(&["true"]).unwrap_err();
    assert!(format!("{error:#}").contains("no-such-network-here"), "{error:#}");
}
