//! Processes of containers: who started whom, who serves, who was signalled by whom, who ended how.
//!
//! Bound: [`CAP`] dead that count, and as many that do not; the longest dead go first, then nothing is known of their end any more.

use std::collections::{BTreeMap, VecDeque};

use crate::model::event::{CoreDump, ExitStatus, MemoryUse, Process as Named, ProcessExited, Signal, SignalSender};
use crate::model::ids::{CgroupId, NetnsId, Pid};
use crate::model::time::Stamp;

/// Dead processes kept. A death is joined to the connections that it broke within seconds.
const CAP: usize = 4_096;
/// Signals kept for each process; the oldest go first.
const SIGNALS: usize = 16;
/// First processes that only look after one child (docker run --init, and what images bring along).
const INITS: [&str; 4] = ["docker-init", "tini", "dumb-init", "catatonit"];

#[derive(Clone, Debug)]
pub struct Process {
    pub pid: Pid,
    pub ns_pid: u32,
    pub ns_level: u32,
    pub cgroup: CgroupId,
    pub netns: NetnsId,
    pub comm: String,
    pub parent: Pid,
    /// `None`: before the monitor, or not seen.
    pub started: Option<Stamp>,
    /// It, or an ancestor, came into the container from outside: docker exec, a health check.
    pub entered: bool,
    /// It holds or held a listening socket or an accepted connection.
    pub serves: bool,
    pub oom: Option<Stamp>,
    /// What its container's memory cgroup said after that.
    pub memory: Option<MemoryUse>,
    /// How its core would be written.
    pub core: Option<CoreDump>,
    pub signals: VecDeque<SignalSeen>,
    pub exit: Option<Exit>,
}

#[derive(Clone, Debug)]
pub struct Exit {
    pub at: Stamp,
    /// When the engine learned of it.
    pub seen: Stamp,
    pub status: ExitStatus,
}

#[derive(Clone, Debug)]
pub struct SignalSeen {
    pub at: Stamp,
    pub signal: String,
    pub delivered: bool,
    /// `None`: the kernel.
    pub sender: Option<Named>,
}

#[derive(Debug, Default)]
pub struct Processes {
    by_pid: BTreeMap<Pid, Process>,
    /// The dead that an incident may be told from.
    dead: VecDeque<(Pid, Stamp)>,
    /// All other dead: health checks and short children, which must not push those out.
    passing: VecDeque<(Pid, Stamp)>,
}

impl Processes {
    #[must_use]
    pub fn get(&self, pid: Pid) -> Option<&Process> {
        self.by_pid.get(&pid)
    }

    /// It stands for its container: the first process, or the only child of an init that is the first process.
    #[must_use]
    pub fn stands_for_container(&self, pid: Pid) -> bool {
        let Some(process) = self.by_pid.get(&pid) else { return false };
        if process.ns_level == 0 {
            return false;
        }
        process.ns_pid == 1 || (!process.entered && self.is_init(process.parent))
    }

    /// A first process that is an init.
    #[must_use]
    pub fn is_init(&self, pid: Pid) -> bool {
        self.by_pid.get(&pid).is_some_and(|p| p.ns_level > 0 && p.ns_pid == 1 && INITS.contains(&p.comm.as_str()))
    }

    /// Processes that count and ended at or after an instant, the latest first.
    pub fn dead_since(&self, from: Stamp) -> impl Iterator<Item = &Process> {
        let recent = self.dead.iter().rev().take_while(move |(_, at)| *at >= from);
        recent.filter_map(|(pid, _)| self.by_pid.get(pid))
    }

    pub(super) fn started(&mut self, at: Stamp, named: &Named, parent: Pid, parent_outside: bool) {
        // A pid that starts again is another process.
        self.by_pid.remove(&named.pid);
        let entered = self.is_entered(named, parent, parent_outside);
        // A forked child shares its parent's sockets until it closes them; an exec keeps what it was given.
        self.by_pid.insert(named.pid, Process { parent, started: Some(at), entered, ..bare(named) });
    }

    pub(super) fn executed(&mut self, named: &Named) {
        if let Some(process) = self.by_pid.get_mut(&named.pid) {
            process.comm.clone_from(&named.comm);
            process.cgroup = named.cgroup;
            process.netns = named.netns;
        }
    }

    pub(super) fn found(&mut self, named: &Named, parent: Pid, parent_outside: bool, serves: bool) {
        if let Some(process) = self.by_pid.get_mut(&named.pid) {
            process.serves |= serves;
            return;
        }
        let entered = self.is_entered(named, parent, parent_outside);
        self.insert(named, parent, entered, serves);
    }

    pub(super) fn serves(&mut self, pid: Pid) {
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.serves = true;
        }
    }

    pub(super) fn signalled(&mut self, at: Stamp, signal: &Signal) {
        let process = self.known(&signal.target, None);
        let sender = match &signal.sender {
            SignalSender::Kernel => None,
            SignalSender::Process(named) => Some(named.clone()),
        };
        process.signals.push_back(SignalSeen {
            at,
            signal: signal.signal.clone(),
            delivered: signal.delivered,
            sender,
        });
        if process.signals.len() > SIGNALS {
            process.signals.pop_front();
        }
    }

    pub(super) fn marked_by_oom(&mut self, at: Stamp, pid: Pid) {
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.oom = Some(at);
        }
    }

    pub(super) fn measured(&mut self, found: &MemoryUse) {
        if let Some(process) = self.by_pid.get_mut(&found.victim) {
            process.memory = Some(found.clone());
        }
    }

    /// What was read while it still lived says the most.
    pub(super) fn dumps_by(&mut self, found: &CoreDump) {
        if let Some(process) = self.by_pid.get_mut(&found.pid)
            && (process.core.is_none() || found.cwd.is_some())
        {
            process.core = Some(found.clone());
        }
    }

    pub(super) fn exited(&mut self, at: Stamp, seen: Stamp, exited: &ProcessExited) {
        // The record's own comm is often that of the thread which went last: a known one stays.
        let process = self.known(&exited.process, Some((exited.parent, exited.parent_outside)));
        process.serves |= exited.listens;
        process.exit = Some(Exit { at, seen, status: exited.status.clone() });
        let pid = exited.process.pid;
        let kept = self.stands_for_container(pid)
            || self.is_init(pid)
            || self.get(pid).is_some_and(|process| process.serves || process.oom.is_some());
        let dead = if kept { &mut self.dead } else { &mut self.passing };
        dead.push_back((pid, at));
        if dead.len() > CAP
            && let Some((pid, died)) = dead.pop_front()
            && self.by_pid.get(&pid).and_then(|p| p.exit.as_ref()).is_some_and(|exit| exit.at == died)
        {
            self.by_pid.remove(&pid);
        }
    }

    /// A process that was not seen to start: known from now on by what this fact says of it.
    fn known(&mut self, named: &Named, parent: Option<(Pid, bool)>) -> &mut Process {
        if !self.by_pid.contains_key(&named.pid) {
            let (parent, outside) = parent.unwrap_or((Pid(0), false));
            let entered = self.is_entered(named, parent, outside);
            self.insert(named, parent, entered, false);
        }
        self.by_pid.entry(named.pid).or_insert_with(|| bare(named))
    }

    fn is_entered(&self, named: &Named, parent: Pid, parent_outside: bool) -> bool {
        if named.ns_level == 0 || named.ns_pid == 1 {
            return false;
        }
        parent_outside || self.by_pid.get(&parent).is_some_and(|p| p.entered)
    }

    fn insert(&mut self, named: &Named, parent: Pid, entered: bool, serves: bool) {
        let process = Process { parent, entered, serves, ..bare(named) };
        self.by_pid.insert(named.pid, process);
    }
}

fn bare(named: &Named) -> Process {
    Process {
        pid: named.pid,
        ns_pid: named.ns_pid,
        ns_level: named.ns_level,
        cgroup: named.cgroup,
        netns: named.netns,
        comm: named.comm.clone(),
        parent: Pid(0),
        started: None,
        entered: false,
        serves: false,
        oom: None,
        memory: None,
        core: None,
        signals: VecDeque::new(),
        exit: None,
    }
}

#[cfg(test)]
mod tests {
    use super::{CAP, Processes};
    use crate::model::event::{ExitStatus, Process as Named, ProcessExited};
    use crate::model::ids::{CgroupId, NetnsId, Pid};
    use crate::model::time::Stamp;

    fn exited(pid: u32, ns_pid: u32) -> ProcessExited {
        let process = Named {
            pid: Pid(pid),
            ns_pid,
            ns_level: 1,
            cgroup: CgroupId(1),
            netns: NetnsId(1),
            comm: "python".to_owned(),
        };
        let status = ExitStatus::Code { code: 1 };
        ProcessExited { process, parent: Pid(1), parent_outside: false, status, listens: false }
    }

    #[test]
    fn health_checks_do_not_push_out_the_death_that_an_incident_tells() {
        let mut processes = Processes::default();
        processes.exited(Stamp(1), Stamp(1), &exited(10, 1));
        for (pid, at) in (1_000..).zip(2..).take(2 * CAP) {
            processes.exited(Stamp(at), Stamp(at), &exited(pid, 2));
        }
        assert!(processes.get(Pid(10)).is_some_and(|first| first.exit.is_some()));
        assert!(processes.get(Pid(1_000)).is_none(), "the others are bounded");
    }
}
