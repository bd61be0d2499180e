//! HTTP/1.x message framing of one direction of a TCP connection.
//!
//! A [`Parser`] is fed the bytes of one direction in order. It reports the start of a message, the end of its header
//! section, the end of its body, and bytes that break the framing. The probe runs it in the kernel and the tests run it
//! on the host, from the same code. It therefore allocates nothing, indexes nothing and cannot panic. It keeps counters
//! and no traffic: the longest stored text is the 17-byte name of the current header field. Bodies are skipped by
//! length; only header sections and chunk lines are read, plain bytes up to eight at a time.
//!
//! Validity follows h11, which determines the exceptions of httpx, but accepts what RFC 9112 allows and h11 rejects.

mod chunked;
mod facts;
mod flow;
mod headers;
mod outstanding;
mod plain;
mod segment;
mod start_line;
mod token;

#[cfg(test)]
mod tests;

pub use self::facts::{Body, Facts};
pub use self::flow::{Direction, Flow, Opening};
pub use self::outstanding::{Outstanding, RequestMethod};
pub use self::plain::WORD;
pub use self::segment::Continuity;

use self::token::Token;

/// Maximum length in bytes of a header section, chunk line or trailer section. httpcore sets h11's
/// `MAX_INCOMPLETE_EVENT_SIZE` to 100 * 1024; a longer incomplete section breaks the connection.
pub const SECTION_MAX: u32 = 100 * 1024;

/// Kind of the messages in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageKind {
    Request,
    Response,
}

/// Position of the next byte in a message. `…Cr`: after a CR, where only an LF is valid.
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
    ResponseVersion,
    Status,
    Reason,
    /// A CR ended a line of the header section.
    LineCr,
    LineStart,
    FieldName,
    FieldValue,
    /// A CR at the start of a line: the empty line that ends the section.
    SectionCr,
    ChunkSize,
    /// White space after a chunk size.
    ChunkSizeSpace,
    ChunkSizeCr,
    ChunkExtension,
    ChunkExtensionCr,
    Length,
    ChunkData,
    /// Surplus bytes after a complete response: they break the next response, if there is one.
    Surplus,
    /// The body ends with the connection.
    UntilClose,
    /// Not HTTP, no longer HTTP, malformed or incomplete: all further bytes are skipped.
    Over,
}

/// How the bytes at a [`State`] are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Skipped up to the next packet.
    Searching,
    /// Single bytes between messages and around chunk data: read, without a limit.
    Between,
    /// Read; counts against [`SECTION_MAX`]. The start of the message is reported at the end of the packet.
    StartLine,
    /// A header line, chunk line or trailer: read; counts against [`SECTION_MAX`].
    Line,
    /// Skipped, counted by `remaining`.
    Body,
    /// Skipped until the next request.
    Surplus,
    /// Skipped until the connection closes.
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
            | State::ResponseVersion
            | State::Status
            | State::Reason => Class::StartLine,
            State::LineCr
            | State::LineStart
            | State::FieldName
            | State::FieldValue
            | State::SectionCr
            | State::ChunkSize
            | State::ChunkSizeSpace
            | State::ChunkSizeCr
            | State::ChunkExtension
            | State::ChunkExtensionCr => Class::Line,
            State::Length | State::ChunkData => Class::Body,
            State::Surplus => Class::Surplus,
            State::UntilClose | State::Over => Class::Over,
        }
    }
}

/// The header field of the current line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Field {
    /// No field precedes this line, so a continuation line is invalid.
    None,
    Other,
    ContentLength,
    TransferEncoding,
    Connection,
}

/// Bits of [`Parser::flags`], for the current message.
mod flag {
    /// The start of the message was reported.
    pub const REPORTED: u8 = 1;
    /// A guess in the middle of a stream: failures are not reported.
    pub const TENTATIVE: u8 = 1 << 1;
    pub const HTTP_1_0: u8 = 1 << 2;
    pub const CLOSE: u8 = 1 << 3;
    pub const KEEP_ALIVE: u8 = 1 << 4;
    pub const HAS_LENGTH: u8 = 1 << 5;
    /// The last transfer coding is `chunked`.
    pub const CHUNKED: u8 = 1 << 6;
    /// The last transfer coding is not `chunked`.
    pub const CODED: u8 = 1 << 7;
}

/// State of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Parser {
    /// Bytes left of the body or chunk. In a `Content-Length` value or a chunk size: the number read so far.
    remaining: u64,
    /// `Content-Length` of the current message.
    length: u64,
    /// The current word: a method, version, field name, or item of a field value.
    token: Token,
    /// TCP sequence number of the next byte.
    next: u32,
    /// Bytes read of the header section, chunk line or trailer section.
    section_len: u32,
    status: u16,
    state: State,
    kind: MessageKind,
    field: Field,
    flags: u8,
    /// Digits read of a status, length or chunk size.
    digits: u8,
    /// 1: the current lines are trailers.
    trailers: u8,
    /// Of the last reported response headers: the number of the [`Body`], and 1 if the sender closes the connection
    /// after the response.
    body: u8,
    close: u8,
    reserved: [u8; 6],
}

impl Parser {
    /// A direction with `next` as the sequence number of its first byte.
    #[must_use]
    pub const fn new(kind: MessageKind, next: u32) -> Self {
        Self {
            remaining: 0,
            length: 0,
            token: Token::EMPTY,
            next,
            section_len: 0,
            status: 0,
            state: State::Between,
            kind,
            field: Field::None,
            flags: 0,
            digits: 0,
            trailers: 0,
            body: 0,
            close: 0,
            reserved: [0; 6],
        }
    }

    /// A direction that is joined in the middle. It waits for a packet that begins with a request line.
    #[must_use]
    pub const fn searching() -> Self {
        let mut parser = Self::new(MessageKind::Request, 0);
        parser.state = State::Searching;
        parser
    }

    /// Replaces the parser by a new one, in place.
    #[inline(always)]
    fn restart(&mut self, kind: MessageKind, next: u32) {
        *self = Self::new(kind, next);
    }

    /// Sets the sequence number of the next byte.
    #[inline(always)]
    fn set_next(&mut self, next: u32) {
        self.next = next;
    }

    #[must_use]
    pub const fn kind(&self) -> MessageKind {
        self.kind
    }

    /// True until the first message of a direction joined in the middle is found.
    #[must_use]
    pub fn is_searching(&self) -> bool {
        self.state == State::Searching || self.flags & flag::TENTATIVE != 0
    }

    /// Status in the last reported response headers.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Body according to the last reported response headers.
    #[must_use]
    pub const fn body(&self) -> Body {
        match Body::of(self.body, self.length) {
            Some(body) => body,
            None => Body::Empty,
        }
    }

    /// True if the sender closes the connection after the response, according to the last reported headers: by
    /// `Connection: close`, or by HTTP/1.0 without `keep-alive`.
    #[must_use]
    pub const fn closes(&self) -> bool {
        self.close != 0
    }
}
