//! The way from a client to the process that should have answered: directly, or through docker-proxy.
//!
//! docker-proxy is two sockets of one process on the host: it accepts on a published port and connects to the
//! container. Both are joined here, oldest waiting acceptance first.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::model::ids::{ContainerId, Cookie, Pid};
use crate::model::time::Stamp;

use crate::engine::world::World;
use crate::engine::world::tcp::endpoint::Side;

/// Acceptances that wait for the proxy's own connect. Beyond it the oldest is given up: its connection is then
/// judged by the proxy's leg alone.
const WAITING: usize = 4_096;
const PROXY: &str = "docker-proxy";

#[derive(Debug, Default)]
pub struct ProxyHops {
    waiting: VecDeque<Cookie>,
    /// The proxy's accepted end → its connecting end.
    forward: BTreeMap<Cookie, Cookie>,
}

/// Who a client talks to in the end.
#[derive(Clone, Debug)]
pub struct Route {
    pub client: Cookie,
    /// The end of the process that should answer.
    pub server: Option<Cookie>,
    pub proxy: Option<ProxyHop>,
    pub container: Option<ContainerId>,
    /// The container's own address where it is known, else the address that was asked.
    pub address: SocketAddr,
}

#[derive(Clone, Debug)]
pub struct ProxyHop {
    pub pid: Option<Pid>,
    pub listen: SocketAddr,
    /// The proxy's end towards the client.
    pub client_leg: Cookie,
    /// The proxy's end towards the container.
    pub backend_leg: Option<Cookie>,
}

impl ProxyHops {
    pub(in crate::engine::world) fn accepted(&mut self, cookie: Cookie) {
        self.waiting.push_back(cookie);
        if self.waiting.len() > WAITING {
            self.waiting.pop_front();
        }
    }

    /// Bound: [`WAITING`] pairs; the lowest cookie, which is about the oldest, goes first.
    pub(in crate::engine::world) fn stitch(&mut self, accepted: Cookie, connecting: Cookie) {
        self.waiting.retain(|waiting| *waiting != accepted);
        self.forward.insert(accepted, connecting);
        while self.forward.len() > WAITING {
            self.forward.pop_first();
        }
    }

    #[must_use]
    pub fn towards_container(&self, accepted: Cookie) -> Option<Cookie> {
        self.forward.get(&accepted).copied()
    }
}

impl World {
    /// A server's end on the host whose port is published and whose process is no container's: docker-proxy.
    #[must_use]
    pub fn is_proxy_end(&self, cookie: Cookie) -> bool {
        let Some(end) = self.sockets.get(cookie) else { return false };
        end.side == Side::Server
            && self.containers.is_published(end.socket.local.port())
            && self.containers.of_socket(&end.socket, end.opened).is_none()
    }

    /// A client's end that docker-proxy opened: never a client of its own.
    #[must_use]
    pub fn is_proxy_leg(&self, cookie: Cookie) -> bool {
        let Some(end) = self.sockets.get(cookie) else { return false };
        end.side == Side::Client && end.owner.as_ref().is_some_and(|task| task.comm == PROXY)
    }

    /// Notes a new end of docker-proxy, and joins a new leg to the acceptance that it serves.
    pub(in crate::engine::world) fn note_hop(&mut self, cookie: Cookie) {
        if self.is_proxy_end(cookie) {
            self.proxy_hops.accepted(cookie);
            return;
        }
        if !self.is_proxy_leg(cookie) {
            return;
        }
        let Some(leg) = self.sockets.get(cookie) else { return };
        let (backend, at) = (leg.socket.remote, leg.opened);
        let serves = |accepted: &Cookie| {
            let Some(end) = self.sockets.get(*accepted) else { return false };
            self.containers.published_to(end.socket.local, at).is_some_and(|(id, port)| {
                port == backend.port() && self.containers.of_address(backend.ip(), at).as_ref() == Some(&id)
            })
        };
        if let Some(accepted) = self.proxy_hops.waiting.iter().copied().find(serves) {
            self.proxy_hops.stitch(accepted, cookie);
        }
    }

    /// Where a client's connection leads.
    #[must_use]
    pub fn route(&self, client: Cookie, at: Stamp) -> Option<Route> {
        let end = self.sockets.get(client)?;
        let asked = end.socket.remote;
        let Some(peer) = end.peer.and_then(|peer| self.sockets.get(peer)) else {
            let container = self.holder_of(end.socket.netns, asked, at);
            return Some(Route { client, server: None, proxy: None, container, address: asked });
        };
        let accepted = peer.socket.cookie;
        if !self.is_proxy_end(accepted) {
            let container = self.containers.of_socket(&peer.socket, peer.opened);
            let container = container.or_else(|| self.holder_of(end.socket.netns, asked, at));
            let address = peer.socket.local;
            return Some(Route { client, server: Some(accepted), proxy: None, container, address });
        }
        let connecting = self.proxy_hops.towards_container(accepted);
        let leg = connecting.and_then(|cookie| self.sockets.get(cookie));
        let backend = leg.and_then(|leg| leg.peer).and_then(|cookie| self.sockets.get(cookie));
        let published = self.containers.published_to(peer.socket.local, end.opened);
        let container = backend.and_then(|end| self.containers.of_socket(&end.socket, end.opened));
        let container = container.or_else(|| published.as_ref().map(|(id, _)| id.clone()));
        let address = backend.map(|end| end.socket.local).or(leg.map(|leg| leg.socket.remote)).unwrap_or(asked);
        let pid = leg.and_then(|leg| leg.owner.as_ref()).or(peer.owner.as_ref()).map(|task| task.pid);
        let hop = ProxyHop { pid, listen: peer.socket.local, client_leg: accepted, backend_leg: connecting };
        Some(Route { client, server: backend.map(|end| end.socket.cookie), proxy: Some(hop), container, address })
    }

    /// Whose an address is, as a client in `netns` sees it: loopback is the client's own container, or docker-proxy
    /// on the host; everything else is looked up in the addresses that containers had, then in published ports.
    #[must_use]
    pub fn holder_of(&self, netns: crate::model::ids::NetnsId, address: SocketAddr, at: Stamp) -> Option<ContainerId> {
        if address.ip().is_loopback()
            && let Some(own) = self.containers.of_netns(netns, at)
        {
            return Some(own);
        }
        let by_address = self.containers.of_address(address.ip(), at);
        by_address.or_else(|| self.containers.published_to(address, at).map(|(id, _)| id))
    }
}

impl Route {
    /// The client's own port, while its socket is known.
    #[must_use]
    pub fn client_port(&self, world: &World) -> Option<u16> {
        world.sockets.get(self.client).map(|end| end.socket.local.port())
    }
}
