//! The kernel's counters of handshakes that listeners drop, `ListenOverflows` and `ListenDrops`, of each network namespace
//! in which a container runs.
//!
//! The probe observes such packets one by one; the counters are the fallback when its records are lost.
//! `/proc/PID/net/netstat` shows the namespace of that process (proc_pid_net(5)) to every user, so no namespace is entered
//! and no privilege kept; the procfs crate does not parse it. One thread of its own, which sleeps while no container runs.
//! A shared namespace is read once; the host's is not read, because it counts for the whole host. Only growth is emitted.
//!
//! Bounds: [`NAMESPACES`], each read every [`INTERVAL`]; the kernel needs some 30 µs for each.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::model::event::{AcceptQueueCounts, ContainerInfo, DockerAction, Fact, Observation};
use crate::model::ids::{ContainerId, NetnsId, Pid};
use crate::model::time::Stamp;
use crate::pipeline::channel::EventSender;
use crate::pipeline::clock::Clock;
use crate::privileges::ThreadRole;

/// Namespaces that are read, which takes 8 ms of CPU time a second. Further ones are not.
const NAMESPACES: usize = 256;
/// A client without a response retransmits its SYN after a second, and waits longer than that.
const INTERVAL: Duration = Duration::from_secs(1);
/// Facts queued for the thread. One that does not fit is counted.
const FACTS: usize = 1_024;
/// Stage of containers that are not read.
const STAGE: &str = "netstat.watch";

/// Handle of the thread, which ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct ListenCounters {
    facts: mpsc::SyncSender<Fact>,
    sender: EventSender,
}

impl ListenCounters {
    /// Starts the thread. It reads counters once [`ListenCounters::on_fact`] has received a container.
    ///
    /// # Errors
    /// When the system cannot provide a thread.
    pub fn start(clock: Arc<Clock>, sender: EventSender) -> io::Result<Self> {
        let (queue, facts) = mpsc::sync_channel(FACTS);
        let events = sender.clone();
        thread::Builder::new()
            .name(ThreadRole::Netstat.thread().to_owned())
            .spawn(move || run(&facts, &clock, &events))?;
        Ok(Self { facts: queue, sender })
    }

    /// Queues a fact that starts or ends a container, and ignores all others.
    pub fn on_fact(&self, fact: &Fact) {
        let is_relevant = match fact {
            Fact::ContainerSeen(_) => true,
            Fact::Docker(event) => matches!(event.action, DockerAction::Die { .. } | DockerAction::Destroy),
            _ => false,
        };
        if is_relevant && self.facts.try_send(fact.clone()).is_err() {
            self.sender.lost(STAGE, 1);
        }
    }
}

fn run(facts: &mpsc::Receiver<Fact>, clock: &Clock, sender: &EventSender) {
    let mut watch = Watch::default();
    let mut due = Instant::now();
    loop {
        let received = if watch.is_empty() {
            facts.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected)
        } else {
            facts.recv_timeout(due.saturating_duration_since(Instant::now()))
        };
        match received {
            Ok(fact) => {
                let was_idle = watch.is_empty();
                if !watch.on_fact(&fact) {
                    sender.lost(STAGE, 1);
                }
                if was_idle {
                    due = Instant::now();
                }
                continue;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        due = Instant::now() + INTERVAL;
        if !sender.send(watch.read(|| clock.now(), counts_of)) {
            return;
        }
    }
}

/// Both counters of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    overflows: u64,
    drops: u64,
}

#[derive(Debug, Default)]
struct Namespace {
    /// Containers in the namespace, each with a process by which to read it.
    members: BTreeMap<ContainerId, Pid>,
    /// The last values, and an instant just before they were read.
    last: Option<(Stamp, Counts)>,
}

#[derive(Debug, Default)]
struct Watch {
    namespaces: BTreeMap<NetnsId, Namespace>,
}

impl Watch {
    fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }

    /// Returns `false` if there is no room for the container's namespace.
    fn on_fact(&mut self, fact: &Fact) -> bool {
        match fact {
            Fact::ContainerSeen(seen) => self.seen(seen),
            Fact::Docker(event) => {
                self.forget(&event.container);
                true
            }
            _ => true,
        }
    }

    fn seen(&mut self, info: &ContainerInfo) -> bool {
        let (Some(pid), Some(netns)) = (info.pid, info.netns) else {
            self.forget(&info.id);
            return true;
        };
        let known = self.namespaces.get(&netns).and_then(|namespace| namespace.members.get(&info.id));
        if known == Some(&pid) && info.running {
            return true;
        }
        self.forget(&info.id);
        if !info.running || info.host_network {
            return true;
        }
        if !self.namespaces.contains_key(&netns) && self.namespaces.len() >= NAMESPACES {
            return false;
        }
        self.namespaces.entry(netns).or_default().members.insert(info.id.clone(), pid);
        true
    }

    fn forget(&mut self, container: &ContainerId) {
        self.namespaces.retain(|_, namespace| {
            namespace.members.remove(container);
            !namespace.members.is_empty()
        });
    }

    /// Growth since the last reading. The first reading of a namespace is the baseline.
    fn read(&mut self, now: impl Fn() -> Stamp, counts_of: impl Fn(Pid) -> Option<Counts>) -> Vec<Observation> {
        let mut grown = Vec::new();
        for (netns, namespace) in &mut self.namespaces {
            let before = now();
            // A process may have ended before its death is reported; then another member's is read.
            let Some(counts) = namespace.members.values().find_map(|pid| counts_of(*pid)) else { continue };
            let at = now();
            let last = namespace.last.replace((before, counts));
            let growth = last.and_then(|(since, last)| {
                let overflows = counts.overflows.checked_sub(last.overflows)?;
                let drops = counts.drops.checked_sub(last.drops)?;
                // Counters do not shrink: smaller values are those of another namespace.
                Some(AcceptQueueCounts { netns: *netns, since, overflows, drops })
            });
            if let Some(growth) = growth.filter(|growth| growth.overflows > 0 || growth.drops > 0) {
                grown.push(Observation { at, fact: Fact::AcceptQueueCounts(growth) });
            }
        }
        grown
    }
}

fn counts_of(pid: Pid) -> Option<Counts> {
    parse(&fs::read_to_string(format!("/proc/{pid}/net/netstat")).ok()?)
}

/// Each group has a line of names and a line of values (net/ipv4/proc.c, `netstat_seq_show`).
fn parse(text: &str) -> Option<Counts> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let of = |wanted: &str| {
        let pairs = names.split_whitespace().zip(values.split_whitespace());
        pairs.into_iter().find(|(name, _)| *name == wanted)?.1.parse().ok()
    };
    Some(Counts { overflows: of("ListenOverflows")?, drops: of("ListenDrops")? })
}

#[cfg(test)]
mod tests;
