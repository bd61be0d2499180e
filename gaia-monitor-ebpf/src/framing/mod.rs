//! Where HTTP/1.x messages begin and end in one direction of a TCP connection.
//!
//! One [`Automaton`] eats the bytes of one direction in order and says when a message begins, when its head and its body
//! end, and when the bytes break the framing. The probe runs it in the kernel and the tests run it on the host: the same
//! code, so it allocates nothing, indexes nothing, cannot panic and keeps only counters, never a byte of anybody's
//! traffic (the longest thing it remembers is the 17-byte name of the header that it is in). Bodies are skipped by their
//! length; only heads and chunk lines are read byte by byte.
//!
//! What is refused follows h11, which decides what httpx raises, minus what RFC 9112 allows and h11 does not.

mod body;
mod drive;
mod exchange;
mod facts;
mod flow;
mod head;
mod start;
mod token;

#[cfg(test)]
mod tests;

pub use self::drive::Admission;
pub use self::exchange::{Asked, Exchange};
pub use self::facts::{Body, Facts};
pub use self::flow::{Flow, Opening, Way};

use self::token::Token;

/// Longest head, chunk line or trailer in bytes: httpcore gives h11 `MAX_INCOMPLETE_EVENT_SIZE = 100 * 1024`, and what is
/// not complete beyond it breaks the connection.
pub const HEAD_MAX: u32 = 100 * 1024;

/// Which messages this direction carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    Requests,
    Answers,
}

/// Position of the next byte in a message. `…Cr`: after a CR, where only an LF may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// Joined in the middle of a stream: the next packet may begin with a request line.
    Searching,
    /// Before the first byte of a message; empty lines are skipped.
    Between,
    ChunkStart,
    ChunkDataCr,
    ChunkDataLf,
    Method,
    Target,
    RequestVersion,
    AnswerVersion,
    Status,
    Reason,
    /// A CR ended a line of the head.
    LineCr,
    LineStart,
    Name,
    Value,
    /// A CR in place of a header: the empty line.
    HeadCr,
    ChunkSize,
    /// White space after a chunk's size.
    ChunkGap,
    ChunkSizeCr,
    ChunkExtension,
    ChunkExtensionCr,
    Length,
    ChunkData,
    /// Surplus bytes after a complete answer: they break the next answer, if there is one.
    Surplus,
    /// The body ends with the connection.
    UntilClose,
    /// Not HTTP, no longer HTTP, broken or lost: everything is skipped from here on.
    Over,
}

/// How the bytes at a [`State`] are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Skipped up to the next packet.
    Searching,
    /// Single bytes between messages and around chunk data: read, without a limit.
    Between,
    /// Read; counts against [`HEAD_MAX`]. The message is reported at the end of the packet.
    StartLine,
    /// A header line, chunk line or trailer: read; counts against [`HEAD_MAX`].
    Line,
    /// Counted by `remaining`, and skipped.
    Body,
    /// Skipped until the next request.
    Surplus,
    /// Skipped for good.
    Over,
}

impl State {
    #[inline(always)]
    const fn class(self) -> Class {
        match self {
            State::Searching => Class::Searching,
            State::Between | State::ChunkStart | State::ChunkDataCr | State::ChunkDataLf => Class::Between,
            State::Method
            | State::Target
            | State::RequestVersion
            | State::AnswerVersion
            | State::Status
            | State::Reason => Class::StartLine,
            State::LineCr
            | State::LineStart
            | State::Name
            | State::Value
            | State::HeadCr
            | State::ChunkSize
            | State::ChunkGap
            | State::ChunkSizeCr
            | State::ChunkExtension
            | State::ChunkExtensionCr => Class::Line,
            State::Length | State::ChunkData => Class::Body,
            State::Surplus => Class::Surplus,
            State::UntilClose | State::Over => Class::Over,
        }
    }
}

/// The header whose value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Header {
    /// None before this line: a continuation line would continue nothing.
    Missing,
    Other,
    ContentLength,
    TransferEncoding,
    Connection,
}

/// Bits of [`Automaton::marks`], all about the current message.
mod mark {
    /// Its beginning was told.
    pub const TOLD: u8 = 1;
    /// A guess in the middle of a stream: no failure may be told.
    pub const TENTATIVE: u8 = 1 << 1;
    pub const HTTP_1_0: u8 = 1 << 2;
    pub const CLOSE: u8 = 1 << 3;
    pub const KEEP_ALIVE: u8 = 1 << 4;
    pub const HAS_LENGTH: u8 = 1 << 5;
    /// The last transfer coding is `chunked`.
    pub const CHUNKED: u8 = 1 << 6;
    /// The last transfer coding is another one.
    pub const CODED: u8 = 1 << 7;
}

/// The state of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Automaton {
    /// Bytes of the body or the chunk that are still to come; in a `Content-Length` or a chunk's size the number so far.
    remaining: u64,
    /// `Content-Length` of the current message.
    length: u64,
    /// The word being read: a method, version, header's name, or item of its value.
    token: Token,
    /// The TCP sequence number of the next byte.
    next: u32,
    /// Bytes so far of the head, the chunk line or the trailers.
    head: u32,
    status: u16,
    state: State,
    direction: Direction,
    header: Header,
    marks: u8,
    /// Digits so far of a status, a length or a chunk's size.
    digits: u8,
    /// 1: the lines being read are trailers.
    trailers: u8,
    /// Of the answer whose head was told last: a [`Body`]'s number, and whether its sender closes after it.
    body: u8,
    close: u8,
    reserved: [u8; 6],
}

impl Automaton {
    /// A direction whose first byte has the sequence number `next`.
    #[must_use]
    pub const fn new(direction: Direction, next: u32) -> Self {
        Self {
            remaining: 0,
            length: 0,
            token: Token::EMPTY,
            next,
            head: 0,
            status: 0,
            state: State::Between,
            direction,
            header: Header::Missing,
            marks: 0,
            digits: 0,
            trailers: 0,
            body: 0,
            close: 0,
            reserved: [0; 6],
        }
    }

    /// A direction that is joined in the middle: it waits for a packet that begins with a request line.
    #[must_use]
    pub const fn searching() -> Self {
        let mut automaton = Self::new(Direction::Requests, 0);
        automaton.state = State::Searching;
        automaton
    }

    /// Makes it a new one, in place.
    #[inline(always)]
    fn restart(&mut self, direction: Direction, next: u32) {
        *self = Self::new(direction, next);
    }

    /// The next byte has this sequence number.
    #[inline(always)]
    fn count_from(&mut self, next: u32) {
        self.next = next;
    }

    #[must_use]
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// Is it still looking for a message to begin with?
    #[must_use]
    pub fn is_searching(&self) -> bool {
        self.state == State::Searching || self.marks & mark::TENTATIVE != 0
    }

    /// Status of the answer whose head was told last.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// How the body of the answer ends whose head was told last.
    #[must_use]
    pub const fn body(&self) -> Body {
        match Body::of(self.body, self.length) {
            Some(body) => body,
            None => Body::Empty,
        }
    }

    /// The sender of the answer whose head was told last closes after it: it says so, or it speaks HTTP/1.0 and does not
    /// say otherwise.
    #[must_use]
    pub const fn closes(&self) -> bool {
        self.close != 0
    }
}
