//! Facts from Docker: inspections of containers and container events.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::ids::{CgroupId, ContainerId, NetnsId, Pid};
use crate::model::time::Stamp;

/// The result of `docker inspect` for one container, reduced to what verdicts need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerInfo {
    pub id: ContainerId,
    /// Without the leading slash.
    pub name: String,
    pub image: String,
    pub project: Option<String>,
    pub service: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub running: bool,
    pub paused: bool,
    pub started_at: Option<Stamp>,
    /// The first process, while the container runs.
    pub pid: Option<Pid>,
    pub cgroup: Option<CgroupId>,
    pub netns: Option<NetnsId>,
    /// The first process is an init (docker-init).
    pub init: bool,
    /// Network mode `host`: the container's sockets are in the host's network namespace.
    pub host_network: bool,
    /// `SIGTERM`, unless the image or the command line sets another signal.
    pub stop_signal: String,
    pub health: Option<String>,
    pub restart_policy: Option<String>,
    /// Bytes.
    pub memory_limit: Option<u64>,
    pub networks: Vec<NetworkAddress>,
    pub published: Vec<PublishedPort>,
    pub endpoints: Vec<DeclaredEndpoint>,
    pub exit_code: Option<i64>,
    /// How its last run ended, unless it runs. Older recordings lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<RecordedEnd>,
}

/// The end of a container's last run, as Docker recorded it (`docker inspect`, `State`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedEnd {
    /// `FinishedAt`.
    pub at: Stamp,
    /// Docker holds that the container ran out of memory.
    pub oom_killed: bool,
    /// Docker is about to start it again.
    pub restarting: bool,
}

impl ContainerInfo {
    /// Names that Docker's DNS server resolves to this container: its own, and its aliases in each network, as Docker
    /// spells them; one may come more than once.
    ///
    /// The common part of three rules, each of which adds to it: the server also resolves the short id, and every name
    /// with `.<network>` appended; a Compose service's name is an alias as well, if Compose attached the network; the
    /// monitor's own lookups leave out names that need none.
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        let aliases = self.networks.iter().flat_map(|network| &network.aliases);
        std::iter::once(&self.name).chain(aliases).map(String::as_str)
    }
}

/// The endpoint of a container on one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAddress {
    pub network: String,
    pub addresses: Vec<IpAddr>,
    /// Names under which other containers on the network resolve this one.
    pub aliases: Vec<String>,
}

/// A port of a container that Docker publishes on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    pub host_ip: IpAddr,
    pub host_port: u16,
    pub container_port: u16,
}

/// `X_ENDPOINT` or `X_FALLBACK_ENDPOINT` in a container's environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredEndpoint {
    /// `X`.
    pub prefix: String,
    pub fallback: bool,
    /// The host part of the URL.
    pub host: String,
    pub port: Option<u16>,
}

/// One container event of Docker's event stream; `at` of the observation is the event's own time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DockerEvent {
    pub container: ContainerId,
    pub name: String,
    pub action: DockerAction,
}

/// The action of a container or network event, by Docker's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DockerAction {
    Create,
    Start,
    Die {
        exit_code: Option<i64>,
    },
    Oom,
    /// `docker kill`, and each signal that `docker stop` sends.
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
