//! What Docker says: of a container when it is inspected, and on its stream of events.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::ids::{CgroupId, ContainerId, NetnsId, Pid};
use crate::model::time::Stamp;

/// What `docker inspect` says of a container, reduced to what a verdict needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerInfo {
    pub id: ContainerId,
    /// Without slash.
    pub name: String,
    pub image: String,
    pub project: Option<String>,
    pub service: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub running: bool,
    pub paused: bool,
    pub started_at: Option<Stamp>,
    /// The first process, while it runs.
    pub pid: Option<Pid>,
    pub cgroup: Option<CgroupId>,
    pub netns: Option<NetnsId>,
    /// An init (docker-init) is the first process.
    pub init: bool,
    /// Network mode host: its sockets live in the host's namespace.
    pub host_network: bool,
    /// `SIGTERM` unless the image or the command line says otherwise.
    pub stop_signal: String,
    pub health: Option<String>,
    pub restart_policy: Option<String>,
    /// Bytes.
    pub memory_limit: Option<u64>,
    pub networks: Vec<NetworkAddress>,
    pub published: Vec<PublishedPort>,
    pub endpoints: Vec<DeclaredEndpoint>,
    pub exit_code: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAddress {
    pub network: String,
    pub addresses: Vec<IpAddr>,
    /// Names by which the others find it there.
    pub aliases: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    pub host_ip: IpAddr,
    pub host_port: u16,
    pub container_port: u16,
}

/// `X_ENDPOINT` or `X_FALLBACK_ENDPOINT` of a container's environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredEndpoint {
    /// The `X`.
    pub prefix: String,
    pub fallback: bool,
    /// Host part of the URL.
    pub host: String,
    pub port: Option<u16>,
}

/// One event of Docker's stream; the event's own time is the observation's `at`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DockerEvent {
    pub container: ContainerId,
    pub name: String,
    pub action: DockerAction,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DockerAction {
    Create,
    Start,
    Die {
        exit_code: Option<i64>,
    },
    Oom,
    /// `docker kill`, and each signal of a `docker stop`.
    Kill {
        signal: String,
    },
    Stop,
    Pause,
    Unpause,
    HealthStatus {
        status: String,
    },
    Restart,
    Rename {
        old_name: String,
    },
    Destroy,
    NetworkConnect {
        network: String,
    },
    NetworkDisconnect {
        network: String,
    },
}
