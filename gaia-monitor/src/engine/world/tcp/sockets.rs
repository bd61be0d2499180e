//! TCP sockets: the endpoints of every connection, joined to their peers.
//!
//! Bound: [`OPEN_CAP`] open and [`CLOSED_CAP`] closed endpoints. When the first is reached, an open endpoint is evicted
//! and counted as a loss, of the oldest [`SEARCHED`] an idle one if there is one; when the second
//! is reached, the endpoint that closed first. A connection without an endpoint is attributed by the remaining one alone.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::model::event::{
    BodyFraming, HttpFact, HttpWhat, ResetReceived, ResetSent, Socket, SocketError, SocketRead, SocketSeen, Task,
    TcpState,
};
use crate::model::ids::{Cookie, NetnsId};
use crate::model::time::Stamp;

use crate::engine::world::tcp::endpoint::{Endpoint, HttpMessages, Retransmits, Side};
use crate::engine::world::tcp::http_state::{Progress, progress};

pub use crate::engine::world::tcp::transitions::SocketChange;

const OPEN_CAP: usize = 65_536;
/// Open endpoints that are searched for an idle one, the oldest first.
const SEARCHED: usize = 256;
/// Closed endpoints kept. Attribution needs one for seconds at most after its close.
const CLOSED_CAP: usize = 16_384;
/// Resets for closed ports kept, the oldest evicted first. A refusal is attributed immediately; without its reset it
/// would be attributed to a packet filter.
const CLOSED_PORTS_CAP: usize = 1_024;

/// Index key: the client's address as both endpoints see it. Loopback addresses exist once per namespace.
type LocalKey = (Option<NetnsId>, SocketAddr);

#[derive(Debug, Default)]
pub struct Sockets {
    pub(in crate::engine::world) endpoints: BTreeMap<Cookie, Endpoint>,
    clients: BTreeMap<LocalKey, Cookie>,
    servers: BTreeMap<LocalKey, Cookie>,
    /// Open endpoints by age. Those that have closed since stay until the queue is compacted.
    opened: VecDeque<Cookie>,
    open: usize,
    closed: VecDeque<Cookie>,
    /// Open endpoints that were evicted and not reported yet.
    evicted: u64,
    /// Destinations of resets for closed ports, the latest last.
    closed_ports: VecDeque<SocketAddr>,
}

impl Sockets {
    #[must_use]
    pub fn get(&self, cookie: Cookie) -> Option<&Endpoint> {
        self.endpoints.get(&cookie)
    }

    #[must_use]
    pub fn peer(&self, cookie: Cookie) -> Option<&Endpoint> {
        self.get(self.get(cookie)?.peer?)
    }

    /// Endpoints that have not reached CLOSE.
    pub fn open(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.values().filter(|endpoint| endpoint.ended.is_none())
    }

    pub(in crate::engine::world) fn reset_received(&mut self, at: Stamp, reset: &ResetReceived) {
        if let Some(endpoint) = self.endpoints.get_mut(&reset.socket.cookie) {
            endpoint.rst_in = Some((at, reset.state));
        }
    }

    /// Whether the kernel reset this client's SYN because the port is closed; otherwise a packet filter refused it.
    #[must_use]
    pub fn hit_closed_port(&self, client: Cookie) -> bool {
        self.get(client).is_some_and(|endpoint| self.closed_ports.contains(&endpoint.socket.local))
    }

    /// A reset for a closed port has no full socket; it is recorded by its destination.
    pub(in crate::engine::world) fn reset_sent(&mut self, at: Stamp, reset: &ResetSent) {
        if reset.socket.cookie == Cookie::NONE {
            self.closed_ports.push_back(reset.socket.remote);
            if self.closed_ports.len() > CLOSED_PORTS_CAP {
                self.closed_ports.pop_front();
            }
        }
        if let Some(endpoint) = self.endpoints.get_mut(&reset.socket.cookie) {
            endpoint.rst_out = Some((at, reset.reason.clone()));
        }
    }

    pub(in crate::engine::world) fn retransmitted(&mut self, at: Stamp, socket: &Socket) {
        self.update_address(socket);
        if let Some(endpoint) = self.endpoints.get_mut(&socket.cookie) {
            let previous = endpoint.retransmits.unwrap_or(Retransmits { count: 0, first: at, last: at });
            endpoint.retransmits = Some(Retransmits { count: previous.count.saturating_add(1), last: at, ..previous });
        }
    }

    /// The client with this local address.
    #[must_use]
    pub fn client_at(&self, netns: NetnsId, local: SocketAddr) -> Option<Cookie> {
        self.clients.get(&key(netns, local)).copied()
    }

    pub(in crate::engine::world) fn error(&mut self, error: &SocketError) {
        if let Some(endpoint) = self.endpoints.get_mut(&error.socket.cookie)
            && endpoint.ended.is_none()
        {
            endpoint.errno = Some(error.errno.clone());
        }
    }

    /// Returns whether this is a server's endpoint.
    pub(in crate::engine::world) fn socket_read(&mut self, reading: &SocketRead) -> bool {
        let Some(endpoint) = self.endpoints.get_mut(&reading.socket.cookie) else { return false };
        let server = endpoint.side == Side::Server;
        if server || endpoint.owner.is_none() {
            endpoint.owner = Some(reading.task.clone());
        }
        server
    }

    pub(in crate::engine::world) fn http(&mut self, at: Stamp, http: &HttpFact) -> Option<SocketChange> {
        let cookie = if http.received { self.remote_sender(http.cookie)? } else { http.cookie };
        if http.what == HttpWhat::RequestBegun {
            self.resynchronise(cookie);
        }
        if http.what == HttpWhat::ResponseBegun {
            self.count_older_request(cookie);
        }
        let endpoint = self.endpoints.get_mut(&cookie)?;
        let messages = &mut endpoint.http;
        match &http.what {
            HttpWhat::RequestBegun | HttpWhat::ResponseBegun => {
                messages.begun += 1;
                messages.begun_at = Some(at);
            }
            HttpWhat::RequestComplete | HttpWhat::ResponseComplete => messages.record_complete(at),
            HttpWhat::Informational { .. } => messages.begun = messages.begun.saturating_sub(1),
            HttpWhat::ResponseHeaders { status, body, .. } => {
                messages.header_sections += 1;
                messages.status = Some(*status);
                messages.body = Some(*body);
                if *body == BodyFraming::Empty {
                    messages.record_complete(at);
                }
            }
            HttpWhat::Upgraded => {
                (messages.opaque, messages.upgraded) = (true, true);
                // Status 101 is no final response; that of a CONNECT request is.
                messages.tunnel = messages.begun > 0 && messages.complete == messages.begun;
            }
            HttpWhat::Opaque => messages.opaque = true,
            HttpWhat::Malformed => {
                messages.malformed = Some(at);
                return Some(SocketChange::Malformed { server: cookie });
            }
        }
        None
    }

    /// Events were lost: HTTP facts may be missing, so the progress of every open connection is uncertain.
    pub(in crate::engine::world) fn mark_doubtful(&mut self) {
        for endpoint in self.endpoints.values_mut().filter(|endpoint| endpoint.ended.is_none()) {
            endpoint.http.doubtful = true;
            endpoint.lossy = true;
        }
    }

    /// A client that begins a further request has received its responses: restart the counters where events were lost.
    fn resynchronise(&mut self, client: Cookie) {
        let Some(endpoint) = self.endpoints.get(&client).filter(|endpoint| endpoint.http.doubtful) else { return };
        let endpoints = [Some(client), endpoint.peer].into_iter().flatten();
        let begun = endpoints
            .clone()
            .filter_map(|cookie| self.endpoints.get(&cookie))
            .map(|endpoint| endpoint.http.begun)
            .max();
        for cookie in endpoints {
            if let (Some(endpoint), Some(count)) = (self.endpoints.get_mut(&cookie), begun) {
                let opaque = endpoint.http.opaque;
                endpoint.http = HttpMessages {
                    begun: count,
                    complete: count,
                    header_sections: count,
                    opaque,
                    ..HttpMessages::default()
                };
            }
        }
    }

    /// A response on a connection without an observed request responds to one that is older than the monitor.
    fn count_older_request(&mut self, server: Cookie) {
        let client = self.get(server).and_then(|endpoint| endpoint.peer);
        let client = client.and_then(|client| self.endpoints.get_mut(&client));
        if let Some(client) = client.filter(|client| client.preexisting && client.http.begun == 0) {
            (client.http.begun, client.http.complete) = (1, 1);
        }
    }

    pub(in crate::engine::world) fn insert_preexisting(&mut self, at: Stamp, seen: &SocketSeen, side: Side) {
        let cookie = seen.socket.cookie;
        if self.endpoints.contains_key(&cookie) {
            return;
        }
        self.insert(at, seen.socket, side, seen.state, seen.task.clone());
        self.join_peer(cookie);
        if let Some(endpoint) = self.endpoints.get_mut(&cookie) {
            endpoint.established = Some(at);
            endpoint.preexisting = true;
            (endpoint.last_sent, endpoint.last_received) = (seen.last_sent, seen.last_received);
        }
    }

    pub(super) fn insert(&mut self, at: Stamp, socket: Socket, side: Side, state: TcpState, owner: Option<Task>) {
        let cookie = socket.cookie;
        match side {
            Side::Client => self.clients.insert(key(socket.netns, socket.local), cookie),
            Side::Server => self.servers.insert(key(socket.netns, socket.remote), cookie),
        };
        let new = Endpoint { owner, ..Endpoint::new(socket, side, at, state) };
        if self.endpoints.insert(cookie, new).is_none_or(|old| old.ended.is_some()) {
            self.opened.push_back(cookie);
            self.open += 1;
        }
        // Amortised: at least OPEN_CAP endpoints closed since the last time.
        if self.opened.len() > 2 * OPEN_CAP {
            let endpoints = &self.endpoints;
            self.opened.retain(|cookie| endpoints.get(cookie).is_some_and(|endpoint| endpoint.ended.is_none()));
        }
        if self.open > OPEN_CAP {
            self.evict_open();
        }
    }

    /// A request under way needs its endpoint for as long as the request lasts, an idle connection only for its end.
    fn evict_open(&mut self) {
        let is_open = |cookie: &Cookie| self.get(*cookie).is_some_and(|endpoint| endpoint.ended.is_none());
        let oldest = || self.opened.iter().filter(|cookie| is_open(cookie)).copied();
        let chosen = oldest().take(SEARCHED).find(|cookie| self.is_idle(*cookie)).or_else(|| oldest().next());
        if let Some(chosen) = chosen {
            self.evict(chosen);
            self.open -= 1;
            self.evicted += 1;
        }
    }

    /// Every request on its connection has its response, as far as framing shows.
    fn is_idle(&self, cookie: Cookie) -> bool {
        let (Some(endpoint), peer) = (self.get(cookie), self.peer(cookie)) else { return false };
        let (client, server) = match endpoint.side {
            Side::Client => (Some(endpoint), peer),
            Side::Server => (peer, Some(endpoint)),
        };
        client.is_some_and(|client| progress(client, server) == Progress::Idle)
    }

    /// The number of open endpoints that were evicted since the last call.
    pub(in crate::engine::world) fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }

    /// A connecting socket has no port yet when it enters SYN_SENT (net/ipv4/tcp_ipv4.c, `tcp_v4_connect`); later
    /// events carry it.
    pub(super) fn update_address(&mut self, socket: &Socket) {
        let cookie = socket.cookie;
        let Some(endpoint) = self.endpoints.get_mut(&cookie).filter(|endpoint| endpoint.socket.local.port() == 0)
        else {
            return;
        };
        let old = key(endpoint.socket.netns, endpoint.socket.local);
        endpoint.socket = *socket;
        if endpoint.side == Side::Client && socket.local.port() != 0 {
            self.clients.remove(&old);
            self.clients.insert(key(socket.netns, socket.local), cookie);
            self.join_peer(cookie);
        }
    }

    /// Joins an endpoint to its peer: the server's remote address is the client's local address.
    pub(super) fn join_peer(&mut self, cookie: Cookie) {
        let Some(endpoint) = self.endpoints.get(&cookie) else { return };
        let peer = match endpoint.side {
            Side::Server => self.clients.get(&key(endpoint.socket.netns, endpoint.socket.remote)),
            Side::Client => self.servers.get(&key(endpoint.socket.netns, endpoint.socket.local)),
        };
        let Some(peer) = peer.copied() else { return };
        if self.endpoints.get(&peer).is_none_or(|endpoint| endpoint.ended.is_some() || endpoint.peer.is_some()) {
            return;
        }
        for (one, two) in [(cookie, peer), (peer, cookie)] {
            if let Some(endpoint) = self.endpoints.get_mut(&one) {
                endpoint.peer = Some(two);
            }
        }
    }

    pub(super) fn record_closed(&mut self, at: Stamp, cookie: Cookie) {
        let Some(endpoint) = self.endpoints.get_mut(&cookie) else { return };
        if endpoint.ended.replace(at).is_none() {
            self.open = self.open.saturating_sub(1);
        }
        let remote_peer = endpoint.peer.filter(|peer| peer.is_outside());
        if let Some(remote_peer) = remote_peer.and_then(|peer| self.endpoints.get_mut(&peer)) {
            remote_peer.ended = Some(at);
        }
        self.closed.push_back(cookie);
        if self.closed.len() > CLOSED_CAP
            && let Some(oldest) = self.closed.pop_front()
        {
            self.evict(oldest);
        }
    }

    fn evict(&mut self, cookie: Cookie) {
        let Some(endpoint) = self.endpoints.remove(&cookie) else { return };
        // A remote endpoint lives as long as its local one.
        if let Some(remote_peer) = endpoint.peer.filter(|peer| peer.is_outside()) {
            self.endpoints.remove(&remote_peer);
        }
        let (index, at) = match endpoint.side {
            Side::Client => (&mut self.clients, endpoint.socket.local),
            Side::Server => (&mut self.servers, endpoint.socket.remote),
        };
        let key = key(endpoint.socket.netns, at);
        if index.get(&key) == Some(&cookie) {
            index.remove(&key);
        }
    }
}

fn key(netns: NetnsId, address: SocketAddr) -> LocalKey {
    (address.ip().is_loopback().then_some(netns), address)
}

#[cfg(test)]
mod tests {
    use super::{OPEN_CAP, Sockets};
    use crate::engine::world::tcp::endpoint::Side;
    use crate::model::event::{HttpFact, HttpWhat, Socket, TcpState};
    use crate::model::ids::{CgroupId, Cookie, NetnsId};
    use crate::model::time::Stamp;

    fn open(sockets: &mut Sockets, cookie: u64, side: Side) {
        // Cookies 1 and 2 are the two endpoints of one connection.
        let number = if cookie == 2 { 1 } else { cookie };
        let [low, high] = [number % 60_000, number / 60_000].map(|part| u16::try_from(part).unwrap());
        let client = ([10, 0, 0, 1], low + 1).into();
        let server = ([10, 0, 1, u8::try_from(high).unwrap()], 80).into();
        let (local, remote) = if side == Side::Client { (client, server) } else { (server, client) };
        let socket = Socket { cookie: Cookie(cookie), netns: NetnsId(1), cgroup: CgroupId(1), local, remote };
        sockets.insert(Stamp(1), socket, side, TcpState::Established, None);
        sockets.join_peer(Cookie(cookie));
    }

    /// A connection whose request has no response yet, by the cookies 1 and 2.
    fn with_outstanding_request() -> Sockets {
        let mut sockets = Sockets::default();
        open(&mut sockets, 1, Side::Client);
        open(&mut sockets, 2, Side::Server);
        let what = HttpWhat::RequestBegun;
        sockets.http(Stamp(2), &HttpFact { cookie: Cookie(1), received: false, what });
        sockets
    }

    #[test]
    fn keeps_a_request_in_flight_however_many_connections_close() {
        let mut sockets = with_outstanding_request();
        for cookie in (10..).take(3 * OPEN_CAP) {
            open(&mut sockets, cookie, Side::Client);
            sockets.record_closed(Stamp(3), Cookie(cookie));
        }
        assert!(sockets.get(Cookie(1)).is_some() && sockets.get(Cookie(2)).is_some());
        assert_eq!(sockets.take_evicted(), 0);
        assert!(sockets.opened.len() <= 2 * OPEN_CAP, "the queue is compacted");
    }

    #[test]
    fn evicts_idle_endpoints_first_and_counts_them() {
        let mut sockets = with_outstanding_request();
        for cookie in (10..).take(OPEN_CAP) {
            open(&mut sockets, cookie, Side::Client);
        }
        assert!(sockets.get(Cookie(1)).is_some(), "a request is under way on it");
        assert!(sockets.get(Cookie(10)).is_none(), "the oldest idle one");
        assert_eq!((sockets.take_evicted(), sockets.take_evicted()), (2, 0));
    }
}
