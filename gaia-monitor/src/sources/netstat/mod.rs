//! What the kernel counts of handshakes that listeners drop: `ListenOverflows` and `ListenDrops`, of each network namespace
//! in which a container runs.
//!
//! The probe sees such packets one by one; the counters stand where its records are lost. `/proc/PID/net/netstat` shows
//! the namespace of that process (proc_pid_net(5)) to everybody, so that no namespace is entered and no privilege kept;
//! the procfs crate does not read it. One thread of its own, which sleeps while no container runs. Namespaces that
//! containers share are read once; that of the host is not, it counts for all the host. Only growth leaves.
//!
//! Bounds: [`NAMESPACES`], each read every [`EVERY`]; a reading takes the kernel some 30 µs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::model::event::{ContainerInfo, DockerAction, Fact, ListenCounts, Observation};
use crate::model::ids::{ContainerId, NetnsId, Pid};
use crate::model::time::Stamp;
use crate::pipeline::clock::Clock;
use crate::pipeline::outlet::Outlet;

/// Namespaces read at a time: 8 ms of a processor in each second. Those beyond are not.
const NAMESPACES: usize = 256;
/// A client that is not answered sends its SYN again after a second, and waits longer than that.
const EVERY: Duration = Duration::from_secs(1);
/// Facts that wait for the thread; what does not fit is counted.
const FACTS: usize = 1_024;
/// Containers whose namespace is not read.
const UNREAD: &str = "netstat.watch";

/// The thread's door; it ends when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Counters {
    facts: mpsc::SyncSender<Fact>,
    outlet: Outlet,
}

impl Counters {
    /// Reads from the first container on of which [`Counters::heed`] is told.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(clock: Arc<Clock>, outlet: Outlet) -> io::Result<Self> {
        let (sender, facts) = mpsc::sync_channel(FACTS);
        let told = outlet.clone();
        thread::Builder::new().name("netstat".to_owned()).spawn(move || follow(&facts, &clock, &told))?;
        Ok(Self { facts: sender, outlet })
    }

    /// Takes what a fact says of which containers run.
    pub fn heed(&self, fact: &Fact) {
        let concerns = match fact {
            Fact::ContainerSeen(_) => true,
            Fact::Docker(event) => matches!(event.action, DockerAction::Die { .. } | DockerAction::Destroy),
            _ => false,
        };
        if concerns && self.facts.try_send(fact.clone()).is_err() {
            self.outlet.lost(UNREAD, 1);
        }
    }
}

fn follow(facts: &mpsc::Receiver<Fact>, clock: &Clock, outlet: &Outlet) {
    let mut watch = Watch::default();
    let mut due = Instant::now();
    loop {
        let heard = if watch.is_empty() {
            facts.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected)
        } else {
            facts.recv_timeout(due.saturating_duration_since(Instant::now()))
        };
        match heard {
            Ok(fact) => {
                let was_idle = watch.is_empty();
                if !watch.heed(&fact) {
                    outlet.lost(UNREAD, 1);
                }
                if was_idle {
                    due = Instant::now();
                }
                continue;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        due = Instant::now() + EVERY;
        if !outlet.offer(watch.read(|| clock.now(), counts_of)) {
            return;
        }
    }
}

/// Both counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    overflows: u64,
    drops: u64,
}

#[derive(Debug, Default)]
struct Namespace {
    /// Whose processes show it.
    members: BTreeMap<ContainerId, Pid>,
    /// What was read last, and an instant just before that.
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

    /// `false`: there is no room for its namespace.
    fn heed(&mut self, fact: &Fact) -> bool {
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

    /// What has grown since the last reading. The first one of a namespace only begins.
    fn read(&mut self, now: impl Fn() -> Stamp, counts_of: impl Fn(Pid) -> Option<Counts>) -> Vec<Observation> {
        let mut grown = Vec::new();
        for (netns, namespace) in &mut self.namespaces {
            let before = now();
            // A process that has ended, and is not told yet, shows nothing: another member's does.
            let Some(counts) = namespace.members.values().find_map(|pid| counts_of(*pid)) else { continue };
            let at = now();
            let last = namespace.last.replace((before, counts));
            let growth = last.and_then(|(since, last)| {
                let overflows = counts.overflows.checked_sub(last.overflows)?;
                let drops = counts.drops.checked_sub(last.drops)?;
                // Counters never shrink: these are those of another namespace.
                Some(ListenCounts { netns: *netns, since, overflows, drops })
            });
            if let Some(growth) = growth.filter(|growth| growth.overflows > 0 || growth.drops > 0) {
                grown.push(Observation { at, fact: Fact::ListenCounts(growth) });
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
