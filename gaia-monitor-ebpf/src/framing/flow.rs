//! One socket: what it sends, and what it must know of what it receives.
//!
//! A message is told where it is sent, because bytes leave in order and before they arrive anywhere. What a server
//! receives is read all the same, because an answer's end depends on its request's method, and the request was sent by
//! another socket that no address leads to (published ports are rewritten on the way). A peer on another host has no
//! socket here: what it sends is told where it arrives.

use super::{Admission, Automaton, Direction, Exchange, Facts};

/// Which way a packet passes the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Out,
    In,
}

/// Who the socket is in an exchange of HTTP: whoever speaks first asks. A server of a protocol in which servers speak first
/// passes for a client, and is opaque by its first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Role {
    /// The connection is older than the probe, and nothing that it carried since began with a request.
    Unknown,
    Client,
    Server,
}

/// What the probe keeps of a socket.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Flow {
    /// Boot time at which it last sent payload, in nanoseconds; 0: not since the probe watches.
    pub last_sent_ns: u64,
    pub last_received_ns: u64,
    sent: Automaton,
    /// The requests that a server gets. A client reads its answers only if no socket of this host sends them.
    received: Automaton,
    exchange: Exchange,
    role: Role,
    /// 1: the sequence numbers of this way are known.
    sent_counted: u8,
    received_counted: u8,
    /// 1: the peer is on another host.
    outside: u8,
    reserved: [u8; 4],
}

/// What the kernel shows of a connection when its first payload is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It is the connection's first payload, and passes this way.
    First {
        way: Way,
        /// Sequence number of the next byte that the socket receives.
        receives_next: u32,
    },
    /// The socket answers what came together with its handshake, before it was a socket of its own (TCP_DEFER_ACCEPT, a
    /// full accept queue).
    Answer,
    /// The connection is older than the probe.
    Older,
}

impl Flow {
    /// A place for a flow; [`Flow::open`] makes it one.
    pub const EMPTY: Flow = Flow {
        last_sent_ns: 0,
        last_received_ns: 0,
        sent: Automaton::searching(),
        received: Automaton::searching(),
        exchange: Exchange::NEW,
        role: Role::Unknown,
        sent_counted: 0,
        received_counted: 0,
        outside: 0,
        reserved: [0; 4],
    };

    /// Sets up a flow at the first payload that is seen of it. `outside`: its peer is on another host.
    #[inline(always)]
    pub fn open(&mut self, opening: Opening, outside: bool) {
        self.outside = u8::from(outside);
        match opening {
            Opening::First { way: Way::Out, receives_next } => {
                self.role = Role::Client;
                self.sent.restart(Direction::Requests, 0);
                self.received.restart(Direction::Answers, receives_next);
                self.received_counted = 1;
            }
            Opening::First { way: Way::In, receives_next } => {
                self.role = Role::Server;
                self.sent.restart(Direction::Answers, 0);
                self.received.restart(Direction::Requests, receives_next);
                self.received_counted = 1;
            }
            Opening::Answer => {
                self.role = Role::Server;
                self.sent.restart(Direction::Answers, 0);
            }
            Opening::Older => {}
        }
    }

    /// What passes the socket this way.
    #[inline(always)]
    #[must_use]
    pub fn messages(&self, way: Way) -> &Automaton {
        match way {
            Way::Out => &self.sent,
            Way::In => &self.received,
        }
    }

    /// Is what passes this way to be told here?
    #[inline(always)]
    #[must_use]
    pub fn tells(&self, way: Way) -> bool {
        way == Way::Out || self.outside == 1
    }

    /// Takes a packet: where its new bytes begin, if they are to be read, and what is known before.
    #[inline(always)]
    pub fn admit(&mut self, way: Way, seq: u32, len: u32) -> (Option<u32>, Facts) {
        // Answers are told where they are sent, and decide nothing about requests.
        if way == Way::In && self.role == Role::Client && self.outside == 0 {
            return (None, Facts::NONE);
        }
        let (automaton, counted) = match way {
            Way::Out => (&mut self.sent, &mut self.sent_counted),
            Way::In => (&mut self.received, &mut self.received_counted),
        };
        if *counted == 0 && !automaton.is_searching() {
            automaton.count_from(seq);
            *counted = 1;
        }
        if automaton.direction() == Direction::Requests && self.exchange.is_upgraded() {
            automaton.end();
        }
        let (admission, facts) = automaton.admit(seq, len, &self.exchange);
        match admission {
            Admission::Old => (None, facts),
            Admission::From(offset) => (Some(offset), facts),
            Admission::Gap => (None, facts.and(self.lose(way))),
        }
    }

    /// Skips a stretch of body, if `position` is in one, and moves it on, at most to `end`. `None`: it is in none, and
    /// [`Self::eat`] takes the byte there.
    #[inline(always)]
    pub fn leap(&mut self, way: Way, position: &mut u32, end: u32) -> Option<Facts> {
        match way {
            Way::Out => self.sent.leap(&self.exchange, position, end),
            Way::In => self.received.leap(&self.exchange, position, end),
        }
    }

    /// Takes one byte. `None`: it cannot be read, and the stream is not followed any more.
    #[inline(always)]
    pub fn eat(&mut self, way: Way, byte: Option<u8>) -> Facts {
        let automaton = match way {
            Way::Out => &mut self.sent,
            Way::In => &mut self.received,
        };
        match byte {
            Some(byte) => automaton.eat(byte, &mut self.exchange),
            None => automaton.abandon(),
        }
    }

    /// The packet is read to its end.
    #[inline(always)]
    pub fn pause(&mut self, way: Way) -> Facts {
        let automaton = match way {
            Way::Out => &mut self.sent,
            Way::In => &mut self.received,
        };
        let facts = automaton.pause();
        // An older connection that was found to ask.
        if self.role == Role::Unknown && !automaton.is_searching() {
            match way {
                Way::Out => {
                    self.role = Role::Client;
                    self.sent_counted = 1;
                    self.received.restart(Direction::Answers, 0);
                }
                Way::In => {
                    self.role = Role::Server;
                    self.received_counted = 1;
                    self.sent.restart(Direction::Answers, 0);
                }
            }
        }
        facts
    }

    /// Bytes are missing whose content mattered.
    #[inline(always)]
    fn lose(&mut self, way: Way) -> Facts {
        match way {
            Way::Out => self.sent.abandon(),
            Way::In if self.role == Role::Client => self.received.abandon(),
            Way::In => {
                // Packets overtake each other where they arrive; the next request is found again.
                self.received.search();
                Facts::NONE
            }
        }
    }
}
