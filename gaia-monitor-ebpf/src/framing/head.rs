//! The lines between the start line and the body, and trailers: which header it is, and what three of them say.

use super::exchange::{Asked, Exchange};
use super::facts::{Body, Facts};
use super::token::{Token, is_text, is_token};
use super::{Automaton, Direction, Header, State, mark};

const CONTENT_LENGTH: Token = Token::of(b"content-length");
const TRANSFER_ENCODING: Token = Token::of(b"transfer-encoding");
const CONNECTION: Token = Token::of(b"connection");
const CHUNKED: Token = Token::of(b"chunked");
const CLOSE: Token = Token::of(b"close");
const KEEP_ALIVE: Token = Token::of(b"keep-alive");

/// Longest `Content-Length` in digits: h11's `CONTENT_LENGTH_MAX_DIGITS`.
const LENGTH_DIGITS: u8 = 20;

const SWITCHING_PROTOCOLS: u16 = 101;
const NO_CONTENT: u16 = 204;
const NOT_MODIFIED: u16 = 304;

impl Automaton {
    /// After the CR of a line.
    #[inline(always)]
    pub(super) fn line_feed(&mut self, byte: u8, exchange: &Exchange) -> Facts {
        if byte != b'\n' {
            return self.fail(exchange);
        }
        self.state = State::LineStart;
        Facts::NONE
    }

    #[inline(always)]
    pub(super) fn line_start(&mut self, byte: u8, exchange: &mut Exchange) -> Facts {
        if byte == b' ' || byte == b'\t' {
            // A continuation of the last value (obs-fold of RFC 9112, section 5.2), which h11 still takes.
            if self.header == Header::Missing {
                return self.fail(exchange);
            }
            self.token.pause();
            self.state = State::Value;
            return Facts::NONE;
        }
        // Only now the last value is known to be complete.
        if !self.end_of_value() {
            return self.fail(exchange);
        }
        if byte == b'\r' {
            self.state = State::HeadCr;
        } else if byte == b'\n' {
            return self.end_of_head(exchange);
        } else if is_token(byte) {
            self.token = Token::EMPTY;
            self.token.push(byte);
            self.state = State::Name;
        } else {
            return self.fail(exchange);
        }
        Facts::NONE
    }

    #[inline(always)]
    pub(super) fn name(&mut self, byte: u8, exchange: &Exchange) -> Facts {
        if byte == b':' {
            // What a trailer says comes too late to matter.
            self.header = if self.trailers != 0 {
                Header::Other
            } else if self.token.is(&CONTENT_LENGTH) {
                Header::ContentLength
            } else if self.token.is(&TRANSFER_ENCODING) {
                Header::TransferEncoding
            } else if self.token.is(&CONNECTION) {
                Header::Connection
            } else {
                Header::Other
            };
            self.token = Token::EMPTY;
            self.digits = 0;
            self.remaining = 0;
            self.state = State::Value;
            return Facts::NONE;
        }
        if !is_token(byte) {
            return self.fail(exchange);
        }
        self.token.push(byte);
        Facts::NONE
    }

    #[inline(always)]
    pub(super) fn value(&mut self, byte: u8, exchange: &Exchange) -> Facts {
        if byte == b'\r' {
            self.state = State::LineCr;
            return Facts::NONE;
        }
        if byte == b'\n' {
            self.state = State::LineStart;
            return Facts::NONE;
        }
        let fits = match self.header {
            Header::ContentLength => self.length_byte(byte),
            Header::TransferEncoding | Header::Connection => self.item_byte(byte),
            Header::Other | Header::Missing => is_text(byte),
        };
        if fits { Facts::NONE } else { self.fail(exchange) }
    }

    /// One byte of a list of words.
    #[inline(always)]
    fn item_byte(&mut self, byte: u8) -> bool {
        match byte {
            b' ' | b'\t' => self.token.pause(),
            b',' => self.end_of_item(),
            byte => self.token.push(byte),
        }
        is_text(byte)
    }

    #[inline(always)]
    fn end_of_item(&mut self) {
        if self.token.is_empty() {
            return;
        }
        if self.header == Header::TransferEncoding {
            // The last coding decides (RFC 9112, section 6.3). h11 refuses every other than `chunked`; the RFC does not.
            self.marks &= !(mark::CHUNKED | mark::CODED);
            self.marks |= if self.token.is(&CHUNKED) { mark::CHUNKED } else { mark::CODED };
        } else if self.token.is(&CLOSE) {
            self.marks |= mark::CLOSE;
        } else if self.token.is(&KEEP_ALIVE) {
            self.marks |= mark::KEEP_ALIVE;
        }
        self.token = Token::EMPTY;
    }

    /// One byte of a `Content-Length`: a number, or a list that repeats it.
    #[inline(always)]
    fn length_byte(&mut self, byte: u8) -> bool {
        match byte {
            b' ' | b'\t' => {
                self.token.pause();
                true
            }
            b',' => self.end_of_length(),
            b'0'..=b'9' if self.digits < LENGTH_DIGITS => {
                // White space inside a number.
                if self.token.is_closed() {
                    return false;
                }
                self.token.push_exact(byte);
                self.digits += 1;
                self.remaining = appended(self.remaining, 10, byte - b'0');
                true
            }
            _other => false,
        }
    }

    #[inline(always)]
    fn end_of_length(&mut self) -> bool {
        if self.digits == 0 {
            return false;
        }
        if self.marks & mark::HAS_LENGTH != 0 && self.length != self.remaining {
            return false;
        }
        self.length = self.remaining;
        self.marks |= mark::HAS_LENGTH;
        self.token = Token::EMPTY;
        self.digits = 0;
        self.remaining = 0;
        true
    }

    #[inline(always)]
    fn end_of_value(&mut self) -> bool {
        match self.header {
            Header::ContentLength => self.end_of_length(),
            Header::TransferEncoding | Header::Connection => {
                self.end_of_item();
                true
            }
            Header::Other | Header::Missing => true,
        }
    }

    /// After the CR of the empty line.
    #[inline(always)]
    pub(super) fn head_feed(&mut self, byte: u8, exchange: &mut Exchange) -> Facts {
        if byte == b'\n' { self.end_of_head(exchange) } else { self.fail(exchange) }
    }

    #[inline(always)]
    fn end_of_head(&mut self, exchange: &mut Exchange) -> Facts {
        if self.trailers != 0 {
            return self.complete();
        }
        match self.direction {
            Direction::Requests => self.end_of_request_head(exchange),
            Direction::Answers => self.end_of_answer_head(exchange),
        }
    }

    #[inline(always)]
    fn end_of_request_head(&mut self, exchange: &Exchange) -> Facts {
        if self.marks & mark::CODED != 0 {
            // Its end cannot be known (RFC 9112, section 6.3, point 4.2).
            return self.fail(exchange);
        }
        if self.marks & mark::CHUNKED != 0 {
            return self.begin_chunks();
        }
        if self.marks & mark::HAS_LENGTH != 0 { self.begin_length() } else { self.complete() }
    }

    #[inline(always)]
    fn end_of_answer_head(&mut self, exchange: &mut Exchange) -> Facts {
        if self.status == SWITCHING_PROTOCOLS {
            exchange.upgrade();
            self.state = State::Over;
            return Facts::UPGRADED;
        }
        if self.status < 200 {
            self.begin();
            return Facts::INFORMATIONAL;
        }
        let old = self.marks & mark::HTTP_1_0 != 0 && self.marks & mark::KEEP_ALIVE == 0;
        self.close = u8::from(old || self.marks & mark::CLOSE != 0);
        let Some(asked) = exchange.answer() else { return self.abandon() };
        // RFC 9112, section 6.3, in its order.
        if asked == Asked::Connect && self.status < 300 {
            exchange.upgrade();
            self.state = State::Over;
            self.body = Body::Empty.kind();
            return Facts::HEAD.and(Facts::UPGRADED);
        }
        if asked == Asked::Head || self.status == NO_CONTENT || self.status == NOT_MODIFIED {
            self.body = Body::Empty.kind();
            return Facts::HEAD.and(self.complete());
        }
        if self.marks & mark::CHUNKED != 0 {
            self.body = Body::Chunked.kind();
            return Facts::HEAD.and(self.begin_chunks());
        }
        if self.marks & mark::CODED == 0 && self.marks & mark::HAS_LENGTH != 0 {
            self.body = Body::Length(0).kind();
            return Facts::HEAD.and(self.begin_length());
        }
        self.body = Body::UntilClose.kind();
        self.state = State::UntilClose;
        Facts::HEAD
    }

    #[inline(always)]
    fn begin_length(&mut self) -> Facts {
        self.remaining = self.length;
        self.state = State::Length;
        if self.remaining == 0 { self.complete() } else { Facts::NONE }
    }
}

/// `number` with one more digit. Stops at the largest number: no body is that long.
#[inline(always)]
pub(super) const fn appended(number: u64, base: u64, digit: u8) -> u64 {
    // By comparison: a checked multiplication takes 128 bits, which the kernel's machine has not.
    if number > (u64::MAX >> 5) {
        return u64::MAX;
    }
    number * base + digit as u64
}
