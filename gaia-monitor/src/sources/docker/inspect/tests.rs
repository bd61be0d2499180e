//! Responses of a real `docker inspect` (Engine 20.10, shortened), modified by each test.

use bollard::models::ContainerInspectResponse;
use serde_json::{Value, json};

use super::{FirstProcess, container};
use crate::model::event::{ContainerInfo, DeclaredEndpoint, PublishedPort};
use crate::model::ids::{CgroupId, NetnsId, Pid};

fn response() -> Value {
    json!({
        "Id": "c0efd83067483ed7e4dd107e6a75c15bdaa7ff7473cb5407ad2bedb0f2171dc5",
        "Created": "2026-11-25T13:08:12.203832357Z",
        "Path": "python3",
        "Args": ["-m", "http.server", "6415"],
        "State": {
            "Status": "running", "Running": true, "Paused": false, "Restarting": false, "OOMKilled": false,
            "Dead": false, "Pid": 10586, "ExitCode": 0, "Error": "", "StartedAt": "2026-11-25T13:08:12.412745013Z",
            "FinishedAt": "0001-01-01T00:00:00Z", "Health": {"Status": "healthy", "FailingStreak": 0, "Log": []}
        },
        "Image": "sha256:ce10c555951d849375c3c491db6b4e468b322012b5920c98b31508e42b3aa2ea",
        "Name": "/gaia-core",
        "HostConfig": {
            "NetworkMode": "gaia-network", "Memory": 268435456,
            "PortBindings": {"6415/tcp": [{"HostIp": "", "HostPort": "16416"}]},
            "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0}
        },
        "Config": {
            "Image": "gaia/core:1", "ExposedPorts": {"6415/tcp": {}}, "Entrypoint": null,
            "Env": ["PATH=/bin", "MCP_ENDPOINT=http://user:secret@gaia-mcp:8765/jsonrpc?token=secret#secret", "API_KEY=secret"],
            "Labels": {
                "com.docker.compose.project": "gaia", "com.docker.compose.service": "core",
                "traefik.http.middlewares.auth.basicauth.users": "admin:secret"
            }
        },
        "NetworkSettings": {
            "Ports": {
                "6415/tcp": [{"HostIp": "::", "HostPort": "16416"}, {"HostIp": "0.0.0.0", "HostPort": "16416"}],
                "53/udp": [{"HostIp": "0.0.0.0", "HostPort": "53"}],
                "8000/tcp": null
            },
            "SandboxKey": "/var/run/docker/netns/5c87f1dcc07e",
            "Networks": {
                "gaia-network": {
                    "Aliases": ["core", "c0efd8306748"], "IPAddress": "172.28.0.2",
                    "GlobalIPv6Address": "fd00:28::2"
                },
                "bridge": {"Aliases": null, "IPAddress": "", "GlobalIPv6Address": ""}
            }
        }
    })
}

fn read(change: impl FnOnce(&mut Value)) -> ContainerInfo {
    read_with(&FirstProcess::default(), change)
}

fn read_with(first: &FirstProcess, change: impl FnOnce(&mut Value)) -> ContainerInfo {
    let mut response = response();
    change(&mut response);
    let inspected: ContainerInspectResponse = serde_json::from_value(response).unwrap();
    container(inspected, first, &[]).unwrap()
}

fn port(host_ip: &str, host_port: u16, container_port: u16) -> PublishedPort {
    PublishedPort { host_ip: host_ip.parse().unwrap(), host_port, container_port }
}

#[test]
fn reads_every_field_of_a_running_container() {
    let first = FirstProcess { cgroup: Some(CgroupId(158)), netns: Some(NetnsId(4_026_532_185)), ..Default::default() };
    let seen = read_with(&first, |_| {});
    assert_eq!((seen.name.as_str(), seen.image.as_str()), ("gaia-core", "gaia/core:1"));
    assert_eq!((seen.project.as_deref(), seen.service.as_deref()), (Some("gaia"), Some("core")));
    assert_eq!((seen.running, seen.paused, seen.pid, seen.exit_code), (true, false, Some(Pid(10586)), None));
    assert_eq!(seen.started_at.unwrap().to_string(), "2026-11-25T13:08:12.412745013Z");
    assert_eq!((seen.cgroup, seen.netns), (Some(CgroupId(158)), Some(NetnsId(4_026_532_185))));
    assert_eq!((seen.init, seen.host_network, seen.stop_signal.as_str()), (false, false, "SIGTERM"));
    assert_eq!((seen.health.as_deref(), seen.restart_policy.as_deref()), (Some("healthy"), Some("unless-stopped")));
    assert_eq!(seen.memory_limit, Some(268_435_456));
    assert_eq!(seen.published, [port("0.0.0.0", 16416, 6415), port("::", 16416, 6415)], "TCP only, in order");
    let mcp = DeclaredEndpoint { prefix: "MCP".into(), fallback: false, host: "gaia-mcp".into(), port: Some(8765) };
    assert_eq!(seen.endpoints, [mcp]);
    assert!(
        !format!("{seen:?}").contains("secret"),
        "no other label or variable, and no other part of an endpoint may leave"
    );
}

#[test]
fn reads_addresses_of_both_families_and_names_without_the_short_id() {
    let seen = read(|response| {
        // Engine 25 and newer store the names here.
        response["NetworkSettings"]["Networks"]["gaia-network"]["DNSNames"] =
            json!(["gaia-core", "core", "c0efd8306748"]);
    });
    let [bridge, gaia] = seen.networks.as_slice() else { panic!("{:?}", seen.networks) };
    assert_eq!((bridge.network.as_str(), bridge.addresses.len(), bridge.aliases.len()), ("bridge", 0, 0));
    let addresses: Vec<_> = gaia.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["172.28.0.2", "fd00:28::2"]);
    assert_eq!(gaia.aliases, ["core", "gaia-core"]);
}

#[test]
fn keeps_ports_and_exit_code_of_a_stopped_container() {
    let seen = read(|response| {
        response["State"]["Running"] = json!(false);
        response["State"]["Pid"] = json!(0);
        response["State"]["ExitCode"] = json!(137);
        response["State"]["FinishedAt"] = json!("2026-11-25T13:08:18.043800703Z");
        response["NetworkSettings"]["Ports"] = json!({});
    });
    assert_eq!((seen.running, seen.pid, seen.exit_code), (false, None, Some(137)));
    let ended = seen.ended.unwrap();
    assert_eq!(
        (ended.at.to_string().as_str(), ended.oom_killed, ended.restarting),
        ("2026-11-25T13:08:18.043800703Z", false, false)
    );
    assert_eq!(seen.published, [port("0.0.0.0", 16416, 6415)]);
}

#[test]
fn has_no_start_and_no_exit_code_when_it_never_ran() {
    let seen = read(|response| {
        response["State"]["Running"] = json!(false);
        response["State"]["StartedAt"] = json!("0001-01-01T00:00:00Z");
    });
    assert_eq!((seen.started_at, seen.exit_code), (None, None));
}

#[test]
fn ignores_ports_that_docker_has_yet_to_choose() {
    let seen = read(|response| {
        response["State"]["Running"] = json!(false);
        response["NetworkSettings"]["Ports"] = json!({});
        response["HostConfig"]["PortBindings"] = json!({"1/tcp": [{"HostIp": "", "HostPort": ""}], "2/tcp": [{"HostIp": "", "HostPort": "0"}], "3/tcp": [{}]});
    });
    assert_eq!(seen.published, []);
}

#[test]
fn detects_an_init_by_option_program_or_process() {
    assert!(read(|response| response["HostConfig"]["Init"] = json!(true)).init);
    assert!(read(|response| response["Path"] = json!("/usr/bin/tini")).init);
    let first = FirstProcess { comm: Some("docker-init".into()), ..Default::default() };
    assert!(read_with(&first, |_| {}).init, "no response contains the daemon's default");
    assert!(!read(|response| response["Path"] = json!("tinier")).init);
}

#[test]
fn reads_unset_fields_as_none() {
    let seen = read(|response| {
        response["HostConfig"] = json!({"NetworkMode": "host", "Memory": 0, "RestartPolicy": {"Name": ""}});
        response["Config"] = json!({"StopSignal": "quit", "Labels": null, "Env": null});
        response["State"]["Health"] = json!({"Status": "none"});
        response["NetworkSettings"] = json!({});
    });
    assert_eq!((seen.health, seen.restart_policy, seen.memory_limit), (None, None, None));
    assert_eq!((seen.host_network, seen.stop_signal.as_str()), (true, "SIGQUIT"));
    assert_eq!((seen.networks.len(), seen.published.len(), seen.endpoints.len()), (0, 0, 0));
    assert!(seen.image.starts_with("sha256:"), "the image's id replaces a missing name");
}

#[test]
fn a_container_that_waits_for_its_next_start_does_not_run() {
    let seen = read(|response| {
        response["State"]["Restarting"] = json!(true);
        response["State"]["OOMKilled"] = json!(true);
        response["State"]["ExitCode"] = json!(137);
        response["State"]["FinishedAt"] = json!("2026-11-25T13:08:18.043800703Z");
    });
    let ended = seen.ended.unwrap();
    assert_eq!((seen.running, seen.exit_code, ended.oom_killed, ended.restarting), (false, Some(137), true, true));
}

#[test]
fn a_running_container_has_no_end_although_docker_keeps_the_one_before() {
    let seen = read(|response| response["State"]["FinishedAt"] = json!("2026-11-25T13:08:11.043800703Z"));
    assert_eq!((seen.running, seen.exit_code, seen.ended), (true, None, None));
}
