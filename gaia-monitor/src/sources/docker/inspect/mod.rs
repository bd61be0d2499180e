//! `docker inspect`, reduced to what a verdict needs, and joined with the kernel's data of the first process.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use bollard::models::{ContainerInspectResponse, EndpointSettings, PortMap};

use super::endpoints::endpoints;
use super::labels::{self, PROJECT, SERVICE};
use super::signal;
use crate::model::event::{ContainerInfo, NetworkAddress, PublishedPort, RecordedEnd};
use crate::model::ids::{CgroupId, ContainerId, NetnsId, Pid};
use crate::model::time::Stamp;
use crate::sources::procfs::{self, CgroupTree};

/// Programs that only start one child and forward signals to it.
const INITS: [&str; 5] = ["docker-init", "tini", "tini-static", "dumb-init", "catatonit"];

/// The kernel's data of a container's first process; all `None` if it does not run, or has just ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstProcess {
    pub cgroup: Option<CgroupId>,
    /// Path of the container's cgroup in the tree.
    pub cgroup_path: Option<PathBuf>,
    pub netns: Option<NetnsId>,
    pub comm: Option<String>,
}

/// Reads the first process from `/proc`. Docker's `SandboxKey` is used for a process that has already ended.
#[must_use]
pub fn first_process(inspected: &ContainerInspectResponse, tree: Option<&CgroupTree>) -> FirstProcess {
    let (Some(id), Some(pid)) = (inspected.id.clone(), pid(inspected)) else { return FirstProcess::default() };
    let settings = inspected.network_settings.as_ref();
    let sandbox = settings.and_then(|settings| settings.sandbox_key.as_deref()).filter(|key| !key.is_empty());
    let cgroup_path = procfs::cgroup_path(pid).map(|path| procfs::container_path(&path, &ContainerId(id)).to_owned());
    FirstProcess {
        cgroup: tree.zip(cgroup_path.as_deref()).and_then(|(tree, path)| tree.id(path)),
        cgroup_path,
        netns: procfs::netns_at(&procfs::netns_path(pid)).ok().or_else(|| procfs::netns_at(Path::new(sandbox?)).ok()),
        comm: procfs::comm(pid),
    }
}

/// `None` only for a response without an id, which Docker does not send. `scope`: the labels that the scope lists.
#[must_use]
pub fn container(inspected: ContainerInspectResponse, first: &FirstProcess, scope: &[String]) -> Option<ContainerInfo> {
    let pid = pid(&inspected);
    let id = ContainerId(inspected.id?);
    let state = inspected.state.unwrap_or_default();
    let config = inspected.config.unwrap_or_default();
    let host = inspected.host_config.unwrap_or_default();
    let settings = inspected.network_settings.unwrap_or_default();
    let labels = labels::kept(config.labels.unwrap_or_default(), scope);
    // Docker counts a container as running while it waits to start it again.
    let restarting = state.restarting.unwrap_or_default();
    let running = state.running.unwrap_or_default() && !restarting;
    let finished = state.finished_at.as_deref().and_then(instant).filter(|_| !running);
    let is_init = |program: &str| INITS.contains(&program);
    let program = inspected.path.as_deref().and_then(|path| Path::new(path).file_name()?.to_str());
    let mut networks: Vec<_> = settings
        .networks
        .unwrap_or_default()
        .into_iter()
        .map(|(name, settings)| network(name, settings, &id))
        .collect();
    networks.sort_by(|a, b| a.network.cmp(&b.network));
    // A container that does not run publishes nothing, but its configured ports still identify it.
    let mut published = published(settings.ports.unwrap_or_default());
    if published.is_empty() && !running {
        published = self::published(host.port_bindings.unwrap_or_default());
    }
    Some(ContainerInfo {
        name: inspected.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        image: config.image.or(inspected.image).unwrap_or_default(),
        project: labels.get(PROJECT).cloned(),
        service: labels.get(SERVICE).cloned(),
        labels,
        running,
        paused: state.paused.unwrap_or_default(),
        started_at: state.started_at.as_deref().and_then(instant),
        pid,
        cgroup: first.cgroup,
        netns: first.netns,
        init: host.init.unwrap_or_default()
            || program.is_some_and(is_init)
            || first.comm.as_deref().is_some_and(is_init),
        host_network: host.network_mode.as_deref() == Some("host"),
        stop_signal: signal::normal(config.stop_signal.as_deref().filter(|name| !name.is_empty()).unwrap_or("SIGTERM")),
        health: state
            .health
            .and_then(|health| Some(health.status?.to_string()))
            .filter(|status| !["", "none"].contains(&status.as_str())),
        restart_policy: host
            .restart_policy
            .and_then(|policy| Some(policy.name?.to_string()))
            .filter(|name| !name.is_empty()),
        memory_limit: host.memory.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0),
        networks,
        published,
        endpoints: endpoints(&config.env.unwrap_or_default()),
        // Docker reports 0 for a container that runs or never ran.
        exit_code: state.exit_code.filter(|_| finished.is_some()),
        ended: finished.map(|at| RecordedEnd { at, oom_killed: state.oom_killed.unwrap_or_default(), restarting }),
        id,
    })
}

fn pid(inspected: &ContainerInspectResponse) -> Option<Pid> {
    let number = inspected.state.as_ref()?.pid?;
    u32::try_from(number).ok().filter(|pid| *pid != 0).map(Pid)
}

/// Docker writes year 1 for "never", which a [`Stamp`] cannot represent.
fn instant(text: &str) -> Option<Stamp> {
    let instant: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(instant.as_nanosecond()).ok().map(Stamp)
}

fn network(name: String, settings: EndpointSettings, container: &ContainerId) -> NetworkAddress {
    let addresses = [settings.ip_address, settings.global_ipv6_address];
    let names: BTreeSet<String> =
        settings.aliases.unwrap_or_default().into_iter().chain(settings.dns_names.unwrap_or_default()).collect();
    NetworkAddress {
        network: name,
        addresses: addresses.into_iter().flatten().filter_map(|address| address.parse().ok()).collect(),
        // Docker adds the short id to the names; clients do not use it.
        aliases: names.into_iter().filter(|alias| alias != container.short()).collect(),
    }
}

fn published(ports: PortMap) -> Vec<PublishedPort> {
    let mut published: Vec<_> = ports
        .into_iter()
        .filter_map(|(key, bindings)| Some((key.strip_suffix("/tcp")?.parse().ok()?, bindings?)))
        .flat_map(|(container_port, bindings)| {
            bindings.into_iter().filter_map(move |binding| {
                let host_ip = match binding.host_ip.as_deref() {
                    None | Some("") => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    Some(address) => address.parse().ok()?,
                };
                // "0" or missing: Docker chooses the port at the start.
                let host_port = binding.host_port?.parse().ok().filter(|port| *port != 0)?;
                Some(PublishedPort { host_ip, host_port, container_port })
            })
        })
        .collect();
    published.sort_by_key(|port| (port.container_port, port.host_port, port.host_ip));
    published
}

#[cfg(test)]
mod tests;
