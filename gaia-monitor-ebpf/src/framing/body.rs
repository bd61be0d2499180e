//! Chunked bodies: sizes, extensions, data and trailers (RFC 9112, section 7.1).

use super::exchange::Exchange;
use super::facts::Facts;
use super::head::appended;
use super::token::Token;
use super::{Automaton, Header, State};

/// Longest size of a chunk in digits, as h11 has it.
const SIZE_DIGITS: u8 = 20;

impl Automaton {
    #[inline(always)]
    pub(super) fn begin_chunks(&mut self) -> Facts {
        self.state = State::ChunkStart;
        Facts::NONE
    }

    /// The first byte of a chunk's line: a size there must be.
    #[inline(always)]
    pub(super) fn chunk_start(&mut self, byte: u8, exchange: &Exchange) -> Facts {
        self.head = 1;
        self.remaining = 0;
        self.digits = 0;
        self.state = State::ChunkSize;
        if hex(byte).is_some() { self.chunk_size(byte, exchange) } else { self.fail(exchange) }
    }

    #[inline(always)]
    pub(super) fn chunk_size(&mut self, byte: u8, exchange: &Exchange) -> Facts {
        match hex(byte) {
            Some(_) if self.digits >= SIZE_DIGITS => self.fail(exchange),
            Some(digit) => {
                self.digits += 1;
                self.remaining = appended(self.remaining, 16, digit);
                Facts::NONE
            }
            None => self.chunk_gap(byte, exchange),
        }
    }

    #[inline(always)]
    pub(super) fn chunk_gap(&mut self, byte: u8, exchange: &Exchange) -> Facts {
        self.state = match byte {
            b' ' | b'\t' => State::ChunkGap,
            b';' => State::ChunkExtension,
            b'\r' => State::ChunkSizeCr,
            _other => return self.fail(exchange),
        };
        Facts::NONE
    }

    #[inline(always)]
    pub(super) fn chunk_extension(&mut self, byte: u8, exchange: &Exchange) -> Facts {
        match byte {
            b'\r' => self.state = State::ChunkExtensionCr,
            // A line of chunks ends in CR LF, unlike a header's.
            b'\n' => return self.fail(exchange),
            _any => {}
        }
        Facts::NONE
    }

    #[inline(always)]
    pub(super) fn chunk_extension_feed(&mut self, byte: u8, exchange: &Exchange) -> Facts {
        match byte {
            b'\n' => self.chunk_feed(byte, exchange),
            b'\r' => Facts::NONE,
            _any => {
                self.state = State::ChunkExtension;
                Facts::NONE
            }
        }
    }

    /// After the CR of a chunk's line.
    #[inline(always)]
    pub(super) fn chunk_feed(&mut self, byte: u8, exchange: &Exchange) -> Facts {
        if byte != b'\n' {
            return self.fail(exchange);
        }
        if self.remaining == 0 {
            self.state = State::LineStart;
            self.trailers = 1;
            self.head = 0;
            self.header = Header::Missing;
            self.token = Token::EMPTY;
        } else {
            self.state = State::ChunkData;
        }
        Facts::NONE
    }

    #[inline(always)]
    pub(super) fn data_return(&mut self, byte: u8, exchange: &Exchange) -> Facts {
        if byte != b'\r' {
            return self.fail(exchange);
        }
        self.state = State::ChunkDataLf;
        Facts::NONE
    }

    #[inline(always)]
    pub(super) fn data_feed(&mut self, byte: u8, exchange: &Exchange) -> Facts {
        if byte != b'\n' {
            return self.fail(exchange);
        }
        self.state = State::ChunkStart;
        Facts::NONE
    }
}

#[inline(always)]
const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _other => None,
    }
}
