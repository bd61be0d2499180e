//! Process exits and signals, applied to processes and to the termination of their container.

use crate::model::event::{ContainerInfo, CrashSite, ProcessExited, Signal, SignalSender};
use crate::model::ids::{ContainerId, Pid};
use crate::model::time::Stamp;

use crate::engine::world::World;
use crate::engine::world::change::Change;
use crate::engine::world::processes::ProcessExit;

/// Signals that request a termination, in addition to the container's stop signal.
const TERMINATING_SIGNALS: [&str; 4] = ["SIGTERM", "SIGINT", "SIGQUIT", "SIGKILL"];

impl World {
    pub(super) fn process_exited(&mut self, at: Stamp, seen: Stamp, exited: &ProcessExited) -> Vec<Change> {
        let pid = exited.process.pid;
        self.processes.exited(at, seen, exited);
        let Some(container) = self.container_of(pid) else { return vec![Change::Exited(pid)] };
        if self.processes.is_main(pid) {
            if self.processes.is_init(pid) && self.is_reported_by_child(&container, pid, at) {
                return vec![Change::Exited(pid)];
            }
            let parent = self.processes.get(pid).map(|process| process.parent);
            let init_parent = parent.filter(|parent| self.processes.is_init(*parent));
            let id = self.terminations.exited(at, seen, &container, pid, init_parent, &exited.status);
            self.containers.terminated(&container, at);
            self.interfaces.outages.terminated(at, &container);
            return vec![Change::Termination(id), Change::Exited(pid)];
        }
        vec![Change::Exited(pid)]
    }

    /// A fatal signal was delivered. The exit may follow seconds later, when the core is written.
    pub(super) fn process_crashed(&mut self, at: Stamp, seen: Stamp, site: &CrashSite) -> Vec<Change> {
        let pid = site.process.pid;
        self.processes.crashed(at, site);
        let container = self.container_of(pid).filter(|_| self.processes.stands_for_container(pid));
        let Some(container) = container else { return vec![Change::Signalled(pid)] };
        self.request_termination(at, seen, &container, pid, &site.signal)
    }

    /// A signal to a container's main process requests its termination, or is certain to end it.
    fn request_termination(
        &mut self,
        at: Stamp,
        seen: Stamp,
        container: &ContainerId,
        pid: Pid,
        signal: &str,
    ) -> Vec<Change> {
        self.terminations.request(at, seen, container, pid, signal);
        let current = self.terminations.current(container, at).map(|termination| Change::Termination(termination.id));
        current.into_iter().chain([Change::Signalled(pid)]).collect()
    }

    /// Exits of first processes that were observed before their container was known: a slow engine reports it after its
    /// death.
    pub(super) fn adopt_exits(&mut self, info: &ContainerInfo, changes: &mut Vec<Change>) {
        let Some(cgroup) = info.cgroup else { return };
        let of_container = self.processes.exited_in(cgroup).filter(|process| {
            let mut terminations = self.terminations.of_container(&info.id);
            let init = self.processes.is_init(process.pid);
            let by_child = |exit: &ProcessExit| init && self.is_reported_by_child(&info.id, process.pid, exit.at);
            let is_main = self.processes.is_main(process.pid);
            let is_reported = terminations.any(|known| known.pid == Some(process.pid));
            is_main && !is_reported && !process.exit.as_ref().is_some_and(by_child)
        });
        let exits: Vec<_> = of_container.filter_map(|it| Some((it.pid, it.parent, it.exit.clone()?))).collect();
        for (pid, parent, exit) in exits {
            let init = Some(parent).filter(|parent| self.processes.is_init(*parent));
            let id = self.terminations.exited(exit.at, self.now, &info.id, pid, init, &exit.status);
            if info.started_at.is_none_or(|started| started <= exit.at) {
                self.containers.terminated(&info.id, exit.at);
            }
            changes.push(Change::Termination(id));
        }
    }

    /// Whether the exit of an init's only child already counts as the container's. Usually the child exits first and
    /// its init follows. If the init was killed, it exits first, the kernel kills the rest of its namespace, and the
    /// child's exit replaces the init's.
    fn is_reported_by_child(&self, container: &ContainerId, init: Pid, at: Stamp) -> bool {
        let reported = self.terminations.current(container, at).filter(|termination| termination.exit.is_some());
        let child = reported.and_then(|termination| termination.pid).and_then(|pid| self.processes.get(pid));
        child.is_some_and(|child| child.parent == init)
    }

    pub(super) fn process_signalled(&mut self, at: Stamp, seen: Stamp, signal: &Signal) -> Vec<Change> {
        let pid = signal.target.pid;
        // Only now: uses of the engine's socket are soon evicted.
        let requested_by = match &signal.sender {
            SignalSender::Process(sender) if sender.ns_level == 0 => self.docker_clients.sole_before(at).cloned(),
            SignalSender::Process(_) | SignalSender::Kernel => None,
        };
        self.processes.signalled(at, signal, requested_by);
        let is_main = self.processes.is_main(pid);
        if let Some(container) = self.container_of(pid)
            && is_main
        {
            // SIGCONT resumes a process even when the tracepoint reports it as ignored.
            match signal.signal.as_str() {
                "SIGSTOP" if signal.delivered => self.containers.stopped_by_signal(&container, at, true),
                "SIGCONT" => self.containers.stopped_by_signal(&container, at, false),
                _ => {}
            }
        }
        if let Some(container) = self.container_of(pid)
            && is_main
            && signal.delivered
            && self.is_termination_request(&container, &signal.signal)
        {
            return self.request_termination(at, seen, &container, pid, &signal.signal);
        }
        vec![Change::Signalled(pid)]
    }

    fn is_termination_request(&self, container: &ContainerId, signal: &str) -> bool {
        let stop = self.containers.get(container).map(|container| container.info.stop_signal.as_str());
        TERMINATING_SIGNALS.contains(&signal) || stop == Some(signal)
    }
}
