//! Route from a client to its server process: direct, or through docker-proxy.
//!
//! docker-proxy holds two sockets of one process on the host: it accepts on a published port (client leg) and connects
//! to the container (backend leg). The legs are joined here; a new backend leg takes the oldest waiting client leg.
//!
//! Bound: [`CAP`] client legs that wait for a backend leg; when reached, the oldest is evicted and its connection is
//! attributed by the client leg alone. [`CAP`] joined pairs; when reached, the pair with the lowest cookie is evicted,
//! which is about the oldest.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::model::event::Socket;
use crate::model::ids::{ContainerId, Cookie, Pid};
use crate::model::time::Stamp;

use crate::engine::world::World;
use crate::engine::world::tcp::endpoint::Side;

/// Client legs that wait for their backend leg, and joined pairs.
const CAP: usize = 4_096;
const PROXY: &str = "docker-proxy";

#[derive(Debug, Default)]
pub struct ProxyHops {
    waiting: VecDeque<Cookie>,
    /// Client leg → backend leg.
    backend_legs: BTreeMap<Cookie, Cookie>,
}

/// The destination of a client's connection.
#[derive(Clone, Debug)]
pub struct Route {
    pub client: Cookie,
    /// The endpoint of the process that serves the request.
    pub server: Option<Cookie>,
    pub proxy: Option<ProxyHop>,
    pub container: Option<ContainerId>,
    /// The container's own address if known, else the requested address.
    pub address: SocketAddr,
}

#[derive(Clone, Debug)]
pub struct ProxyHop {
    pub pid: Option<Pid>,
    pub listen: SocketAddr,
    /// The proxy's endpoint towards the client.
    pub client_leg: Cookie,
    /// The proxy's endpoint towards the container.
    pub backend_leg: Option<Cookie>,
}

impl ProxyHops {
    pub(in crate::engine::world) fn accepted(&mut self, cookie: Cookie) {
        self.waiting.push_back(cookie);
        if self.waiting.len() > CAP {
            self.waiting.pop_front();
        }
    }

    pub(in crate::engine::world) fn join_legs(&mut self, accepted: Cookie, backend_leg: Cookie) {
        self.waiting.retain(|waiting| *waiting != accepted);
        self.backend_legs.insert(accepted, backend_leg);
        while self.backend_legs.len() > CAP {
            self.backend_legs.pop_first();
        }
    }

    #[must_use]
    pub fn backend_leg_of(&self, accepted: Cookie) -> Option<Cookie> {
        self.backend_legs.get(&accepted).copied()
    }
}

impl World {
    /// Whether this is an accepted socket of docker-proxy: on the host, on a published port, of no container.
    #[must_use]
    pub fn is_proxy_endpoint(&self, cookie: Cookie) -> bool {
        let Some(endpoint) = self.sockets.get(cookie) else { return false };
        endpoint.side == Side::Server
            && self.containers.is_published(endpoint.socket.local.port())
            && self.containers.of_socket(&endpoint.socket, endpoint.opened).is_none()
    }

    /// Whether docker-proxy opened this client socket, which then counts as no client of its own.
    #[must_use]
    pub fn is_proxy_leg(&self, cookie: Cookie) -> bool {
        let Some(endpoint) = self.sockets.get(cookie) else { return false };
        endpoint.side == Side::Client && endpoint.owner.as_ref().is_some_and(|task| task.comm == PROXY)
    }

    /// Records a new endpoint of docker-proxy, and joins a new backend leg to its client leg.
    pub(in crate::engine::world) fn record_proxy_endpoint(&mut self, cookie: Cookie) {
        if self.is_proxy_endpoint(cookie) {
            self.proxy_hops.accepted(cookie);
            return;
        }
        if !self.is_proxy_leg(cookie) {
            return;
        }
        let Some(leg) = self.sockets.get(cookie) else { return };
        let (backend, at) = (leg.socket.remote, leg.opened);
        let leads_to = |accepted: &Cookie| {
            let Some(endpoint) = self.sockets.get(*accepted) else { return false };
            self.containers.published_to(endpoint.socket.local, at).is_some_and(|(id, port)| {
                port == backend.port() && self.containers.of_address(backend.ip(), at).as_ref() == Some(&id)
            })
        };
        if let Some(accepted) = self.proxy_hops.waiting.iter().copied().find(leads_to) {
            self.proxy_hops.join_legs(accepted, cookie);
        }
    }

    /// The route of a client's connection.
    #[must_use]
    pub fn route(&self, client: Cookie, at: Stamp) -> Option<Route> {
        let endpoint = self.sockets.get(client)?;
        let requested = endpoint.socket.remote;
        let Some(peer) = endpoint.peer.and_then(|peer| self.sockets.get(peer)) else {
            let container = self.holder_of(&endpoint.socket, at);
            return Some(Route { client, server: None, proxy: None, container, address: requested });
        };
        let accepted = peer.socket.cookie;
        if !self.is_proxy_endpoint(accepted) {
            let container = self.containers.of_socket(&peer.socket, peer.opened);
            let container = container.or_else(|| self.holder_of(&endpoint.socket, at));
            let address = peer.socket.local;
            return Some(Route { client, server: Some(accepted), proxy: None, container, address });
        }
        let backend_leg = self.proxy_hops.backend_leg_of(accepted);
        let leg = backend_leg.and_then(|cookie| self.sockets.get(cookie));
        let backend = leg.and_then(|leg| leg.peer).and_then(|cookie| self.sockets.get(cookie));
        let published = self.containers.published_to(peer.socket.local, endpoint.opened);
        let container = backend.and_then(|endpoint| self.containers.of_socket(&endpoint.socket, endpoint.opened));
        let container = container.or_else(|| published.as_ref().map(|(id, _)| id.clone()));
        let address =
            backend.map(|endpoint| endpoint.socket.local).or(leg.map(|leg| leg.socket.remote)).unwrap_or(requested);
        let pid = leg.and_then(|leg| leg.owner.as_ref()).or(peer.owner.as_ref()).map(|task| task.pid);
        let hop = ProxyHop { pid, listen: peer.socket.local, client_leg: accepted, backend_leg };
        Some(Route {
            client,
            server: backend.map(|endpoint| endpoint.socket.cookie),
            proxy: Some(hop),
            container,
            address,
        })
    }

    /// The container behind the address that a client's socket asks for. Loopback is the client's own container, or
    /// docker-proxy on the host; any other address is looked up in the address history of containers, in published ports,
    /// and among the listeners on the host's network. Of containers that share a namespace, the one that listened counts.
    #[must_use]
    pub fn holder_of(&self, client: &Socket, at: Stamp) -> Option<ContainerId> {
        let address = client.remote;
        let own = || self.containers.of_socket(client, at);
        let by_address = if address.ip().is_loopback() { own() } else { self.containers.of_address(address.ip(), at) };
        let on_network = by_address.map(|id| self.containers.listener_beside(&id, address.port()).unwrap_or(id));
        on_network
            .or_else(|| self.containers.published_to(address, at).map(|(id, _)| id))
            .or_else(|| self.listener_on_host(client))
    }

    /// The container on the host's network behind an address of the host.
    fn listener_on_host(&self, client: &Socket) -> Option<ContainerId> {
        let container = self.containers.listener_on_host(client.remote.port())?;
        let host = container.info.netns?;
        let own = client.remote.ip().is_loopback() && client.netns == host;
        let of_host = || self.interfaces.has_address(host, client.remote.ip());
        (own || of_host()).then(|| container.info.id.clone())
    }
}

impl Route {
    /// The client's local port, while its socket is known.
    #[must_use]
    pub fn client_port(&self, world: &World) -> Option<u16> {
        world.sockets.get(self.client).map(|endpoint| endpoint.socket.local.port())
    }
}
