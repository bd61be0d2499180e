//! TCP events, applied to sockets, listeners, proxy hops and processes.

use crate::model::event::{SocketSeen, Task, TcpState, TcpStateChange};
use crate::model::time::Stamp;

use crate::engine::world::World;
use crate::engine::world::change::Change;
use crate::engine::world::tcp::endpoint::Side;
use crate::engine::world::tcp::sockets::SocketChange;

impl World {
    pub(in crate::engine::world) fn tcp_state(&mut self, at: Stamp, change: &TcpStateChange) -> Vec<Change> {
        let mut changes = Vec::new();
        if change.new == TcpState::Listen || (change.old == TcpState::Listen && change.new == TcpState::Close) {
            self.record_listener(at, change, &mut changes);
        }
        // A client that reads a soft error closes its socket; the error is then missing from the state change.
        let is_plain_close = change.errno.is_none() && !change.task.exiting;
        let soft_error = (is_plain_close && (change.old, change.new) == (TcpState::SynSent, TcpState::Close))
            .then(|| self.drops.soft_error(change.socket.local, at))
            .flatten();
        let with_error = soft_error.map(|errno| TcpStateChange { errno: Some(errno.to_owned()), ..change.clone() });
        let on_behalf = self.closed_on_behalf_of(change).map(|task| TcpStateChange { task, ..change.clone() });
        let socket_changes = self.sockets.state_changed(at, with_error.or(on_behalf).as_ref().unwrap_or(change));
        for socket_change in &socket_changes {
            match socket_change {
                SocketChange::Connecting { client: cookie } | SocketChange::ServerReady { server: cookie } => {
                    self.record_proxy_endpoint(*cookie);
                }
                SocketChange::ConnectFailed { .. }
                | SocketChange::FinArrived { .. }
                | SocketChange::ResetArrived { .. }
                | SocketChange::TimedOut { .. }
                | SocketChange::Left { .. }
                | SocketChange::Malformed { .. }
                | SocketChange::Connected { .. }
                | SocketChange::Arrived { .. }
                | SocketChange::ServerClosed { .. } => {}
            }
        }
        changes.extend(socket_changes.into_iter().map(Change::Socket));
        changes
    }

    /// The process of a container whose socket a kernel thread closes for it (MPTCP's worker, io_uring): the one that read
    /// from it last, or that listens on its port. `None` where the task itself is one of a container.
    fn closed_on_behalf_of(&self, change: &TcpStateChange) -> Option<Task> {
        use TcpState::{CloseWait, Established, FinWait1, LastAck};
        let closes = matches!((change.old, change.new), (Established, FinWait1) | (CloseWait, LastAck));
        if !closes || self.processes.get(change.task.pid).is_some() {
            return None;
        }
        let endpoint = self.sockets.get(change.socket.cookie).filter(|endpoint| endpoint.side == Side::Server)?;
        let container = self.containers.of_socket(&endpoint.socket, endpoint.opened);
        let container = container.and_then(|id| self.containers.get(&id))?;
        let reader = endpoint.owner.as_ref().map(|task| task.pid);
        let pid = reader.or_else(|| container.listener_of(endpoint.socket.local.port()))?;
        let process = self.processes.get(pid)?;
        Some(Task { pid, comm: process.comm.clone(), exiting: process.doomed().is_some() })
    }

    /// Applies a socket found by the inventory.
    pub(in crate::engine::world) fn socket_seen(&mut self, at: Stamp, seen: &SocketSeen) {
        let container = self.containers.of_socket(&seen.socket, at);
        if seen.state == TcpState::Listen {
            if let Some(id) = &container {
                self.containers.listening(id, &seen.socket, seen.task.as_ref().map(|task| task.pid), at);
            }
            if let Some(task) = &seen.task {
                self.processes.mark_serving(task.pid);
            }
            return;
        }
        // A connection on a port that its container listens on was accepted.
        let port = seen.socket.local.port();
        let listener = container.as_ref().and_then(|id| self.containers.get(id));
        let accepted = match listener {
            Some(container) => container.listening.contains_key(&port),
            None => self.containers.is_published(port),
        };
        let side = if accepted { Side::Server } else { Side::Client };
        if let Some(task) = &seen.task
            && accepted
        {
            self.processes.mark_serving(task.pid);
        }
        self.sockets.insert_preexisting(at, seen, side);
        self.record_proxy_endpoint(seen.socket.cookie);
    }
}
