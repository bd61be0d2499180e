//! Start lines: method, target and version of a request; version, status and reason of a response.

use super::facts::Facts;
use super::outstanding::{Outstanding, RequestMethod};
use super::token::{Token, is_text, is_token};
use super::{MessageKind, Parser, State, flag};

/// Maximum length of a method in bytes. The longest method of RFC 9110 has 7, of WebDAV 16; a longer word is another
/// protocol.
const METHOD_MAX: u16 = 32;

/// Methods that determine the body of the response. They are case-sensitive (RFC 9110, section 9.1).
const HEAD: Token = Token::of(b"HEAD");
const CONNECT: Token = Token::of(b"CONNECT");

/// Prefix of every version, the first byte lowest.
const PREFIX: u64 = u64::from_le_bytes(*b"HTTP/\0\0\0");
// Offsets in a version such as `HTTP/1.1`; the current one is in `digits`.
const MAJOR: u8 = 5;
const DOT: u8 = 6;
const MINOR: u8 = 7;
const VERSION_LEN: u8 = 8;

const STATUS_DIGITS: u8 = 3;

impl Parser {
    #[inline(always)]
    pub(super) fn first_byte(&mut self, byte: u8, outstanding: &mut Outstanding) -> Facts {
        if byte == b'\r' || byte == b'\n' {
            // An empty line is ignored before a request (RFC 9112, section 2.2) and after a response. Before an
            // outstanding response h11 rejects it.
            if self.kind == MessageKind::Response && outstanding.has_pending() {
                return self.fail(outstanding);
            }
            self.section_len = 0;
            return Facts::NONE;
        }
        self.begin();
        self.section_len = 1;
        match self.kind {
            MessageKind::Request => {
                self.state = State::Method;
                self.method(byte, outstanding)
            }
            MessageKind::Response => {
                self.state = State::ResponseVersion;
                self.response_version(byte, outstanding)
            }
        }
    }

    #[inline(always)]
    pub(super) fn method(&mut self, byte: u8, outstanding: &Outstanding) -> Facts {
        if byte == b' ' && !self.token.is_empty() {
            self.state = State::Target;
            return Facts::NONE;
        }
        if !is_token(byte) || self.token.len() >= METHOD_MAX {
            return self.fail(outstanding);
        }
        self.token.push_exact(byte);
        Facts::NONE
    }

    #[inline(always)]
    pub(super) fn target(&mut self, byte: u8, outstanding: &Outstanding) -> Facts {
        if byte == b' ' {
            self.state = State::RequestVersion;
            self.digits = 0;
            return Facts::NONE;
        }
        if byte < b' ' || byte == 0x7f { self.fail(outstanding) } else { Facts::NONE }
    }

    #[inline(always)]
    pub(super) fn request_version(&mut self, byte: u8, outstanding: &mut Outstanding) -> Facts {
        if self.digits < VERSION_LEN {
            // The HTTP/2 connection preface, `PRI * HTTP/2.0`, is not HTTP/1.x.
            let fits = self.version_byte(byte) && (self.digits != MAJOR || byte == b'1');
            self.digits += 1;
            return if fits { Facts::NONE } else { self.fail(outstanding) };
        }
        if byte == b'\r' {
            self.state = State::LineCr;
        } else if byte == b'\n' {
            self.state = State::LineStart;
        } else {
            return self.fail(outstanding);
        }
        self.flags &= !flag::TENTATIVE;
        outstanding.push(if self.token.is(&HEAD) {
            RequestMethod::Head
        } else if self.token.is(&CONNECT) {
            RequestMethod::Connect
        } else {
            RequestMethod::Other
        });
        self.token = Token::EMPTY;
        self.report_begun()
    }

    #[inline(always)]
    pub(super) fn response_version(&mut self, byte: u8, outstanding: &Outstanding) -> Facts {
        if self.digits < VERSION_LEN {
            let fits = self.version_byte(byte);
            self.digits += 1;
            return if fits { Facts::NONE } else { self.fail(outstanding) };
        }
        if byte != b' ' {
            return self.fail(outstanding);
        }
        self.state = State::Status;
        self.status = 0;
        self.digits = 0;
        self.report_begun()
    }

    /// Checks the byte against its offset in a version.
    #[inline(always)]
    fn version_byte(&mut self, byte: u8) -> bool {
        match self.digits {
            MAJOR => byte.is_ascii_digit(),
            DOT => byte == b'.',
            MINOR => {
                // 1.0 is the only HTTP/1.x version with the minor number 0.
                if byte == b'0' {
                    self.flags |= flag::HTTP_1_0;
                }
                byte.is_ascii_digit()
            }
            offset => PREFIX >> (8 * (offset & 7)) & 0xff == u64::from(byte),
        }
    }

    #[inline(always)]
    pub(super) fn status_digit(&mut self, byte: u8, outstanding: &Outstanding) -> Facts {
        if self.digits < STATUS_DIGITS {
            if !byte.is_ascii_digit() {
                return self.fail(outstanding);
            }
            self.status = self.status.wrapping_mul(10).wrapping_add(u16::from(byte - b'0'));
            self.digits += 1;
            return Facts::NONE;
        }
        // The reason phrase may be missing, and the space before it too.
        self.state = match byte {
            b' ' => State::Reason,
            b'\r' => State::LineCr,
            b'\n' => State::LineStart,
            _other => return self.fail(outstanding),
        };
        if self.status < 100 { self.fail(outstanding) } else { Facts::NONE }
    }

    #[inline(always)]
    pub(super) fn reason(&mut self, byte: u8, outstanding: &Outstanding) -> Facts {
        match byte {
            b'\r' => self.state = State::LineCr,
            b'\n' => self.state = State::LineStart,
            byte if !is_text(byte) => return self.fail(outstanding),
            _text => {}
        }
        Facts::NONE
    }
}
