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
mod exchange;
mod facts;
mod flow;
mod head;
mod start;
mod token;

#[cfg(test)]
mod tests;

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

/// Where in a message the next byte stands. `…Cr`: a CR was read, only an LF may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// Before the first byte of a message; empty lines are skipped.
    Between,
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
    Length,
    ChunkStart,
    ChunkSize,
    /// White space after a chunk's size.
    ChunkGap,
    ChunkSizeCr,
    ChunkExtension,
    ChunkExtensionCr,
    ChunkData,
    ChunkDataCr,
    ChunkDataLf,
    /// The body ends with the connection.
    UntilClose,
    /// Joined in the middle of a stream: the next packet may begin with a request line, or not.
    Searching,
    /// Bytes after a complete answer that nobody asked for: they break the next answer, if there is one.
    Spoiled,
    /// Not HTTP, not HTTP any more, broken or lost: everything is skipped from here on.
    Over,
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

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Every byte was seen before.
    Old,
    /// Its bytes from this offset on are new. Bytes that were missed before them were body and are accounted for.
    From(u32),
    /// Bytes are missing whose content matters.
    Gap,
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

    /// Takes a packet of `len` bytes at sequence number `seq`; new bytes are to follow through [`Self::advance`].
    #[inline(always)]
    pub fn admit(&mut self, seq: u32, len: u32, exchange: &Exchange) -> (Admission, Facts) {
        match self.state {
            State::Searching => {
                self.next = seq.wrapping_add(len);
                self.begin();
                self.marks = mark::TENTATIVE;
                return (Admission::From(0), Facts::NONE);
            }
            State::Over | State::UntilClose => return (Admission::Old, Facts::NONE),
            _followed => {}
        }
        let ahead = seq.wrapping_sub(self.next) as i32;
        if ahead <= 0 {
            let seen = ahead.unsigned_abs();
            if seen >= len {
                return (Admission::Old, Facts::NONE);
            }
            self.next = seq.wrapping_add(len);
            return (Admission::From(seen), Facts::NONE);
        }
        let missed = ahead as u32;
        self.next = seq.wrapping_add(len);
        if self.skippable(exchange) < u64::from(missed) {
            return (Admission::Gap, Facts::NONE);
        }
        (Admission::From(0), self.skip(missed))
    }

    /// The stream cannot be followed any more. Told once.
    #[inline(always)]
    fn abandon(&mut self) -> Facts {
        let was_over = self.state == State::Over;
        self.state = State::Over;
        if was_over { Facts::NONE } else { Facts::OPAQUE }
    }

    /// What follows is none of ours, by agreement of both sides.
    #[inline(always)]
    fn end(&mut self) {
        self.state = State::Over;
    }

    /// The stream lost its thread; it is looked for again.
    #[inline(always)]
    fn search(&mut self) {
        self.state = State::Searching;
        self.marks = 0;
    }

    /// One step: skips a stretch of body, or reads the byte that `byte_at` finds at `position`. Moves `position` on, at
    /// most to `end`; the caller repeats until it is there. A byte that cannot be read ends the following.
    #[inline(always)]
    pub fn advance(
        &mut self,
        exchange: &mut Exchange,
        position: &mut u32,
        end: u32,
        byte_at: impl FnOnce(u32) -> Option<u8>,
    ) -> Facts {
        let left = end.wrapping_sub(*position);
        let skippable = self.skippable(exchange);
        if skippable > 0 {
            let stretch = if skippable < u64::from(left) { skippable as u32 } else { left };
            *position = position.wrapping_add(stretch);
            return self.skip(stretch);
        }
        match byte_at(*position) {
            Some(byte) => {
                *position = position.wrapping_add(1);
                self.step(byte, exchange)
            }
            None => {
                *position = end;
                self.abandon()
            }
        }
    }

    /// The packet ends here: what it began is told, even if the start line is not complete.
    #[inline(always)]
    pub fn pause(&mut self) -> Facts {
        if self.marks & mark::TENTATIVE != 0 {
            self.search();
            return Facts::NONE;
        }
        match self.state {
            State::Method
            | State::Target
            | State::RequestVersion
            | State::AnswerVersion
            | State::Status
            | State::Reason => self.tell_begun(),
            State::LineCr
            | State::LineStart
            | State::Name
            | State::Value
            | State::HeadCr
            | State::Between
            | State::Length
            | State::ChunkStart
            | State::ChunkSize
            | State::ChunkGap
            | State::ChunkSizeCr
            | State::ChunkExtension
            | State::ChunkExtensionCr
            | State::ChunkData
            | State::ChunkDataCr
            | State::ChunkDataLf
            | State::UntilClose
            | State::Searching
            | State::Spoiled
            | State::Over => Facts::NONE,
        }
    }

    /// Bytes that may pass unread from here.
    #[inline(always)]
    fn skippable(&self, exchange: &Exchange) -> u64 {
        match self.state {
            State::Length | State::ChunkData => self.remaining,
            State::UntilClose | State::Searching | State::Over => u64::MAX,
            State::Spoiled if !exchange.is_owed() => u64::MAX,
            _ => 0,
        }
    }

    #[inline(always)]
    fn skip(&mut self, stretch: u32) -> Facts {
        match self.state {
            State::Length => {
                self.remaining = self.remaining.wrapping_sub(u64::from(stretch));
                if self.remaining == 0 { self.complete() } else { Facts::NONE }
            }
            State::ChunkData => {
                self.remaining = self.remaining.wrapping_sub(u64::from(stretch));
                if self.remaining == 0 {
                    self.state = State::ChunkDataCr;
                }
                Facts::NONE
            }
            _ => Facts::NONE,
        }
    }

    #[inline(always)]
    fn step(&mut self, byte: u8, exchange: &mut Exchange) -> Facts {
        self.head = self.head.wrapping_add(1);
        let facts = match self.state {
            State::Between => self.first(byte, exchange),
            State::Method => self.method(byte, exchange),
            State::Target => self.target(byte, exchange),
            State::RequestVersion => self.request_version(byte, exchange),
            State::AnswerVersion => self.answer_version(byte, exchange),
            State::Status => self.status_digit(byte, exchange),
            State::Reason => self.reason(byte, exchange),
            State::LineCr => self.line_feed(byte, exchange),
            State::LineStart => self.line_start(byte, exchange),
            State::Name => self.name(byte, exchange),
            State::Value => self.value(byte, exchange),
            State::HeadCr => self.head_feed(byte, exchange),
            State::ChunkStart => self.chunk_start(byte, exchange),
            State::ChunkSize => self.chunk_size(byte, exchange),
            State::ChunkGap => self.chunk_gap(byte, exchange),
            State::ChunkSizeCr => self.chunk_feed(byte, exchange),
            State::ChunkExtension => self.chunk_extension(byte, exchange),
            State::ChunkExtensionCr => self.chunk_extension_feed(byte, exchange),
            State::ChunkDataCr => self.data_return(byte, exchange),
            State::ChunkDataLf => self.data_feed(byte, exchange),
            State::Spoiled => {
                // Somebody asks again: these bytes are taken for the answer.
                self.state = State::Over;
                Facts::MALFORMED
            }
            // Never read byte by byte.
            State::Length | State::ChunkData | State::UntilClose | State::Searching | State::Over => Facts::NONE,
        };
        if self.head > HEAD_MAX && self.is_in_line() {
            return facts.and(self.fail(exchange));
        }
        facts
    }

    /// Is it inside something whose length is limited?
    #[inline(always)]
    fn is_in_line(&self) -> bool {
        !matches!(
            self.state,
            State::Between
                | State::Length
                | State::ChunkStart
                | State::ChunkData
                | State::ChunkDataCr
                | State::ChunkDataLf
                | State::UntilClose
                | State::Searching
                | State::Spoiled
                | State::Over
        )
    }

    /// Forgets the last message.
    #[inline(always)]
    fn begin(&mut self) {
        self.state = State::Between;
        self.marks &= mark::TENTATIVE;
        self.head = 0;
        self.token = Token::EMPTY;
        self.digits = 0;
        self.header = Header::Missing;
        self.trailers = 0;
    }

    #[inline(always)]
    fn tell_begun(&mut self) -> Facts {
        if self.marks & mark::TOLD != 0 {
            return Facts::NONE;
        }
        self.marks |= mark::TOLD;
        Facts::BEGUN
    }

    #[inline(always)]
    fn complete(&mut self) -> Facts {
        self.begin();
        Facts::COMPLETE
    }

    /// The bytes break the framing.
    #[inline(always)]
    fn fail(&mut self, exchange: &Exchange) -> Facts {
        if self.marks & mark::TENTATIVE != 0 {
            self.search();
            return Facts::NONE;
        }
        match self.direction {
            Direction::Requests => self.abandon(),
            Direction::Answers => {
                if self.marks & mark::TOLD != 0 || exchange.is_owed() {
                    self.state = State::Over;
                    Facts::MALFORMED
                } else if exchange.was_asked() {
                    self.state = State::Spoiled;
                    Facts::NONE
                } else {
                    self.abandon()
                }
            }
        }
    }
}
