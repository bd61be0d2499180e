//! Interfaces of a stack's network, what a case does to them, and iproute2's `ip monitor` as the witness.
//!
//! A name of an interface is taken from the kernel and checked before anything is done to it: it must be the bridge of
//! the stack's own network, or a veth end that is a port of that bridge. Nothing here may ever touch the host's own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command::{OnInterrupt, run};
use crate::container::Container;
use crate::docker::docker;
use crate::host::{self, Need};
use crate::stack::Stack;
use crate::wait;
use crate::witness::WallNanos;

const LIMIT: Duration = Duration::from_secs(10);

/// An interface on the host that is the stack's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface(String);

impl Interface {
    /// The bridge of the stack's network. Docker names it after the network's id.
    pub fn bridge(stack: &Stack) -> Result<Self> {
        host::ensure(&[Need::Iproute], &mut |line| eprintln!("{line}"))?;
        let id = docker(["network", "inspect", "--format", "{{.Id}}", stack.network().name()])?;
        let name = format!("br-{}", id.trim().get(..12).context("a network's id")?);
        let shown = ip(&["-o", "link", "show", "dev", &name, "type", "bridge"])?;
        ensure!(shown.contains(&format!(": {name}:")), "{name} is no bridge: {shown:?}");
        Ok(Self(name))
    }

    /// The host's end of a container's veth pair.
    pub fn veth(stack: &Stack, container: &Container) -> Result<Self> {
        let Self(bridge) = Self::bridge(stack)?;
        let own = run(&mut inside(container, &["-o", "link", "show", "dev", "eth0"])?, OnInterrupt::End)?.stdout;
        let (_, other) = own.split_once("eth0@if").with_context(|| format!("no veth end: {own:?}"))?;
        let index = other.split(':').next().context("an index")?;
        let ports = ip(&["-o", "link", "show", "type", "veth", "master", &bridge])?;
        let port = ports.lines().find_map(|line| line.strip_prefix(&format!("{index}: ")));
        let name = port.and_then(|port| port.split(['@', ':']).next());
        Ok(Self(name.with_context(|| format!("no port {index} of {bridge}: {ports:?}"))?.to_owned()))
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// `ip link set NAME …`
    pub fn set(&self, what: &[&str]) -> Result<()> {
        ip(&["link", "set", "dev", &self.0].iter().chain(what).copied().collect::<Vec<_>>()).map(drop)
    }

    /// `ip link delete NAME`
    pub fn delete(&self) -> Result<()> {
        ip(&["link", "delete", "dev", &self.0]).map(drop)
    }
}

/// `ip link set eth0 …` inside a container.
pub fn set_inside(container: &Container, what: &[&str]) -> Result<()> {
    let words: Vec<&str> = ["link", "set", "dev", "eth0"].iter().chain(what).copied().collect();
    run(&mut inside(container, &words)?, OnInterrupt::End).map(drop)
}

fn ip(arguments: &[&str]) -> Result<String> {
    Ok(run(Command::new("ip").args(arguments), OnInterrupt::End)?.stdout)
}

/// iproute2 in a container's network namespace, which must not be the host's.
fn inside(container: &Container, arguments: &[&str]) -> Result<Command> {
    let namespace = format!("/proc/{}/ns/net", container.pid()?);
    let own = std::fs::read_link("/proc/self/ns/net").context("the own namespace")?;
    ensure!(std::fs::read_link(&namespace).context("its namespace")? != own, "a container on the host's network");
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={namespace}")).arg("ip").args(arguments);
    Ok(command)
}

/// A running `ip monitor link`. Dropping it ends it.
pub struct Monitor {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Monitor {
    pub fn on_host() -> Result<Self> {
        Self::start(&Command::new("ip"))
    }

    pub fn in_container(container: &Container) -> Result<Self> {
        Self::start(&inside(container, &[])?)
    }

    fn start(program: &Command) -> Result<Self> {
        host::ensure(&[Need::Iproute], &mut |line| eprintln!("{line}"))?;
        // Its lines carry the time at which it reads them: it must not wait for a processor.
        let mut command = Command::new("chrt");
        command.args(["--fifo", "10"]).arg(program.get_program()).args(program.get_args());
        command.args(["-ts", "-o", "monitor", "link"]).env("TZ", "UTC");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting ip monitor")?;
        let out = child.stdout.take().context("its output")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(std::result::Result::ok) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        let monitor = Self { child, lines };
        let pid = monitor.child.id();
        // chrt and nsenter become ip: the pid stays, and with it the name of the netlink socket.
        wait::until("ip monitor to listen", LIMIT, || {
            let table = std::fs::read_to_string(format!("/proc/{pid}/net/netlink")).unwrap_or_default();
            let listens = |line: &str| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let own = fields.get(2).is_some_and(|owner| *owner == pid.to_string());
                own && fields.get(3).is_some_and(|groups| groups.bytes().any(|digit| digit != b'0'))
            };
            Ok(table.lines().any(listens).then_some(()))
        })?;
        Ok(monitor)
    }

    /// When it wrote the first line at or after `since` that `wanted` accepts.
    pub fn saw(&self, what: &str, since: WallNanos, wanted: impl Fn(&str) -> bool) -> Result<WallNanos> {
        wait::until(&format!("ip monitor to tell of {what}"), LIMIT, || {
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            for line in lines.iter().filter(|line| wanted(line)) {
                let at = instant(line)?;
                if at >= since {
                    return Ok(Some(at));
                }
            }
            Ok(None)
        })
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is the line about a removed interface? Lines of a bridge about its ports have no queue (`qdisc`).
#[must_use]
pub fn is_removal(line: &str) -> bool {
    line.contains("] Deleted ") && line.contains(" qdisc ")
}

/// Set down, whatever the carrier.
#[must_use]
pub fn is_down(line: &str, name: &str) -> bool {
    names(line, name) && line.contains(" qdisc ") && !has_up(line)
}

/// Set up, whatever the carrier.
#[must_use]
pub fn is_set_up(line: &str, name: &str) -> bool {
    names(line, name) && line.contains(" qdisc ") && has_up(line)
}

fn has_up(line: &str) -> bool {
    let flags = line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(flags, _)| flags);
    flags.split(',').any(|flag| flag == "UP")
}

/// Set up, and with a carrier.
#[must_use]
pub fn is_up(line: &str, name: &str) -> bool {
    names(line, name) && line.contains(" qdisc ") && line.contains(" state UP ")
}

fn names(line: &str, name: &str) -> bool {
    line.contains(&format!(": {name}:")) || line.contains(&format!(": {name}@"))
}

/// `[2026-11-25T16:45:06.444265] …`, in UTC.
fn instant(line: &str) -> Result<WallNanos> {
    let stamp = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(stamp, _)| stamp);
    crate::incident_line::wall(&format!("{}Z", stamp.with_context(|| format!("no time in {line:?}"))?))
}

#[cfg(test)]
mod tests {
    use super::{instant, is_down, is_removal, is_up};

    const DOWN: &str = "[2026-11-25T16:45:06.444265] 25: veth4e@if24: <BROADCAST,MULTICAST> mtu 1500 qdisc noqueue master br-5 state DOWN group default ";

    #[test]
    fn distinguishes_lines_of_ip_monitor() {
        assert!(is_down(DOWN, "veth4e") && !is_down(DOWN, "veth4"));
        let up = DOWN.replace("<BROADCAST", "<UP,BROADCAST").replace("state DOWN", "state UP");
        assert!(is_up(&up, "veth4e") && !is_down(&up, "veth4e"));
        assert!(is_removal(&DOWN.replace("] 25", "] Deleted 25")));
        // A line of a bridge: a port has left it.
        assert!(!is_removal(&DOWN.replace("] 25", "] Deleted 25").replace("qdisc noqueue ", "")));
    }

    #[test]
    fn reads_the_time_as_utc() {
        assert_eq!(instant(DOWN).unwrap() % 1_000_000_000, 444_265_000);
    }
}
