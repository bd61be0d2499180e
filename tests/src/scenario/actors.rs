//! Actors of a scenario: containers, their processes, and processes of the host, each with its ids in the kernel.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, bail};
use gaia_monitor::model::event::{ContainerInfo, DeclaredEndpoint, NetworkAddress, Process, PublishedPort, Task};
use gaia_monitor::model::ids::{CgroupId, ContainerId, NetnsId, Pid};
use gaia_monitor::model::time::Stamp;

use super::words::Words;

pub const HOST_NETNS: NetnsId = NetnsId(1);
pub const HOST_CGROUP: CgroupId = CgroupId(1);
/// The bridge's own address, by which containers reach the host.
pub const BRIDGE: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 28, 0, 1));
/// A container's first process that is an init.
const INIT: &str = "init";

#[derive(Clone, Debug)]
pub struct Player {
    pub info: ContainerInfo,
    /// Where it is reached when it has no address of its own: the host's, or that of the container whose network it uses.
    pub borrowed: Option<IpAddr>,
    /// It has the host's pid namespace.
    pub host_pids: bool,
    /// Ports that it listens on once it serves.
    pub listens: Vec<u16>,
    /// Ports that it listens on now.
    pub listening: Vec<(u16, String)>,
    pub comm: String,
    /// Its starts, to give each its own pid and cgroup.
    pub runs: u32,
}

#[derive(Clone, Debug)]
pub struct Actor {
    pub process: Process,
    pub parent: Pid,
    pub parent_outside: bool,
}

#[derive(Debug, Default)]
pub struct Actors {
    pub players: BTreeMap<String, Player>,
    /// `core` (the process that represents the container), `core.init`, `core.w1`, `host.bash`.
    pub by_name: BTreeMap<String, Actor>,
    next_host: u32,
}

/// A process on another host: nothing of it is ever seen here.
pub const OUTSIDE: &str = "outside";

impl Player {
    pub fn address(&self) -> Option<IpAddr> {
        self.info.networks.first().and_then(|network| network.addresses.first().copied()).or(self.borrowed)
    }

    /// Its address of the other family.
    pub fn address_v6(&self) -> Option<IpAddr> {
        self.info.networks.iter().flat_map(|network| &network.addresses).find(|address| address.is_ipv6()).copied()
    }
}

impl Actors {
    pub fn player(&self, name: &str) -> Result<&Player> {
        self.players.get(name).with_context(|| format!("no container {name}"))
    }

    pub fn player_mut(&mut self, name: &str) -> Result<&mut Player> {
        self.players.get_mut(name).with_context(|| format!("no container {name}"))
    }

    /// A process by its name; processes of the host exist as soon as they are named.
    pub fn actor(&mut self, name: &str) -> Result<Actor> {
        let name = if ["runc", "host", OUTSIDE].contains(&name) { format!("host.{name}") } else { name.to_owned() };
        if let Some(comm) = name.strip_prefix("host.")
            && !self.by_name.contains_key(&name)
        {
            self.next_host += 1;
            let comm = if comm == "host" { "curl" } else { comm };
            let pid = 10 + self.next_host;
            let process = Process {
                pid: Pid(pid),
                ns_pid: pid,
                ns_level: 0,
                cgroup: HOST_CGROUP,
                netns: HOST_NETNS,
                comm: comm.to_owned(),
            };
            self.by_name.insert(name.clone(), Actor { process, parent: Pid(1), parent_outside: false });
        }
        self.by_name.get(&name).cloned().with_context(|| format!("no process {name}"))
    }

    pub fn task(&mut self, name: &str, exiting: bool) -> Result<Task> {
        let actor = self.actor(name)?;
        Ok(Task { pid: actor.process.pid, comm: actor.process.comm, exiting })
    }

    /// The container that a process belongs to, by its name.
    pub fn container_of(actor: &str) -> &str {
        actor.split_once('.').map_or(actor, |(container, _)| container)
    }

    pub fn add_player(&mut self, name: &str, words: &mut Words, now: Stamp) -> Result<()> {
        let index = u32::try_from(self.players.len()).unwrap_or(0) + 1;
        let pid = words.number("pid")?.map_or(Ok(index * 1_000), u32::try_from)?;
        let ip = words.value("ip").unwrap_or_else(|| format!("172.28.0.{}", index + 1)).parse()?;
        let mut addresses = vec![ip];
        if let Some(six) = words.value("six") {
            addresses.push(six.parse()?);
        }
        let port = |text: &str| text.parse::<u16>().with_context(|| format!("{text} is no port"));
        let listens = words.value("listens");
        let listens = listens.iter().flat_map(|ports| ports.split(',')).map(port).collect::<Result<Vec<_>>>()?;
        let mut published = Vec::new();
        for pair in words.values("published") {
            let (outside, inside) = pair.rsplit_once(':').context("published=[ADDRESS:]HOST:OWN")?;
            let (host_ip, outside) = outside.rsplit_once(':').unwrap_or(("127.0.0.1", outside));
            let host_ip = host_ip.parse().with_context(|| format!("{host_ip} is no address"))?;
            published.push(PublishedPort { host_ip, host_port: port(outside)?, container_port: port(inside)? });
        }
        let mut endpoints = Vec::new();
        for (key, fallback) in [("endpoint", false), ("fallback", true)] {
            for text in words.values(key) {
                let (prefix, host) = text.split_once(':').context("endpoint=PREFIX:HOST")?;
                endpoints.push(DeclaredEndpoint {
                    prefix: prefix.into(),
                    fallback,
                    host: host.into(),
                    port: listens.first().copied(),
                });
            }
        }
        let labels = words.values("label").into_iter().map(|label| {
            let (key, value) = label.split_once(':').map_or((label.as_str(), ""), |pair| pair);
            (key.to_owned(), value.to_owned())
        });
        let given = words.value("name").unwrap_or_else(|| name.to_owned());
        let service = words.value("service").unwrap_or_else(|| given.clone());
        let project = words.value("project").unwrap_or_else(|| "gaia".to_owned());
        let init = words.flag(INIT);
        let network = words.value("network").unwrap_or_else(|| "gaia-network".to_owned());
        let aliases = std::iter::once(given.clone()).chain(words.values("alias")).collect();
        let mut networks = vec![NetworkAddress { network, addresses, aliases }];
        let mut netns = NetnsId(u64::from(index) + 4_000_000);
        let on = words.value("on");
        let mut borrowed = None;
        if let Some(other) = &on {
            // Docker shows no network of a container that uses another one's, and one without an address for the host's.
            if other == "host" {
                (netns, borrowed) = (HOST_NETNS, Some(BRIDGE));
                networks = vec![NetworkAddress { network: other.clone(), addresses: vec![], aliases: Vec::new() }];
            } else {
                let other = self.player(other)?;
                (netns, borrowed) = (other.info.netns.context("it has no namespace")?, other.address());
                networks.clear();
            }
        }
        let info = ContainerInfo {
            id: ContainerId(format!("{index:0>64x}")),
            name: given.clone(),
            image: words.value("image").unwrap_or_else(|| "gaia:1".to_owned()),
            project: (project != "-").then_some(project),
            service: (service != "-").then_some(service),
            labels: labels.collect(),
            running: true,
            paused: false,
            started_at: Some(now),
            pid: Some(Pid(pid)),
            cgroup: Some(CgroupId(u64::from(pid) + 500_000)),
            netns: Some(netns),
            init,
            host_network: on.as_deref() == Some("host"),
            stop_signal: words.value("stop").unwrap_or_else(|| "SIGTERM".to_owned()),
            health: words.value("health"),
            restart_policy: words.value("policy"),
            memory_limit: words.number("memory")?,
            networks,
            published,
            endpoints,
            exit_code: None,
            ended: None,
        };
        let comm = words.value("comm").unwrap_or_else(|| "python".to_owned());
        let host_pids = words.flag("host-pids");
        let player = Player { info, borrowed, host_pids, listens, listening: Vec::new(), comm, runs: 1 };
        if self.players.insert(name.to_owned(), player).is_some() {
            bail!("a second container {name}");
        }
        self.populate(name)
    }

    /// The processes that a container begins with: the first one, and its child where the first is an init.
    pub fn populate(&mut self, name: &str) -> Result<()> {
        let runc = self.actor("runc")?.process.pid;
        let player = self.player(name)?.clone();
        let info = &player.info;
        let pid = info.pid.context("it has no pid")?;
        let first = Process {
            pid,
            ns_pid: if player.host_pids { pid.0 } else { 1 },
            ns_level: u32::from(!player.host_pids),
            cgroup: info.cgroup.context("it has no cgroup")?,
            netns: info.netns.context("it has no namespace")?,
            comm: player.comm.clone(),
        };
        let outside = Actor { process: first.clone(), parent: runc, parent_outside: true };
        if !info.init {
            self.by_name.insert(name.to_owned(), outside);
            return Ok(());
        }
        let init = Process { comm: "docker-init".to_owned(), ..first.clone() };
        self.by_name.insert(format!("{name}.{INIT}"), Actor { process: init, ..outside });
        let child = Process { pid: Pid(pid.0 + 1), ns_pid: 7, ..first };
        self.by_name.insert(name.to_owned(), Actor { process: child, parent: pid, parent_outside: false });
        Ok(())
    }

    /// A further process in a container.
    pub fn fork(&mut self, name: &str, words: &mut Words) -> Result<Actor> {
        let container = Self::container_of(name).to_owned();
        let outside = words.flag("entered");
        let parent = words.after("of").unwrap_or_else(|| if outside { "runc".to_owned() } else { container.clone() });
        let parent = self.actor(&parent)?.process.pid;
        let count = u32::try_from(self.by_name.len()).unwrap_or(0);
        let base = self.actor(&container)?.process;
        let pid = words.number("pid")?.map_or(Ok(base.pid.0 + 10 + count), u32::try_from)?;
        let comm = words.value("comm").unwrap_or_else(|| base.comm.clone());
        let ns_pid = if base.ns_level == 0 { pid } else { 10 + count };
        let process = Process { pid: Pid(pid), ns_pid, comm, ..base };
        let actor = Actor { process, parent, parent_outside: outside };
        self.by_name.insert(name.to_owned(), actor.clone());
        Ok(actor)
    }

    /// The next run of a container: its processes and cgroup are new, its address and namespace often are not.
    pub fn next_run(&mut self, name: &str, words: &mut Words, now: Stamp) -> Result<()> {
        let player = self.player_mut(name)?;
        player.runs += 1;
        let pid = player.info.pid.map_or(1, |pid| pid.0) + 100;
        player.info.pid = Some(Pid(pid));
        player.info.cgroup = Some(CgroupId(u64::from(pid) + 500_000));
        player.info.running = true;
        player.info.started_at = Some(now);
        player.info.exit_code = None;
        player.listening.clear();
        if let Some(ip) = words.value("ip") {
            let ip = ip.parse()?;
            player.info.networks.iter_mut().for_each(|network| network.addresses = vec![ip]);
        }
        self.populate(name)
    }
}
