//! Ends on other hosts: no socket of theirs is here, so they are known by what this host's end shows of them.
//!
//! Such an end comes into being with the first HTTP that arrives from it, and goes with the end that it was seen by.

use crate::model::event::{Socket, TcpState, TcpStateChange};
use crate::model::ids::{CgroupId, Cookie, NetnsId};
use crate::model::time::Stamp;

use crate::engine::world::tcp::endpoint::{Close, Endpoint, Side};
use crate::engine::world::tcp::sockets::{Change, Sockets};

impl Sockets {
    /// What a server's end shows of its client on another host: what the server closes, that client gets; a FIN or RST of
    /// the client's is its leaving, for nothing tells a half-close from a close here.
    pub(in crate::engine::world) fn remote_peer(
        &mut self,
        at: Stamp,
        cookie: Cookie,
        change: &TcpStateChange,
    ) -> Option<Change> {
        use TcpState::{Close as Closed, CloseWait, Established, FinWait1};
        let server = self.ends.get(&cookie).filter(|end| end.side == Side::Server)?;
        let client = server.peer.filter(|peer| peer.is_outside())?;
        let (sent, received) = (server.last_sent, server.last_received);
        let reset_in = server.rst_in.is_some();
        let abandoned = server.errno.is_some();
        let end = self.ends.get_mut(&client).filter(|end| !end.is_over())?;
        (end.last_sent, end.last_received) = (received, sent);
        match (change.old, change.new) {
            (Established, FinWait1) => {
                end.fin_in = Some(at);
                Some(Change::FinArrived { client })
            }
            (Established, Closed) if !reset_in && !abandoned => {
                end.rst_in = Some((at, Established));
                Some(Change::ResetArrived { client })
            }
            (Established, CloseWait) => {
                end.close = Some(Close::by_another_host(at, false));
                Some(Change::Left { client })
            }
            (Established, Closed) if reset_in => {
                end.close = Some(Close::by_another_host(at, true));
                Some(Change::Left { client })
            }
            _ => None,
        }
    }

    /// Who sent what arrived at this socket: an end on another host, which comes into being here. `None`: a socket of
    /// this host did, and has told it.
    pub(in crate::engine::world) fn sender_of(&mut self, receiver: Cookie) -> Option<Cookie> {
        let end = self.ends.get_mut(&receiver)?;
        match end.peer {
            Some(peer) if peer.is_outside() => return Some(peer),
            Some(_) => return None,
            None => {}
        }
        let sender = receiver.remote_peer();
        end.peer = Some(sender);
        let side = match end.side {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        };
        let (local, remote) = (end.socket.remote, end.socket.local);
        let socket = Socket { cookie: sender, netns: NetnsId(0), cgroup: CgroupId(0), local, remote };
        let established = end.established;
        let new = Endpoint {
            established,
            peer: Some(receiver),
            preexisting: end.preexisting,
            ..Endpoint::new(socket, side, end.opened, TcpState::Established)
        };
        self.ends.insert(sender, new);
        Some(sender)
    }
}
