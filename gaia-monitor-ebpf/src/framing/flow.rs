//! Framing state of one socket: both directions, and the requests that are outstanding.
//!
//! A message is reported at its sender's socket, because bytes leave in order and before they arrive anywhere. The
//! requests that a server receives are parsed as well: the end of a response depends on the request method, and no
//! address leads to the socket that sent the request (published ports are rewritten on the way). A peer on another host
//! has no socket here, so its messages are reported at the receiving socket.

use super::{Continuity, Facts, MessageKind, Outstanding, Parser};

/// Direction of a packet, relative to the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Out,
    In,
}

/// HTTP role of the socket. The peer that sends first is the client. With a protocol in which servers send first, the
/// server is taken for a client, and its first bytes make the connection opaque.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Role {
    /// The connection is older than the probe, and no packet since began with a request.
    Unknown,
    Client,
    Server,
}

/// Per-socket state of the probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// Boot time of the last payload sent, in nanoseconds; 0: none seen.
    pub last_sent_ns: u64,
    pub last_received_ns: u64,
    sent: Parser,
    /// At a server, the requests. At a client, the responses, parsed only if the server is on another host.
    received: Parser,
    outstanding: Outstanding,
    role: Role,
    /// 1: the sequence numbers of this direction are known.
    sent_synced: u8,
    received_synced: u8,
    /// 1: the peer is on another host.
    remote_peer: u8,
    reserved: [u8; 4],
}

/// What the kernel shows of a connection at the first payload that the probe sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// This is the first payload of the connection.
    First {
        direction: Direction,
        /// Sequence number of the next byte that the socket receives.
        receives_next: u32,
    },
    /// The socket responds to a request that arrived during the handshake, before the socket existed (TCP_DEFER_ACCEPT,
    /// a full accept queue).
    RequestInHandshake,
    /// The connection is older than the probe.
    Older,
}

impl Flow {
    /// Initial contents, to be completed by [`Flow::open`]. All bytes are zero, as in a new entry of a map.
    pub const EMPTY: Flow = Flow {
        last_sent_ns: 0,
        last_received_ns: 0,
        sent: Parser::searching(),
        received: Parser::searching(),
        outstanding: Outstanding::NEW,
        role: Role::Unknown,
        sent_synced: 0,
        received_synced: 0,
        remote_peer: 0,
        reserved: [0; 4],
    };

    /// Initialises a flow at its first payload. `remote_peer`: the peer is on another host.
    #[inline(always)]
    pub fn open(&mut self, opening: Opening, remote_peer: bool) {
        self.remote_peer = u8::from(remote_peer);
        match opening {
            Opening::First { direction: Direction::Out, receives_next } => {
                self.role = Role::Client;
                self.sent.restart(MessageKind::Request, 0);
                self.received.restart(MessageKind::Response, receives_next);
                self.received_synced = 1;
            }
            Opening::First { direction: Direction::In, receives_next } => {
                self.role = Role::Server;
                self.sent.restart(MessageKind::Response, 0);
                self.received.restart(MessageKind::Request, receives_next);
                self.received_synced = 1;
            }
            Opening::RequestInHandshake => {
                self.role = Role::Server;
                self.sent.restart(MessageKind::Response, 0);
            }
            Opening::Older => {}
        }
    }

    /// Parser of one direction.
    #[inline(always)]
    #[must_use]
    pub fn parser(&self, direction: Direction) -> &Parser {
        match direction {
            Direction::Out => &self.sent,
            Direction::In => &self.received,
        }
    }

    /// True if messages of this direction are reported at this socket.
    #[inline(always)]
    #[must_use]
    pub fn reports(&self, direction: Direction) -> bool {
        direction == Direction::Out || self.remote_peer == 1
    }

    /// Accepts a segment. Returns the offset of its first new byte if they must be fed, and the facts known before that
    /// byte.
    #[inline(always)]
    pub fn accept_segment(&mut self, direction: Direction, seq: u32, len: u32) -> (Option<u32>, Facts) {
        // A local server reports its responses itself, and responses do not affect requests.
        if direction == Direction::In && self.role == Role::Client && self.remote_peer == 0 {
            return (None, Facts::NONE);
        }
        let (parser, synced) = match direction {
            Direction::Out => (&mut self.sent, &mut self.sent_synced),
            Direction::In => (&mut self.received, &mut self.received_synced),
        };
        if *synced == 0 && !parser.is_searching() {
            parser.set_next(seq);
            *synced = 1;
        }
        if parser.kind() == MessageKind::Request && self.outstanding.is_upgraded() {
            parser.stop();
        }
        let (continuity, facts) = parser.accept_segment(seq, len, &self.outstanding);
        match continuity {
            Continuity::Duplicate => (None, facts),
            Continuity::NewFrom(offset) => (Some(offset), facts),
            Continuity::Gap => (None, facts.and(self.on_gap(direction))),
        }
    }

    /// Skips body bytes at `position` and advances it, at most to `end`. `None` if the byte there must go through
    /// [`Self::feed`].
    #[inline(always)]
    pub fn skip_body(&mut self, direction: Direction, position: &mut u32, end: u32) -> Option<Facts> {
        match direction {
            Direction::Out => self.sent.skip_body(&self.outstanding, position, end),
            Direction::In => self.received.skip_body(&self.outstanding, position, end),
        }
    }

    /// Feeds one byte. `None`: the byte could not be read, and the direction is abandoned.
    #[inline(always)]
    pub fn feed(&mut self, direction: Direction, byte: Option<u8>) -> Facts {
        let parser = match direction {
            Direction::Out => &mut self.sent,
            Direction::In => &mut self.received,
        };
        match byte {
            Some(byte) => parser.feed(byte, &mut self.outstanding),
            None => parser.abandon(),
        }
    }

    /// Feeds bytes of `word`, the first byte lowest, of which `count` are valid, at least one: plain bytes, and the byte
    /// after them. Returns their number.
    #[inline(always)]
    pub fn feed_word(&mut self, direction: Direction, word: u64, count: u32) -> (u32, Facts) {
        let parser = match direction {
            Direction::Out => &mut self.sent,
            Direction::In => &mut self.received,
        };
        let plain = parser.take_plain(word, count);
        if plain >= count {
            return (plain, Facts::NONE);
        }
        let byte = (word >> (8 * (plain & 7))) as u8;
        (plain.wrapping_add(1), parser.feed(byte, &mut self.outstanding))
    }

    /// Ends a segment after its last byte.
    #[inline(always)]
    pub fn end_segment(&mut self, direction: Direction) -> Facts {
        let parser = match direction {
            Direction::Out => &mut self.sent,
            Direction::In => &mut self.received,
        };
        let facts = parser.end_segment();
        // A request on an older connection reveals the role.
        if self.role == Role::Unknown && !parser.is_searching() {
            match direction {
                Direction::Out => {
                    self.role = Role::Client;
                    self.sent_synced = 1;
                    self.received.restart(MessageKind::Response, 0);
                }
                Direction::In => {
                    self.role = Role::Server;
                    self.received_synced = 1;
                    self.sent.restart(MessageKind::Response, 0);
                }
            }
        }
        facts
    }

    /// Handles missing bytes whose content matters.
    #[inline(always)]
    fn on_gap(&mut self, direction: Direction) -> Facts {
        match direction {
            Direction::Out => self.sent.abandon(),
            Direction::In if self.role == Role::Client => self.received.abandon(),
            Direction::In => {
                // Packets are reordered on the way to the receiver; the parser resumes at the next request.
                self.received.search();
                Facts::NONE
            }
        }
    }
}
