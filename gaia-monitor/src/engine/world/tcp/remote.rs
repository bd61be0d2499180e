//! Endpoints on other hosts: this host has no socket of theirs, so their state is derived from the local endpoint.
//!
//! A remote endpoint is created by the first HTTP message that arrives from it, and evicted with its local endpoint.

use crate::model::event::{Socket, TcpState, TcpStateChange};
use crate::model::ids::{CgroupId, Cookie, NetnsId};
use crate::model::time::Stamp;

use crate::engine::world::tcp::endpoint::{Close, Endpoint, Side};
use crate::engine::world::tcp::sockets::{SocketChange, Sockets};

impl Sockets {
    /// Derives the state of a client on another host from its local server endpoint: a close by the server reaches the
    /// client; a FIN or RST from the client counts as its close, because a half-close looks the same here.
    pub(in crate::engine::world) fn update_remote_client(
        &mut self,
        at: Stamp,
        cookie: Cookie,
        change: &TcpStateChange,
    ) -> Option<SocketChange> {
        use TcpState::{Close as Closed, CloseWait, Established, FinWait1};
        let server = self.endpoints.get(&cookie).filter(|endpoint| endpoint.side == Side::Server)?;
        let client = server.peer.filter(|peer| peer.is_outside())?;
        let (sent, received) = (server.last_sent, server.last_received);
        let reset_in = server.rst_in.is_some();
        let abandoned = server.errno.is_some();
        let endpoint = self.endpoints.get_mut(&client).filter(|endpoint| !endpoint.is_over())?;
        (endpoint.last_sent, endpoint.last_received) = (received, sent);
        match (change.old, change.new) {
            (Established, FinWait1) => {
                endpoint.fin_in = Some(at);
                Some(SocketChange::FinArrived { client })
            }
            (Established, Closed) if !reset_in && !abandoned => {
                endpoint.rst_in = Some((at, Established));
                Some(SocketChange::ResetArrived { client })
            }
            (Established, CloseWait) => {
                endpoint.close = Some(Close::by_another_host(at, false));
                Some(SocketChange::Left { client })
            }
            (Established, Closed) if reset_in => {
                endpoint.close = Some(Close::by_another_host(at, true));
                Some(SocketChange::Left { client })
            }
            _ => None,
        }
    }

    /// The remote endpoint that sent the data received by this socket; created if missing. `None`: the sender is a
    /// socket of this host, which reported the data itself.
    pub(in crate::engine::world) fn remote_sender(&mut self, receiver: Cookie) -> Option<Cookie> {
        let endpoint = self.endpoints.get_mut(&receiver)?;
        match endpoint.peer {
            Some(peer) if peer.is_outside() => return Some(peer),
            Some(_) => return None,
            None => {}
        }
        let sender = receiver.remote_peer();
        endpoint.peer = Some(sender);
        let side = match endpoint.side {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        };
        let (local, remote) = (endpoint.socket.remote, endpoint.socket.local);
        let socket = Socket { cookie: sender, netns: NetnsId(0), cgroup: CgroupId(0), local, remote };
        let established = endpoint.established;
        let new = Endpoint {
            established,
            peer: Some(receiver),
            preexisting: endpoint.preexisting,
            ..Endpoint::new(socket, side, endpoint.opened, TcpState::Established)
        };
        self.endpoints.insert(sender, new);
        Some(sender)
    }
}
