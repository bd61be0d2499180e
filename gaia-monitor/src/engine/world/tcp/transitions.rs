//! TCP state transitions: what each transition of a socket means for its connection.
//!
//! A close, a FIN, a reset and a timeout are distinguished by the pair of states, the direction and the stored error,
//! because the tracepoint reports the states alone.

use crate::model::event::{TcpState, TcpStateChange};
use crate::model::ids::Cookie;
use crate::model::incident::Phase;
use crate::model::time::Stamp;

use crate::engine::world::tcp::endpoint::{Endpoint, Side};
use crate::engine::world::tcp::http_state::opaque_phase;
use crate::engine::world::tcp::sockets::Sockets;

/// A socket that leaves SYN_SENT without a port found none that is free towards its destination
/// (<https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/inet_hashtables.c>, `__inet_hash_connect`). The kernel returns
/// the error to connect() and does not store it in the socket.
const NO_PORT: &str = "EADDRNOTAVAIL";

/// A change at one endpoint that the engine reacts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketChange {
    Connecting {
        client: Cookie,
    },
    /// The connect failed; `None`: the client closed the socket itself.
    ConnectFailed {
        client: Cookie,
        errno: Option<String>,
        /// The client's process was exiting.
        dying: bool,
    },
    /// A FIN arrived at a client that had not closed.
    FinArrived {
        client: Cookie,
    },
    ResetArrived {
        client: Cookie,
    },
    /// The kernel timed the connection out.
    TimedOut {
        client: Cookie,
        errno: String,
    },
    /// A client closed the connection.
    Left {
        client: Cookie,
    },
    /// A response is not valid HTTP.
    Malformed {
        server: Cookie,
    },
    /// A server closed its endpoint.
    ServerClosed {
        server: Cookie,
    },
    ServerReady {
        server: Cookie,
    },
    /// A client's connect succeeded.
    Connected {
        client: Cookie,
    },
    /// A FIN or RST arrived at a server's endpoint.
    Arrived {
        server: Cookie,
    },
}

impl Sockets {
    pub(in crate::engine::world) fn state_changed(&mut self, at: Stamp, change: &TcpStateChange) -> Vec<SocketChange> {
        use TcpState::{
            Close as Closed, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynRecv, SynSent,
        };
        let cookie = change.socket.cookie;
        match (change.old, change.new) {
            (Closed, SynSent) => {
                self.insert(at, change.socket, Side::Client, SynSent, Some(change.task.clone()));
                return vec![SocketChange::Connecting { client: cookie }];
            }
            (SynRecv, Established) => {
                self.insert(at, change.socket, Side::Server, Established, None);
                self.join_peer(cookie);
                if let Some(endpoint) = self.endpoints.get_mut(&cookie) {
                    endpoint.established = Some(at);
                }
                return vec![SocketChange::ServerReady { server: cookie }];
            }
            _ => {}
        }
        self.update_address(&change.socket);
        let peer_closed = self.peer(cookie).is_some_and(|peer| peer.close.is_some());
        let Some(endpoint) = self.endpoints.get_mut(&cookie) else { return Vec::new() };
        endpoint.state = change.new;
        endpoint.unacknowledged = change.unacknowledged;
        endpoint.last_sent = change.last_sent.or(endpoint.last_sent);
        endpoint.last_received = change.last_received.or(endpoint.last_received);
        let errno = change.errno.clone();
        endpoint.errno = errno.clone().or(endpoint.errno.take());
        let is_client = endpoint.side == Side::Client;
        let mut changes = Vec::new();
        match (change.old, change.new) {
            (SynSent, Established) => {
                endpoint.established = Some(at);
                changes.push(SocketChange::Connected { client: cookie });
            }
            (SynSent, Closed) => {
                let dying = change.task.exiting && endpoint.errno.is_none();
                if !dying && endpoint.errno.is_none() && endpoint.socket.local.port() == 0 {
                    endpoint.errno = Some(NO_PORT.to_owned());
                }
                changes.push(SocketChange::ConnectFailed { client: cookie, errno: endpoint.errno.clone(), dying });
            }
            (Established, CloseWait) => {
                endpoint.fin_in = Some(at);
                endpoint.idle_at_fin = opaque_phase(endpoint) == Some(Phase::ReceivingBody);
                changes.push(if is_client {
                    SocketChange::FinArrived { client: cookie }
                } else {
                    SocketChange::Arrived { server: cookie }
                });
            }
            (Established, FinWait1) if is_client && change.half => endpoint.half_closed = true,
            (Established, FinWait1) | (CloseWait, LastAck) => {
                endpoint.record_close(at, change, false);
                changes.push(close_change(endpoint, cookie));
            }
            // A FIN moves a half-closed endpoint to TIME_WAIT, which is reported as CLOSE, or to CLOSING while its own
            // FIN is not acknowledged.
            (FinWait1, Closing) if endpoint.half_closed && endpoint.close.is_none() => {
                endpoint.fin_in = Some(at);
                changes.push(SocketChange::FinArrived { client: cookie });
            }
            (FinWait1 | FinWait2, Closed)
                if endpoint.half_closed && peer_closed && endpoint.rst_in.is_none() && endpoint.close.is_none() =>
            {
                endpoint.fin_in = Some(at);
                changes.push(SocketChange::FinArrived { client: cookie });
            }
            (FinWait1 | FinWait2, Closed) if !endpoint.half_closed || endpoint.close.is_some() => {}
            (Established | CloseWait | FinWait1 | FinWait2, Closed) => {
                match (endpoint.rst_in, endpoint.errno.clone()) {
                    (Some(_), _) => changes.push(if is_client {
                        SocketChange::ResetArrived { client: cookie }
                    } else {
                        SocketChange::Arrived { server: cookie }
                    }),
                    (None, Some(errno)) => {
                        if is_client {
                            changes.push(SocketChange::TimedOut { client: cookie, errno });
                        }
                    }
                    (None, None) => {
                        endpoint.record_close(at, change, true);
                        changes.push(close_change(endpoint, cookie));
                    }
                }
            }
            _ => {}
        }
        if let Some(remote) = self.update_remote_client(at, cookie, change) {
            changes.push(remote);
        }
        if change.new == Closed {
            self.record_closed(at, cookie);
        }
        changes
    }
}

fn close_change(endpoint: &Endpoint, cookie: Cookie) -> SocketChange {
    match endpoint.side {
        Side::Client => SocketChange::Left { client: cookie },
        Side::Server => SocketChange::ServerClosed { server: cookie },
    }
}
