//! TCP sockets of containers: both ends of each connection, who opened, read and closed them, and what HTTP showed.
//!
//! Bound: [`OPEN_CAP`] open and [`GONE_CAP`] closed ends; the oldest go first, and a connection that lost an end here
//! is judged by the other end alone.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::model::event::{
    BodyFraming, HttpFact, HttpWhat, Reading, ResetReceived, ResetSent, Socket, SocketError, SocketSeen, Task,
    TcpState, TcpStateChange,
};
use crate::model::ids::{Cookie, NetnsId};
use crate::model::time::Stamp;

use crate::engine::world::tcp::endpoint::{Endpoint, HttpMessages, Retransmits, Side};

const OPEN_CAP: usize = 65_536;
/// A closed end is still asked for while its connection's other end is judged, which takes seconds at most.
const GONE_CAP: usize = 16_384;
/// Resets for closed ports kept: a refusal is judged at once. Beyond it a refusal may pass for a packet filter's.
const CLOSED_PORTS_CAP: usize = 1_024;

/// What happened at one end, as far as a rule may care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Connecting {
        client: Cookie,
    },
    /// The connect ended without a connection; `None`: the client itself gave up.
    ConnectFailed {
        client: Cookie,
        errno: Option<String>,
        /// The client's process was dying.
        dying: bool,
    },
    /// A FIN came to a client that had not closed.
    FinArrived {
        client: Cookie,
    },
    ResetArrived {
        client: Cookie,
    },
    /// The kernel gave the connection up.
    TimedOut {
        client: Cookie,
        errno: String,
    },
    /// A client closed first.
    Left {
        client: Cookie,
    },
    /// An answer stopped being HTTP.
    Malformed {
        server: Cookie,
    },
    /// A server end was closed by its own side.
    ServerClosed {
        server: Cookie,
    },
    ServerReady {
        server: Cookie,
    },
    /// A client's connect was answered.
    Connected {
        client: Cookie,
    },
    /// A FIN or RST came to a server's end.
    Arrived {
        server: Cookie,
    },
}

/// A client is found by its local address; loopback addresses exist once in each namespace.
type LocalKey = (Option<NetnsId>, SocketAddr);

#[derive(Debug, Default)]
pub struct Sockets {
    pub(in crate::engine::world) ends: BTreeMap<Cookie, Endpoint>,
    clients: BTreeMap<LocalKey, Cookie>,
    servers: BTreeMap<LocalKey, Cookie>,
    opened: VecDeque<Cookie>,
    gone: VecDeque<Cookie>,
    /// Whom the kernel sent a reset for a closed port, the latest last.
    closed_ports: VecDeque<SocketAddr>,
}

impl Sockets {
    #[must_use]
    pub fn get(&self, cookie: Cookie) -> Option<&Endpoint> {
        self.ends.get(&cookie)
    }

    #[must_use]
    pub fn peer(&self, cookie: Cookie) -> Option<&Endpoint> {
        self.get(self.get(cookie)?.peer?)
    }

    /// Ends that are not gone.
    pub fn open(&self) -> impl Iterator<Item = &Endpoint> {
        self.ends.values().filter(|end| end.gone.is_none())
    }

    pub(in crate::engine::world) fn state_changed(&mut self, at: Stamp, change: &TcpStateChange) -> Vec<Change> {
        use TcpState::{
            Close as Closed, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynRecv, SynSent,
        };
        let cookie = change.socket.cookie;
        match (change.old, change.new) {
            (Closed, SynSent) => {
                self.insert(at, change.socket, Side::Client, SynSent, Some(change.task.clone()));
                return vec![Change::Connecting { client: cookie }];
            }
            (SynRecv, Established) => {
                self.insert(at, change.socket, Side::Server, Established, None);
                self.join(cookie);
                if let Some(end) = self.ends.get_mut(&cookie) {
                    end.established = Some(at);
                }
                return vec![Change::ServerReady { server: cookie }];
            }
            _ => {}
        }
        self.learn_address(&change.socket);
        let answered = self.peer(cookie).is_some_and(|peer| peer.close.is_some());
        let Some(end) = self.ends.get_mut(&cookie) else { return Vec::new() };
        end.state = change.new;
        end.unacknowledged = change.unacknowledged;
        end.last_sent = change.last_sent.or(end.last_sent);
        end.last_received = change.last_received.or(end.last_received);
        let errno = change.errno.clone();
        end.errno = errno.clone().or(end.errno.take());
        let client = end.side == Side::Client;
        let mut changes = Vec::new();
        match (change.old, change.new) {
            (SynSent, Established) => {
                end.established = Some(at);
                changes.push(Change::Connected { client: cookie });
            }
            (SynSent, Closed) => {
                let dying = change.task.exiting && end.errno.is_none();
                changes.push(Change::ConnectFailed { client: cookie, errno: end.errno.clone(), dying });
            }
            (Established, CloseWait) => {
                end.fin_in = Some(at);
                changes.push(if client {
                    Change::FinArrived { client: cookie }
                } else {
                    Change::Arrived { server: cookie }
                });
            }
            (Established, FinWait1) if client && change.half => end.half = true,
            (Established, FinWait1) | (CloseWait, LastAck) => {
                end.close_by(at, change, false);
                changes.push(closed(end, cookie));
            }
            // A FIN takes a half-closed end to TIME_WAIT, which shows as CLOSE, or to CLOSING where its own FIN is not
            // acknowledged yet.
            (FinWait1, Closing) if end.half && end.close.is_none() => {
                end.fin_in = Some(at);
                changes.push(Change::FinArrived { client: cookie });
            }
            (FinWait1 | FinWait2, Closed) if end.half && answered && end.rst_in.is_none() && end.close.is_none() => {
                end.fin_in = Some(at);
                changes.push(Change::FinArrived { client: cookie });
            }
            (FinWait1 | FinWait2, Closed) if !end.half || end.close.is_some() => {}
            (Established | CloseWait | FinWait1 | FinWait2, Closed) => match (end.rst_in, end.errno.clone()) {
                (Some(_), _) => changes.push(if client {
                    Change::ResetArrived { client: cookie }
                } else {
                    Change::Arrived { server: cookie }
                }),
                (None, Some(errno)) => {
                    if client {
                        changes.push(Change::TimedOut { client: cookie, errno });
                    }
                }
                (None, None) => {
                    end.close_by(at, change, true);
                    changes.push(closed(end, cookie));
                }
            },
            _ => {}
        }
        if let Some(seen) = self.remote_peer(at, cookie, change) {
            changes.push(seen);
        }
        if change.new == Closed {
            self.retire(at, cookie);
        }
        changes
    }

    pub(in crate::engine::world) fn reset_received(&mut self, at: Stamp, reset: &ResetReceived) {
        if let Some(end) = self.ends.get_mut(&reset.socket.cookie) {
            end.rst_in = Some((at, reset.state));
        }
    }

    /// Did the kernel answer this client's SYN for a closed port? Otherwise a packet filter did, in its place.
    #[must_use]
    pub fn hit_closed_port(&self, client: Cookie) -> bool {
        self.get(client).is_some_and(|end| self.closed_ports.contains(&end.socket.local))
    }

    /// A reset for a closed port names no full socket, and is kept by its addressee.
    pub(in crate::engine::world) fn reset_sent(&mut self, at: Stamp, reset: &ResetSent) {
        if reset.socket.cookie == Cookie::NONE {
            self.closed_ports.push_back(reset.socket.remote);
            if self.closed_ports.len() > CLOSED_PORTS_CAP {
                self.closed_ports.pop_front();
            }
        }
        if let Some(end) = self.ends.get_mut(&reset.socket.cookie) {
            end.rst_out = Some((at, reset.reason.clone()));
        }
    }

    pub(in crate::engine::world) fn retransmitted(&mut self, at: Stamp, socket: &Socket) {
        self.learn_address(socket);
        if let Some(end) = self.ends.get_mut(&socket.cookie) {
            let before = end.retransmits.unwrap_or(Retransmits { count: 0, first: at, last: at });
            end.retransmits = Some(Retransmits { count: before.count.saturating_add(1), last: at, ..before });
        }
    }

    /// The client whose own address this is, as others see it.
    #[must_use]
    pub fn client_at(&self, netns: NetnsId, local: SocketAddr) -> Option<Cookie> {
        self.clients.get(&key(netns, local)).copied()
    }

    pub(in crate::engine::world) fn error(&mut self, error: &SocketError) {
        if let Some(end) = self.ends.get_mut(&error.socket.cookie)
            && end.gone.is_none()
        {
            end.errno = Some(error.errno.clone());
        }
    }

    /// Returns whether this is a server's end.
    pub(in crate::engine::world) fn socket_read(&mut self, reading: &Reading) -> bool {
        let Some(end) = self.ends.get_mut(&reading.socket.cookie) else { return false };
        let server = end.side == Side::Server;
        if server || end.owner.is_none() {
            end.owner = Some(reading.task.clone());
        }
        server
    }

    pub(in crate::engine::world) fn http(&mut self, at: Stamp, http: &HttpFact) -> Option<Change> {
        let cookie = if http.received { self.sender_of(http.cookie)? } else { http.cookie };
        if http.what == HttpWhat::RequestBegun {
            self.begin_anew(cookie);
        }
        let end = self.ends.get_mut(&cookie)?;
        let sent = &mut end.http;
        match &http.what {
            HttpWhat::RequestBegun | HttpWhat::AnswerBegun => {
                sent.begun += 1;
                sent.begun_at = Some(at);
            }
            HttpWhat::RequestComplete | HttpWhat::AnswerComplete => sent.end(at),
            HttpWhat::Informational { .. } => sent.begun = sent.begun.saturating_sub(1),
            HttpWhat::AnswerHead { status, body, .. } => {
                sent.header_sections += 1;
                sent.status = Some(*status);
                sent.body = Some(*body);
                if *body == BodyFraming::Empty {
                    sent.end(at);
                }
            }
            HttpWhat::Upgraded => (sent.opaque, sent.upgraded) = (true, true),
            HttpWhat::Opaque => sent.opaque = true,
            HttpWhat::Malformed => {
                sent.malformed = Some(at);
                return Some(Change::Malformed { server: cookie });
            }
        }
        None
    }

    /// Facts about HTTP may be missing: how far the open connections' exchanges have come is not known any more.
    pub(in crate::engine::world) fn doubt(&mut self) {
        for end in self.ends.values_mut().filter(|end| end.gone.is_none()) {
            end.http.doubtful = true;
            end.lossy = true;
        }
    }

    /// A client that begins another request has what it was owed: counting begins anew where it was in doubt.
    fn begin_anew(&mut self, client: Cookie) {
        let Some(end) = self.ends.get(&client).filter(|end| end.http.doubtful) else { return };
        let ends = [Some(client), end.peer].into_iter().flatten();
        let told = ends.clone().filter_map(|cookie| self.ends.get(&cookie)).map(|end| end.http.begun).max();
        for cookie in ends {
            if let (Some(end), Some(count)) = (self.ends.get_mut(&cookie), told) {
                let opaque = end.http.opaque;
                end.http = HttpMessages {
                    begun: count,
                    complete: count,
                    header_sections: count,
                    opaque,
                    ..HttpMessages::default()
                };
            }
        }
    }

    pub(in crate::engine::world) fn found(&mut self, at: Stamp, seen: &SocketSeen, side: Side) {
        let cookie = seen.socket.cookie;
        if self.ends.contains_key(&cookie) {
            return;
        }
        self.insert(at, seen.socket, side, seen.state, seen.task.clone());
        self.join(cookie);
        if let Some(end) = self.ends.get_mut(&cookie) {
            end.established = Some(at);
            end.preexisting = true;
        }
    }

    fn insert(&mut self, at: Stamp, socket: Socket, side: Side, state: TcpState, owner: Option<Task>) {
        let cookie = socket.cookie;
        match side {
            Side::Client => self.clients.insert(key(socket.netns, socket.local), cookie),
            Side::Server => self.servers.insert(key(socket.netns, socket.remote), cookie),
        };
        self.ends.insert(cookie, Endpoint { owner, ..Endpoint::new(socket, side, at, state) });
        self.opened.push_back(cookie);
        if self.opened.len() > OPEN_CAP
            && let Some(oldest) = self.opened.pop_front()
            && self.ends.get(&oldest).is_some_and(|end| end.gone.is_none())
        {
            self.forget(oldest);
        }
    }

    /// A connecting socket has no port yet when it enters SYN_SENT (net/ipv4/tcp_ipv4.c, `tcp_v4_connect`).
    fn learn_address(&mut self, socket: &Socket) {
        let cookie = socket.cookie;
        let Some(end) = self.ends.get_mut(&cookie).filter(|end| end.socket.local.port() == 0) else { return };
        let old = key(end.socket.netns, end.socket.local);
        end.socket = *socket;
        if end.side == Side::Client && socket.local.port() != 0 {
            self.clients.remove(&old);
            self.clients.insert(key(socket.netns, socket.local), cookie);
            self.join(cookie);
        }
    }

    /// Joins an end to its other end: the server's remote address is the client's local one.
    fn join(&mut self, cookie: Cookie) {
        let Some(end) = self.ends.get(&cookie) else { return };
        let other = match end.side {
            Side::Server => self.clients.get(&key(end.socket.netns, end.socket.remote)),
            Side::Client => self.servers.get(&key(end.socket.netns, end.socket.local)),
        };
        let Some(other) = other.copied() else { return };
        if self.ends.get(&other).is_none_or(|end| end.gone.is_some() || end.peer.is_some()) {
            return;
        }
        for (one, two) in [(cookie, other), (other, cookie)] {
            if let Some(end) = self.ends.get_mut(&one) {
                end.peer = Some(two);
            }
        }
    }

    fn retire(&mut self, at: Stamp, cookie: Cookie) {
        let Some(end) = self.ends.get_mut(&cookie) else { return };
        end.gone = Some(at);
        let remote_peer = end.peer.filter(|peer| peer.is_outside());
        if let Some(remote_peer) = remote_peer.and_then(|peer| self.ends.get_mut(&peer)) {
            remote_peer.gone = Some(at);
        }
        self.gone.push_back(cookie);
        if self.gone.len() > GONE_CAP
            && let Some(oldest) = self.gone.pop_front()
        {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, cookie: Cookie) {
        let Some(end) = self.ends.remove(&cookie) else { return };
        // An end on another host stays as long as the one that it was seen by.
        if let Some(remote_peer) = end.peer.filter(|peer| peer.is_outside()) {
            self.ends.remove(&remote_peer);
        }
        let (index, at) = match end.side {
            Side::Client => (&mut self.clients, end.socket.local),
            Side::Server => (&mut self.servers, end.socket.remote),
        };
        let key = key(end.socket.netns, at);
        if index.get(&key) == Some(&cookie) {
            index.remove(&key);
        }
    }
}

fn closed(end: &Endpoint, cookie: Cookie) -> Change {
    match end.side {
        Side::Client => Change::Left { client: cookie },
        Side::Server => Change::ServerClosed { server: cookie },
    }
}

fn key(netns: NetnsId, address: SocketAddr) -> LocalKey {
    (address.ip().is_loopback().then_some(netns), address)
}
