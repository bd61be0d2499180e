//! Processes of containers: parents, sockets served, signals received, and exits.
//!
//! Bound: [`EXITED_CAP`] exited processes that an incident may refer to, and as many others; when reached, the process
//! that exited first is evicted, and its exit explains no later failure. [`SIGNALS_CAP`] signals of each process; when
//! reached, the oldest is evicted.

use std::collections::{BTreeMap, VecDeque};

use crate::model::event::{
    CoreDump, CrashSite, ExitStatus, MemoryUse, Process as ProcessFact, ProcessExited, ResourceLimit, Signal,
    SignalSender,
};
use crate::model::ids::{CgroupId, NetnsId, Pid};
use crate::model::time::Stamp;

/// Attribution joins an exit to its broken connections within seconds.
const EXITED_CAP: usize = 4_096;
const SIGNALS_CAP: usize = 16;
/// First processes that only supervise one child (`docker run --init`, and those of common images).
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
    /// `None`: started before the monitor, or not reported.
    pub started: Option<Stamp>,
    /// It, or an ancestor, was started from outside the container: `docker exec`, a health check.
    pub entered: bool,
    /// It has or had a listening socket or an accepted connection.
    pub serves: bool,
    /// It has read from an accepted connection.
    pub accepts: bool,
    pub oom: Option<Stamp>,
    /// A reading of its container's memory cgroup after the OOM kill.
    pub memory: Option<MemoryUse>,
    /// How its core file would be written.
    pub core: Option<CoreDump>,
    /// The first fatal signal of its own, and its delivery.
    pub crash: Option<(Stamp, CrashSite)>,
    pub signals: VecDeque<SignalSeen>,
    pub exit: Option<ProcessExit>,
}

#[derive(Clone, Debug)]
pub struct ProcessExit {
    pub at: Stamp,
    /// When the engine received it.
    pub seen: Stamp,
    pub status: ExitStatus,
}

#[derive(Clone, Debug)]
pub struct SignalSeen {
    pub at: Stamp,
    pub signal: String,
    pub delivered: bool,
    /// `None`: the kernel.
    pub sender: Option<ProcessFact>,
    /// The limit that the kernel enforced with it.
    pub limit: Option<ResourceLimit>,
    /// The only process that had used the Docker engine's socket shortly before, for a sender on the host.
    pub requested_by: Option<ProcessFact>,
}

#[derive(Debug, Default)]
pub struct Processes {
    by_pid: BTreeMap<Pid, Process>,
    /// Exited processes that an incident may refer to.
    relevant: VecDeque<(Pid, Stamp)>,
    /// All other exited processes (health checks, short-lived children), which must not evict those.
    short_lived: VecDeque<(Pid, Stamp)>,
}

impl Processes {
    #[must_use]
    pub fn get(&self, pid: Pid) -> Option<&Process> {
        self.by_pid.get(&pid)
    }

    /// Whether it is the main process of its container: the first process, or the only child of an init that is the
    /// first process.
    #[must_use]
    pub fn stands_for_container(&self, pid: Pid) -> bool {
        let Some(process) = self.by_pid.get(&pid) else { return false };
        if process.ns_level == 0 {
            return false;
        }
        process.ns_pid == 1 || (!process.entered && self.is_init(process.parent))
    }

    /// Whether it is a first process that is an init.
    #[must_use]
    pub fn is_init(&self, pid: Pid) -> bool {
        self.by_pid.get(&pid).is_some_and(|p| p.ns_level > 0 && p.ns_pid == 1 && INITS.contains(&p.comm.as_str()))
    }

    /// Whether its end is that of its container: a first process, or the only child of an init.
    #[must_use]
    pub fn is_main(&self, pid: Pid) -> bool {
        self.stands_for_container(pid) || self.is_init(pid)
    }

    /// Every known process, those that have exited as well.
    pub fn all(&self) -> impl Iterator<Item = &Process> {
        self.by_pid.values()
    }

    /// Processes that exited in a period, relevant or not.
    pub fn exited_between(&self, from: Stamp, until: Stamp) -> impl Iterator<Item = &Process> {
        let lists = [&self.relevant, &self.short_lived].into_iter();
        let recent = lists.flat_map(move |list| list.iter().rev().take_while(move |(_, at)| *at >= from));
        recent.filter(move |(_, at)| *at <= until).filter_map(|(pid, _)| self.by_pid.get(pid))
    }

    /// Relevant processes that exited at or after an instant, the latest first.
    pub fn exited_since(&self, from: Stamp) -> impl Iterator<Item = &Process> {
        let recent = self.relevant.iter().rev().take_while(move |(_, at)| *at >= from);
        recent.filter_map(|(pid, _)| self.by_pid.get(pid))
    }

    /// Relevant processes of a cgroup that exited, the first to exit first.
    pub fn exited_in(&self, cgroup: CgroupId) -> impl Iterator<Item = &Process> {
        let processes = self.relevant.iter().filter_map(|(pid, _)| self.by_pid.get(pid));
        processes.filter(move |process| process.cgroup == cgroup && process.exit.is_some())
    }

    pub(super) fn started(&mut self, at: Stamp, fact: &ProcessFact, parent: Pid, parent_outside: bool) {
        // The pid was reused by a new process.
        self.by_pid.remove(&fact.pid);
        let entered = self.is_entered(fact, parent, parent_outside);
        // `serves` starts false: a forked child shares its parent's sockets only until it closes them. An exec keeps
        // it.
        self.by_pid.insert(fact.pid, Process { parent, started: Some(at), entered, ..from_fact(fact) });
    }

    pub(super) fn executed(&mut self, fact: &ProcessFact) {
        if let Some(process) = self.by_pid.get_mut(&fact.pid) {
            process.comm.clone_from(&fact.comm);
            process.cgroup = fact.cgroup;
            process.netns = fact.netns;
        }
    }

    pub(super) fn record_preexisting(&mut self, fact: &ProcessFact, parent: Pid, parent_outside: bool, serves: bool) {
        if let Some(process) = self.by_pid.get_mut(&fact.pid) {
            process.serves |= serves;
            return;
        }
        let entered = self.is_entered(fact, parent, parent_outside);
        self.insert(fact, parent, entered, serves);
    }

    /// It read from an accepted connection.
    pub(super) fn mark_accepting(&mut self, pid: Pid) {
        if let Some(process) = self.by_pid.get_mut(&pid) {
            (process.serves, process.accepts) = (true, true);
        }
    }

    pub(super) fn mark_serving(&mut self, pid: Pid) {
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.serves = true;
        }
    }

    pub(super) fn signalled(&mut self, at: Stamp, signal: &Signal, requested_by: Option<ProcessFact>) {
        let process = self.get_or_insert(&signal.target, None);
        let sender = match &signal.sender {
            SignalSender::Kernel => None,
            SignalSender::Process(fact) => Some(fact.clone()),
        };
        process.signals.push_back(SignalSeen {
            at,
            signal: signal.signal.clone(),
            delivered: signal.delivered,
            sender,
            limit: signal.limit,
            requested_by,
        });
        if process.signals.len() > SIGNALS_CAP {
            process.signals.pop_front();
        }
    }

    pub(super) fn marked_by_oom(&mut self, at: Stamp, pid: Pid) {
        if let Some(process) = self.by_pid.get_mut(&pid) {
            process.oom = Some(at);
        }
    }

    pub(super) fn memory_read(&mut self, read: &MemoryUse) {
        if let Some(process) = self.by_pid.get_mut(&read.victim) {
            process.memory = Some(read.clone());
        }
    }

    /// Records the core settings. A reading with `cwd` was made while the process was alive, and takes precedence.
    pub(super) fn core_dump(&mut self, dump: &CoreDump) {
        if let Some(process) = self.by_pid.get_mut(&dump.pid)
            && (process.core.is_none() || dump.cwd.is_some())
        {
            process.core = Some(dump.clone());
        }
    }

    pub(super) fn crashed(&mut self, at: Stamp, site: &CrashSite) {
        let process = self.get_or_insert(&site.process, None);
        if process.crash.is_none() {
            process.crash = Some((at, site.clone()));
        }
    }

    pub(super) fn exited(&mut self, at: Stamp, seen: Stamp, exited: &ProcessExited) {
        // Keep a known comm: the record's comm is often that of the thread that exited last.
        let process = self.get_or_insert(&exited.process, Some((exited.parent, exited.parent_outside)));
        let (pid, cgroup) = (process.pid, process.cgroup);
        process.exit = Some(ProcessExit { at, seen, status: exited.status.clone() });
        // An inherited listener counts while no other process accepts from it; a runtime that fails may have closed it.
        let failed = !exited.status.is_success();
        // The scan of all processes comes last: most exits need none.
        if (exited.listens || (failed && self.replaced_an_acceptor(pid))) && !self.others_accept(cgroup, pid) {
            self.mark_serving(pid);
        }
        let is_relevant =
            self.is_main(pid) || self.get(pid).is_some_and(|process| process.serves || process.oom.is_some());
        let list = if is_relevant { &mut self.relevant } else { &mut self.short_lived };
        list.push_back((pid, at));
        if list.len() > EXITED_CAP
            && let Some((pid, exited_at)) = list.pop_front()
            && self.by_pid.get(&pid).and_then(|p| p.exit.as_ref()).is_some_and(|exit| exit.at == exited_at)
        {
            self.by_pid.remove(&pid);
        }
    }

    /// The process of a fact; inserted if its start was not reported.
    fn get_or_insert(&mut self, fact: &ProcessFact, parent: Option<(Pid, bool)>) -> &mut Process {
        if !self.by_pid.contains_key(&fact.pid) {
            let (parent, outside) = parent.unwrap_or((Pid(0), false));
            let entered = self.is_entered(fact, parent, outside);
            self.insert(fact, parent, entered, false);
        }
        self.by_pid.entry(fact.pid).or_insert_with(|| from_fact(fact))
    }

    fn is_entered(&self, fact: &ProcessFact, parent: Pid, parent_outside: bool) -> bool {
        if fact.ns_level == 0 || fact.ns_pid == 1 {
            return false;
        }
        parent_outside || self.by_pid.get(&parent).is_some_and(|p| p.entered)
    }

    fn insert(&mut self, fact: &ProcessFact, parent: Pid, entered: bool, serves: bool) {
        let process = Process { parent, entered, serves, ..from_fact(fact) };
        self.by_pid.insert(fact.pid, process);
    }
}

fn from_fact(fact: &ProcessFact) -> Process {
    Process {
        pid: fact.pid,
        ns_pid: fact.ns_pid,
        ns_level: fact.ns_level,
        cgroup: fact.cgroup,
        netns: fact.netns,
        comm: fact.comm.clone(),
        parent: Pid(0),
        started: None,
        entered: false,
        serves: false,
        accepts: false,
        oom: None,
        memory: None,
        core: None,
        crash: None,
        signals: VecDeque::new(),
        exit: None,
    }
}

#[cfg(test)]
mod tests {
    use super::{EXITED_CAP, Processes};
    use crate::model::event::{ExitStatus, Process as ProcessFact, ProcessExited};
    use crate::model::ids::{CgroupId, NetnsId, Pid};
    use crate::model::time::Stamp;

    fn exited(pid: u32, ns_pid: u32) -> ProcessExited {
        let process = ProcessFact {
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
    fn keeps_the_exit_of_an_incident_when_many_health_checks_end() {
        let mut processes = Processes::default();
        processes.exited(Stamp(1), Stamp(1), &exited(10, 1));
        for (pid, at) in (1_000..).zip(2..).take(2 * EXITED_CAP) {
            processes.exited(Stamp(at), Stamp(at), &exited(pid, 2));
        }
        assert!(processes.get(Pid(10)).is_some_and(|first| first.exit.is_some()));
        assert!(processes.get(Pid(1_000)).is_none(), "other exits are bounded");
    }
}
