//! Listening sockets, assigned to their containers.
//!
//! A fast server may bind before Docker's `start` is read, so a listener may arrive before its container is known. It
//! is kept until an inspection names the container.
//!
//! Bound: [`LISTENERS_CAP`] unassigned listeners; when reached, the oldest is evicted, and its port is missing from its
//! container.

use crate::model::event::{TcpState, TcpStateChange};
use crate::model::time::Stamp;

use crate::engine::world::World;
use crate::engine::world::change::Change;

const LISTENERS_CAP: usize = 1_024;

impl World {
    /// Assigns listeners to the container that was just inspected.
    pub(super) fn assign_listeners(&mut self, changes: &mut Vec<Change>) {
        for (at, socket, pid) in std::mem::take(&mut self.unassigned_listeners) {
            match self.containers.of_socket(&socket, at) {
                Some(container) => {
                    self.containers.listening(&container, &socket, Some(pid), at);
                    changes.push(Change::Listening { container, port: socket.local.port(), since: at });
                }
                None => self.unassigned_listeners.push_back((at, socket, pid)),
            }
        }
    }

    pub(super) fn record_listener(&mut self, at: Stamp, change: &TcpStateChange, changes: &mut Vec<Change>) {
        if change.new == TcpState::Listen {
            self.processes.mark_serving(change.task.pid);
        }
        let Some(container) = self.containers.of_socket(&change.socket, at) else {
            self.unassigned_listeners.retain(|(_, socket, _)| socket.cookie != change.socket.cookie);
            if change.new == TcpState::Listen {
                self.unassigned_listeners.push_back((at, change.socket, change.task.pid));
                if self.unassigned_listeners.len() > LISTENERS_CAP {
                    self.unassigned_listeners.pop_front();
                }
            }
            return;
        };
        if change.new == TcpState::Listen {
            self.containers.listening(&container, &change.socket, Some(change.task.pid), at);
            changes.push(Change::Listening { container, port: change.socket.local.port(), since: at });
        } else {
            // The exit of a main process terminates the container, which is recorded instead.
            let pid = change.task.pid;
            let dying = (change.task.exiting && !self.processes.stands_for_container(pid)).then_some(pid);
            self.containers.stopped_listening(&container, &change.socket, at, dying);
        }
    }
}
