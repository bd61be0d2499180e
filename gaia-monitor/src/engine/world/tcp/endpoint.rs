//! One end of a connection: who opened, read and closed it, and how far the messages went that it sent.

use crate::model::event::{BodyFraming, Socket, Task, TcpState, TcpStateChange};
use crate::model::ids::{Cookie, Pid};
use crate::model::time::Stamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It asked for the connection.
    Client,
    /// It was accepted.
    Server,
}

/// One end of a connection.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub socket: Socket,
    pub side: Side,
    pub opened: Stamp,
    pub established: Option<Stamp>,
    /// Client: who connected. Server: who read from it first.
    pub owner: Option<Task>,
    pub state: TcpState,
    /// A client that has shut its sending side and still reads.
    pub half: bool,
    pub fin_in: Option<Stamp>,
    pub rst_in: Option<(Stamp, TcpState)>,
    pub rst_out: Option<(Stamp, String)>,
    /// The error that the kernel left for the process.
    pub errno: Option<String>,
    pub close: Option<Close>,
    /// No state machine any more.
    pub gone: Option<Stamp>,
    pub peer: Option<Cookie>,
    pub last_sent: Option<Stamp>,
    pub last_received: Option<Stamp>,
    /// Packets that it sent again.
    pub retransmits: Option<Retransmits>,
    /// Bytes that it had sent and that were not acknowledged, at its last change of state.
    pub unacknowledged: u32,
    /// What it sent, by HTTP's framing.
    pub http: HttpMessages,
    /// It was there before the monitor: what it carried until then is not known.
    pub preexisting: bool,
    /// Events were lost while it was open.
    pub lossy: bool,
}

/// Retransmissions of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmits {
    pub count: u32,
    pub first: Stamp,
    pub last: Stamp,
}

/// This end's own closing.
#[derive(Clone, Debug)]
pub struct Close {
    pub at: Stamp,
    pub task: Task,
    /// With RST, not with FIN.
    pub reset: bool,
    /// Bytes that nobody had read.
    pub unread: u32,
    /// When its process had last read; `None`: not known.
    pub last_read: Option<Stamp>,
    /// Nothing of the other end's closing had come before.
    pub first: bool,
}

/// How far the messages went that one end sent.
#[derive(Clone, Debug, Default)]
pub struct HttpMessages {
    pub begun: u32,
    pub complete: u32,
    /// Answers whose header is complete.
    pub header_sections: u32,
    pub begun_at: Option<Stamp>,
    /// When the last one that is complete ended.
    pub ended_at: Option<Stamp>,
    pub status: Option<u16>,
    pub body: Option<BodyFraming>,
    pub malformed: Option<Stamp>,
    /// Not HTTP/1.x, or no longer.
    pub opaque: bool,
    /// It was HTTP/1.x up to an answer that changed the protocol.
    pub upgraded: bool,
    /// Events were lost: until the next request, only TCP's own facts tell.
    pub doubtful: bool,
}

impl HttpMessages {
    pub(in crate::engine::world) fn end(&mut self, at: Stamp) {
        self.complete += 1;
        self.ended_at = Some(at);
    }
}

impl Close {
    /// The client on another host left; who it was is not known.
    pub(in crate::engine::world) fn by_another_host(at: Stamp, reset: bool) -> Self {
        let task = Task { pid: Pid(0), comm: String::new(), exiting: false };
        Self { at, task, reset, unread: 0, last_read: None, first: true }
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
            half: false,
            fin_in: None,
            rst_in: None,
            rst_out: None,
            errno: None,
            close: None,
            gone: None,
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

    pub(in crate::engine::world) fn close_by(&mut self, at: Stamp, change: &TcpStateChange, reset: bool) {
        let first = self.fin_in.is_none() && self.rst_in.is_none();
        let (task, unread, last_read) = (change.task.clone(), change.unread, change.last_read);
        self.close = Some(Close { at, task, reset, unread, last_read, first });
    }

    /// Does what it sent last lie on the way? Unacknowledged, or thrown away (`dropped`: when the last of it was) and not
    /// sent again since.
    #[must_use]
    pub fn is_unacknowledged(&self, dropped: Stamp) -> bool {
        self.unacknowledged > 0 || self.close.is_some() && dropped > self.last_sent.unwrap_or(self.opened)
    }

    #[must_use]
    pub fn is_over(&self) -> bool {
        self.gone.is_some() || self.close.is_some() || self.fin_in.is_some()
    }
}
