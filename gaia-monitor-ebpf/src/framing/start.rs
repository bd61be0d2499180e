//! The first line of a message: method, target and version, or version, status and reason.

use super::exchange::{Asked, Exchange};
use super::facts::Facts;
use super::token::{Token, is_text, is_token};
use super::{Automaton, Direction, State, mark};

/// Longest method in bytes. RFC 9110 knows none above 7, WebDAV's reach 16; a longer word is another protocol.
const METHOD_MAX: u16 = 32;

/// Methods that decide about the answer's body. They are case-sensitive (RFC 9110, section 9.1).
const HEAD: Token = Token::of(b"HEAD");
const CONNECT: Token = Token::of(b"CONNECT");

/// What every version begins with, the first byte lowest.
const PREFIX: u64 = u64::from_le_bytes(*b"HTTP/\0\0\0");
// Places in a version, `HTTP/1.1`; kept in `digits`.
const MAJOR: u8 = 5;
const DOT: u8 = 6;
const MINOR: u8 = 7;
const VERSION_LEN: u8 = 8;

const STATUS_DIGITS: u8 = 3;

impl Automaton {
    #[inline(always)]
    pub(super) fn first(&mut self, byte: u8, exchange: &mut Exchange) -> Facts {
        if byte == b'\r' || byte == b'\n' {
            // An empty line before a request is ignored (RFC 9112, section 2.2); before an answer h11 refuses it. After an
            // answer it does no harm.
            if self.direction == Direction::Answers && exchange.is_owed() {
                return self.fail(exchange);
            }
            self.head = 0;
            return Facts::NONE;
        }
        self.begin();
        self.head = 1;
        match self.direction {
            Direction::Requests => {
                self.state = State::Method;
                self.method(byte, exchange)
            }
            Direction::Answers => {
                self.state = State::AnswerVersion;
                self.answer_version(byte, exchange)
            }
        }
    }

    #[inline(always)]
    pub(super) fn method(&mut self, byte: u8, exchange: &Exchange) -> Facts {
        if byte == b' ' && !self.token.is_empty() {
            self.state = State::Target;
            return Facts::NONE;
        }
        if !is_token(byte) || self.token.len() >= METHOD_MAX {
            return self.fail(exchange);
        }
        self.token.push_exact(byte);
        Facts::NONE
    }

    #[inline(always)]
    pub(super) fn target(&mut self, byte: u8, exchange: &Exchange) -> Facts {
        if byte == b' ' {
            self.state = State::RequestVersion;
            self.digits = 0;
            return Facts::NONE;
        }
        if byte < b' ' || byte == 0x7f { self.fail(exchange) } else { Facts::NONE }
    }

    #[inline(always)]
    pub(super) fn request_version(&mut self, byte: u8, exchange: &mut Exchange) -> Facts {
        if self.digits < VERSION_LEN {
            // HTTP/2 begins with a line of its own, `PRI * HTTP/2.0`, and is none of ours.
            let fits = self.version_byte(byte) && (self.digits != MAJOR || byte == b'1');
            self.digits += 1;
            return if fits { Facts::NONE } else { self.fail(exchange) };
        }
        if byte == b'\r' {
            self.state = State::LineCr;
        } else if byte == b'\n' {
            self.state = State::LineStart;
        } else {
            return self.fail(exchange);
        }
        self.marks &= !mark::TENTATIVE;
        exchange.ask(if self.token.is(&HEAD) {
            Asked::Head
        } else if self.token.is(&CONNECT) {
            Asked::Connect
        } else {
            Asked::Other
        });
        self.token = Token::EMPTY;
        self.tell_begun()
    }

    #[inline(always)]
    pub(super) fn answer_version(&mut self, byte: u8, exchange: &Exchange) -> Facts {
        if self.digits < VERSION_LEN {
            let fits = self.version_byte(byte);
            self.digits += 1;
            return if fits { Facts::NONE } else { self.fail(exchange) };
        }
        if byte != b' ' {
            return self.fail(exchange);
        }
        self.state = State::Status;
        self.status = 0;
        self.digits = 0;
        self.tell_begun()
    }

    /// Does the byte fit its place in a version?
    #[inline(always)]
    fn version_byte(&mut self, byte: u8) -> bool {
        match self.digits {
            MAJOR => byte.is_ascii_digit(),
            DOT => byte == b'.',
            MINOR => {
                // 1.0 is the only HTTP/1.x that ends in 0.
                if byte == b'0' {
                    self.marks |= mark::HTTP_1_0;
                }
                byte.is_ascii_digit()
            }
            place => PREFIX >> (8 * (place & 7)) & 0xff == u64::from(byte),
        }
    }

    #[inline(always)]
    pub(super) fn status_digit(&mut self, byte: u8, exchange: &Exchange) -> Facts {
        if self.digits < STATUS_DIGITS {
            if !byte.is_ascii_digit() {
                return self.fail(exchange);
            }
            self.status = self.status.wrapping_mul(10).wrapping_add(u16::from(byte - b'0'));
            self.digits += 1;
            return Facts::NONE;
        }
        // The reason may lack, even its space.
        self.state = match byte {
            b' ' => State::Reason,
            b'\r' => State::LineCr,
            b'\n' => State::LineStart,
            _other => return self.fail(exchange),
        };
        if self.status < 100 { self.fail(exchange) } else { Facts::NONE }
    }

    #[inline(always)]
    pub(super) fn reason(&mut self, byte: u8, exchange: &Exchange) -> Facts {
        match byte {
            b'\r' => self.state = State::LineCr,
            b'\n' => self.state = State::LineStart,
            byte if !is_text(byte) => return self.fail(exchange),
            _text => {}
        }
        Facts::NONE
    }
}
