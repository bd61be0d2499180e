//! TCP endpoint: the processes that opened, read and closed the socket, its TCP state, and the progress of the HTTP
//! messages that it sent. The records here are data; `sockets` and `transitions` update them from events.

use crate::model::event::{BodyFraming, Socket, Task, TcpState, TcpStateChange};
use crate::model::ids::{Cookie, Pid};
use crate::model::time::Stamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The socket that connected.
    Client,
    /// The socket that was accepted.
    Server,
}

/// One endpoint of a connection.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub socket: Socket,
    pub side: Side,
    pub opened: Stamp,
    pub established: Option<Stamp>,
    /// Client: the task that connected. Server: the task that last read from the socket.
    pub owner: Option<Task>,
    pub state: TcpState,
    /// The client shut down its sending side and still reads.
    pub half_closed: bool,
    pub fin_in: Option<Stamp>,
    /// When the FIN arrived, the peer had sent the last bytes.
    pub idle_at_fin: bool,
    pub rst_in: Option<(Stamp, TcpState)>,
    pub rst_out: Option<(Stamp, String)>,
    /// The error that the kernel stored for the process.
    pub errno: Option<String>,
    pub close: Option<Close>,
    /// When the socket reached CLOSE.
    pub ended: Option<Stamp>,
    pub peer: Option<Cookie>,
    pub last_sent: Option<Stamp>,
    pub last_received: Option<Stamp>,
    /// Packets that this endpoint retransmitted.
    pub retransmits: Option<Retransmits>,
    /// Bytes sent but not acknowledged at the last change of state.
    pub unacknowledged: u32,
    /// The messages that this endpoint sent, by HTTP framing.
    pub http: HttpMessages,
    /// The socket is older than the monitor; its earlier traffic is unknown.
    pub preexisting: bool,
    /// Events were lost while the socket was open.
    pub lossy: bool,
}

/// Retransmissions by one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmits {
    pub count: u32,
    pub first: Stamp,
    pub last: Stamp,
}

/// The close of an endpoint by its own process.
#[derive(Clone, Debug)]
pub struct Close {
    pub at: Stamp,
    pub task: Task,
    /// Closed with RST instead of FIN.
    pub reset: bool,
    /// Received bytes that the process had not read.
    pub unread: u32,
    /// When the process last read; `None`: unknown.
    pub last_read: Option<Stamp>,
    /// No FIN or RST of the peer had arrived before.
    pub first: bool,
    /// The process had sent bytes after everything that it had received.
    pub responded: bool,
}

/// Progress of the HTTP messages that one endpoint sent.
#[derive(Clone, Debug, Default)]
pub struct HttpMessages {
    pub begun: u32,
    pub complete: u32,
    /// Responses with a complete header section.
    pub header_sections: u32,
    pub begun_at: Option<Stamp>,
    /// When the last complete message ended.
    pub ended_at: Option<Stamp>,
    pub status: Option<u16>,
    pub body: Option<BodyFraming>,
    pub malformed: Option<Stamp>,
    /// Not HTTP/1.x, or no longer.
    pub opaque: bool,
    /// HTTP/1.x until a response switched the protocol.
    pub upgraded: bool,
    /// A CONNECT request opened a tunnel.
    pub tunnel: bool,
    /// Events were lost: until the next request, only TCP facts are reliable.
    pub doubtful: bool,
}

impl HttpMessages {
    pub(in crate::engine::world) fn record_complete(&mut self, at: Stamp) {
        self.complete += 1;
        self.ended_at = Some(at);
    }
}

impl Close {
    /// A close by a client on another host, which is an unknown process.
    pub(in crate::engine::world) fn by_another_host(at: Stamp, reset: bool) -> Self {
        let task = Task { pid: Pid(0), comm: String::new(), exiting: false };
        Self { at, task, reset, unread: 0, last_read: None, first: true, responded: false }
    }
}

impl Endpoint {
    pub(in crate::engine::world) fn new(socket: Socket, side: Side, opened: Stamp, state: TcpState) -> Self {
        Self {
            socket,
            side,
            opened,
            established: None,
            owner: None,
            state,
            half_closed: false,
            fin_in: None,
            idle_at_fin: false,
            rst_in: None,
            rst_out: None,
            errno: None,
            close: None,
            ended: None,
            peer: None,
            last_sent: None,
            last_received: None,
            retransmits: None,
            unacknowledged: 0,
            http: HttpMessages::default(),
            preexisting: false,
            lossy: false,
        }
    }

    pub(in crate::engine::world) fn record_close(&mut self, at: Stamp, change: &TcpStateChange, reset: bool) {
        let first = self.fin_in.is_none() && self.rst_in.is_none();
        let (task, unread, last_read) = (change.task.clone(), change.unread, change.last_read);
        let responded = self.last_sent.is_some_and(|sent| self.last_received.is_none_or(|received| received <= sent));
        self.close = Some(Close { at, task, reset, unread, last_read, first, responded });
    }

    /// Whether the last data sent is still in flight: unacknowledged, or dropped (`dropped`: time of the last drop) and
    /// not retransmitted since.
    #[must_use]
    pub fn is_unacknowledged(&self, dropped: Stamp) -> bool {
        self.unacknowledged > 0 || self.close.is_some() && dropped > self.last_sent.unwrap_or(self.opened)
    }

    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ended.is_some() || self.close.is_some() || self.fin_in.is_some()
    }
}
