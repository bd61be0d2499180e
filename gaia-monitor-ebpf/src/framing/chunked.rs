//! Chunked bodies: chunk sizes, extensions and data (RFC 9112, section 7.1). Trailers are parsed as header lines.

use super::facts::Facts;
use super::headers::append_digit;
use super::outstanding::Outstanding;
use super::token::Token;
use super::{Field, Parser, State};

/// Maximum number of digits in a chunk size, as in h11.
const SIZE_DIGITS: u8 = 20;

impl Parser {
    #[inline(always)]
    pub(super) fn begin_chunks(&mut self) -> Facts {
        self.state = State::ChunkStart;
        Facts::NONE
    }

    /// The first byte of a chunk line, which must be a digit.
    #[inline(always)]
    pub(super) fn chunk_start(&mut self, byte: u8, outstanding: &Outstanding) -> Facts {
        self.section_len = 1;
        self.remaining = 0;
        self.digits = 0;
        self.state = State::ChunkSize;
        if hex(byte).is_some() { self.chunk_size(byte, outstanding) } else { self.fail(outstanding) }
    }

    #[inline(always)]
    pub(super) fn chunk_size(&mut self, byte: u8, outstanding: &Outstanding) -> Facts {
        match hex(byte) {
            Some(_) if self.digits >= SIZE_DIGITS => self.fail(outstanding),
            Some(digit) => {
                self.digits += 1;
                self.remaining = append_digit(self.remaining, 16, digit);
                Facts::NONE
            }
            None => self.chunk_size_end(byte, outstanding),
        }
    }

    /// A byte after the digits of a chunk size.
    #[inline(always)]
    pub(super) fn chunk_size_end(&mut self, byte: u8, outstanding: &Outstanding) -> Facts {
        self.state = match byte {
            b' ' | b'\t' => State::ChunkSizeSpace,
            b';' => State::ChunkExtension,
            b'\r' => State::ChunkSizeCr,
            _other => return self.fail(outstanding),
        };
        Facts::NONE
    }

    #[inline(always)]
    pub(super) fn chunk_extension(&mut self, byte: u8, outstanding: &Outstanding) -> Facts {
        match byte {
            b'\r' => self.state = State::ChunkExtensionCr,
            // Unlike a header line, a chunk line must end in CR LF.
            b'\n' => return self.fail(outstanding),
            _any => {}
        }
        Facts::NONE
    }

    #[inline(always)]
    pub(super) fn chunk_extension_lf(&mut self, byte: u8, outstanding: &Outstanding) -> Facts {
        match byte {
            b'\n' => self.chunk_size_lf(byte, outstanding),
            b'\r' => Facts::NONE,
            _any => {
                self.state = State::ChunkExtension;
                Facts::NONE
            }
        }
    }

    /// After the CR of a chunk line.
    #[inline(always)]
    pub(super) fn chunk_size_lf(&mut self, byte: u8, outstanding: &Outstanding) -> Facts {
        if byte != b'\n' {
            return self.fail(outstanding);
        }
        if self.remaining == 0 {
            self.state = State::LineStart;
            self.trailers = 1;
            self.section_len = 0;
            self.field = Field::None;
            self.token = Token::EMPTY;
        } else {
            self.state = State::ChunkData;
        }
        Facts::NONE
    }

    #[inline(always)]
    pub(super) fn chunk_data_cr(&mut self, byte: u8, outstanding: &Outstanding) -> Facts {
        if byte != b'\r' {
            return self.fail(outstanding);
        }
        self.state = State::ChunkDataLf;
        Facts::NONE
    }

    #[inline(always)]
    pub(super) fn chunk_data_lf(&mut self, byte: u8, outstanding: &Outstanding) -> Facts {
        if byte != b'\n' {
            return self.fail(outstanding);
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
