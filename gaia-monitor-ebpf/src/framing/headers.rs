//! Header and trailer lines: field names, and the values of the three fields that determine the framing.

use super::facts::{Body, Facts};
use super::outstanding::{Outstanding, RequestMethod};
use super::token::{Token, is_text, is_token};
use super::{Field, MessageKind, Parser, State, flag};

const CONTENT_LENGTH: Token = Token::of(b"content-length");
const TRANSFER_ENCODING: Token = Token::of(b"transfer-encoding");
const CONNECTION: Token = Token::of(b"connection");
const CHUNKED: Token = Token::of(b"chunked");
const CLOSE: Token = Token::of(b"close");
const KEEP_ALIVE: Token = Token::of(b"keep-alive");

/// Maximum number of digits in a `Content-Length`: h11's `CONTENT_LENGTH_MAX_DIGITS`.
const LENGTH_DIGITS: u8 = 20;

const SWITCHING_PROTOCOLS: u16 = 101;
const NO_CONTENT: u16 = 204;
const NOT_MODIFIED: u16 = 304;

impl Parser {
    /// After the CR of a line.
    #[inline(always)]
    pub(super) fn line_lf(&mut self, byte: u8, outstanding: &Outstanding) -> Facts {
        if byte != b'\n' {
            return self.fail(outstanding);
        }
        self.state = State::LineStart;
        Facts::NONE
    }

    #[inline(always)]
    pub(super) fn line_start(&mut self, byte: u8, outstanding: &mut Outstanding) -> Facts {
        if byte == b' ' || byte == b'\t' {
            // A continuation of the previous value (obs-fold of RFC 9112, section 5.2), which h11 accepts.
            if self.field == Field::None {
                return self.fail(outstanding);
            }
            self.token.close();
            self.state = State::FieldValue;
            return Facts::NONE;
        }
        // Without a continuation line the previous value is complete.
        if !self.end_value() {
            return self.fail(outstanding);
        }
        if byte == b'\r' {
            self.state = State::SectionCr;
        } else if byte == b'\n' {
            return self.end_section(outstanding);
        } else if is_token(byte) {
            self.token = Token::EMPTY;
            self.token.push(byte);
            self.state = State::FieldName;
        } else {
            return self.fail(outstanding);
        }
        Facts::NONE
    }

    #[inline(always)]
    pub(super) fn field_name(&mut self, byte: u8, outstanding: &Outstanding) -> Facts {
        if byte == b':' {
            // Trailers arrive after the body and cannot change its framing.
            self.field = if self.trailers != 0 {
                Field::Other
            } else if self.token.is(&CONTENT_LENGTH) {
                Field::ContentLength
            } else if self.token.is(&TRANSFER_ENCODING) {
                Field::TransferEncoding
            } else if self.token.is(&CONNECTION) {
                Field::Connection
            } else {
                Field::Other
            };
            self.token = Token::EMPTY;
            self.digits = 0;
            self.remaining = 0;
            self.state = State::FieldValue;
            return Facts::NONE;
        }
        if !is_token(byte) {
            return self.fail(outstanding);
        }
        self.token.push(byte);
        Facts::NONE
    }

    #[inline(always)]
    pub(super) fn field_value(&mut self, byte: u8, outstanding: &Outstanding) -> Facts {
        if byte == b'\r' {
            self.state = State::LineCr;
            return Facts::NONE;
        }
        if byte == b'\n' {
            self.state = State::LineStart;
            return Facts::NONE;
        }
        let fits = match self.field {
            Field::ContentLength => self.length_byte(byte),
            Field::TransferEncoding | Field::Connection => self.list_byte(byte),
            Field::Other | Field::None => is_text(byte),
        };
        if fits { Facts::NONE } else { self.fail(outstanding) }
    }

    /// One byte of a comma-separated list.
    #[inline(always)]
    fn list_byte(&mut self, byte: u8) -> bool {
        match byte {
            b' ' | b'\t' => self.token.close(),
            b',' => self.end_item(),
            byte => self.token.push(byte),
        }
        is_text(byte)
    }

    #[inline(always)]
    fn end_item(&mut self) {
        if self.token.is_empty() {
            return;
        }
        if self.field == Field::TransferEncoding {
            // The last coding determines the framing (RFC 9112, section 6.3). h11 rejects every coding but `chunked`;
            // the RFC does not.
            self.flags &= !(flag::CHUNKED | flag::CODED);
            self.flags |= if self.token.is(&CHUNKED) { flag::CHUNKED } else { flag::CODED };
        } else if self.token.is(&CLOSE) {
            self.flags |= flag::CLOSE;
        } else if self.token.is(&KEEP_ALIVE) {
            self.flags |= flag::KEEP_ALIVE;
        }
        self.token = Token::EMPTY;
    }

    /// One byte of a `Content-Length`: a number, or a list of equal numbers.
    #[inline(always)]
    fn length_byte(&mut self, byte: u8) -> bool {
        match byte {
            b' ' | b'\t' => {
                self.token.close();
                true
            }
            b',' => self.end_length(),
            b'0'..=b'9' if self.digits < LENGTH_DIGITS => {
                // White space inside a number.
                if self.token.is_closed() {
                    return false;
                }
                self.token.push_exact(byte);
                self.digits += 1;
                self.remaining = append_digit(self.remaining, 10, byte - b'0');
                true
            }
            _other => false,
        }
    }

    #[inline(always)]
    fn end_length(&mut self) -> bool {
        if self.digits == 0 {
            return false;
        }
        if self.flags & flag::HAS_LENGTH != 0 && self.length != self.remaining {
            return false;
        }
        self.length = self.remaining;
        self.flags |= flag::HAS_LENGTH;
        self.token = Token::EMPTY;
        self.digits = 0;
        self.remaining = 0;
        true
    }

    #[inline(always)]
    fn end_value(&mut self) -> bool {
        match self.field {
            Field::ContentLength => self.end_length(),
            Field::TransferEncoding | Field::Connection => {
                self.end_item();
                true
            }
            Field::Other | Field::None => true,
        }
    }

    /// After the CR of the empty line.
    #[inline(always)]
    pub(super) fn section_lf(&mut self, byte: u8, outstanding: &mut Outstanding) -> Facts {
        if byte == b'\n' { self.end_section(outstanding) } else { self.fail(outstanding) }
    }

    #[inline(always)]
    fn end_section(&mut self, outstanding: &mut Outstanding) -> Facts {
        if self.trailers != 0 {
            return self.complete();
        }
        match self.kind {
            MessageKind::Request => self.end_request_headers(outstanding),
            MessageKind::Response => self.end_response_headers(outstanding),
        }
    }

    #[inline(always)]
    fn end_request_headers(&mut self, outstanding: &Outstanding) -> Facts {
        if self.flags & flag::CODED != 0 {
            // The end of such a request cannot be determined (RFC 9112, section 6.3, point 4.2).
            return self.fail(outstanding);
        }
        if self.flags & flag::CHUNKED != 0 {
            return self.begin_chunks();
        }
        if self.flags & flag::HAS_LENGTH != 0 { self.begin_length() } else { self.complete() }
    }

    #[inline(always)]
    fn end_response_headers(&mut self, outstanding: &mut Outstanding) -> Facts {
        if self.status == SWITCHING_PROTOCOLS {
            outstanding.upgrade();
            self.state = State::Over;
            return Facts::UPGRADED;
        }
        if self.status < 200 {
            self.begin();
            return Facts::INFORMATIONAL;
        }
        let by_version = self.flags & flag::HTTP_1_0 != 0 && self.flags & flag::KEEP_ALIVE == 0;
        self.close = u8::from(by_version || self.flags & flag::CLOSE != 0);
        let Some(method) = outstanding.pop() else { return self.abandon() };
        // The order of RFC 9112, section 6.3.
        if method == RequestMethod::Connect && self.status < 300 {
            outstanding.upgrade();
            self.state = State::Over;
            self.body = Body::Empty.number();
            return Facts::HEADERS.and(Facts::UPGRADED);
        }
        if method == RequestMethod::Head || self.status == NO_CONTENT || self.status == NOT_MODIFIED {
            self.body = Body::Empty.number();
            return Facts::HEADERS.and(self.complete());
        }
        if self.flags & flag::CHUNKED != 0 {
            self.body = Body::Chunked.number();
            return Facts::HEADERS.and(self.begin_chunks());
        }
        if self.flags & flag::CODED == 0 && self.flags & flag::HAS_LENGTH != 0 {
            self.body = Body::Length(0).number();
            return Facts::HEADERS.and(self.begin_length());
        }
        self.body = Body::UntilClose.number();
        self.state = State::UntilClose;
        Facts::HEADERS
    }

    #[inline(always)]
    fn begin_length(&mut self) -> Facts {
        self.remaining = self.length;
        self.state = State::Length;
        if self.remaining == 0 { self.complete() } else { Facts::NONE }
    }
}

/// Appends a digit to `number`. Saturates: no body is that long.
#[inline(always)]
pub(super) const fn append_digit(number: u64, base: u64, digit: u8) -> u64 {
    // Compared, because a checked multiplication takes 128 bits, which BPF does not have.
    if number > (u64::MAX >> 5) {
        return u64::MAX;
    }
    number * base + digit as u64
}
