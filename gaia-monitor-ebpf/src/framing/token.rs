//! A word of bounded size: the last 16 bytes in lower case, the length and the first byte. This identifies any word of
//! up to 17 bytes exactly, in 24 bytes of state.

/// The word read so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Token {
    /// The eight bytes before the last eight.
    high: u64,
    /// The last eight bytes, the last one lowest.
    low: u64,
    len: u16,
    first: u8,
    /// 1: white space followed the word, so it may not be extended.
    closed: u8,
    reserved: u32,
}

/// Length of a word that equals none of the constants.
const INVALID: u16 = u16::MAX;

impl Token {
    pub(super) const EMPTY: Token = Token { high: 0, low: 0, len: 0, first: 0, closed: 0, reserved: 0 };

    /// The word `text`, at most 17 bytes. Lower case if it is compared with words built by [`Self::push`].
    pub(super) const fn of(text: &[u8]) -> Token {
        let mut token = Token::EMPTY;
        let mut rest = text;
        while let [first, tail @ ..] = rest {
            token.push_exact(*first);
            rest = tail;
        }
        token
    }

    /// Appends a byte in lower case.
    #[inline(always)]
    pub(super) const fn push(&mut self, byte: u8) {
        self.push_exact(byte.to_ascii_lowercase());
    }

    /// Appends a byte unchanged.
    #[inline(always)]
    pub(super) const fn push_exact(&mut self, byte: u8) {
        if self.closed != 0 {
            self.len = INVALID;
            return;
        }
        if self.len == 0 {
            self.first = byte;
        }
        if self.len < INVALID {
            self.len += 1;
        }
        self.high = self.high << 8 | self.low >> 56;
        self.low = self.low << 8 | byte as u64;
    }

    /// Appends the first `count` bytes of `word`, at most 8, in lower case. All of them are letters, digits or `-`.
    #[inline(always)]
    pub(super) const fn push_word(&mut self, word: u64, count: u32) {
        if count == 0 {
            return;
        }
        if self.closed != 0 {
            self.len = INVALID;
            return;
        }
        // Letters lose their case by this bit; digits and `-` have it set.
        let word = word | 0x2020_2020_2020_2020;
        if self.len == 0 {
            self.first = word as u8;
        }
        self.len = self.len.saturating_add(count as u16);
        // In two halves, because a shift by the whole width is invalid.
        let half = 4 * (count & 15);
        let unused = 64_u32.wrapping_sub(8 * count) & 63;
        self.high = self.high << half << half | self.low >> unused;
        self.low = self.low << half << half | word.swap_bytes() >> unused;
    }

    /// Handles white space, which is valid before and after a word but not inside.
    #[inline(always)]
    pub(super) const fn close(&mut self) {
        if self.len > 0 {
            self.closed = 1;
        }
    }

    #[inline(always)]
    pub(super) const fn is_closed(&self) -> bool {
        self.closed != 0
    }

    #[inline(always)]
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline(always)]
    pub(super) const fn len(&self) -> u16 {
        self.len
    }

    #[inline(always)]
    pub(super) const fn is(&self, other: &Token) -> bool {
        self.len == other.len && self.low == other.low && self.high == other.high && self.first == other.first
    }
}

/// `tchar` of RFC 9110, section 5.6.2, as a bit set.
const TOKEN_LOW: u64 = set(b"!#$%&'*+-.0123456789", 0);
const TOKEN_HIGH: u64 = set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~", 64);

const fn set(bytes: &[u8], base: u8) -> u64 {
    let mut bits = 0;
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        bits |= 1 << (*first - base);
        rest = tail;
    }
    bits
}

#[inline(always)]
pub(super) const fn is_token(byte: u8) -> bool {
    let bits = if byte < 64 {
        TOKEN_LOW
    } else if byte < 128 {
        TOKEN_HIGH
    } else {
        return false;
    };
    bits >> (byte & 63) & 1 == 1
}

/// True if the byte is valid in a field value or reason phrase. h11 and llhttp both reject these three control
/// characters; h11 accepts the others. The caller handles CR and LF.
#[inline(always)]
pub(super) const fn is_text(byte: u8) -> bool {
    byte != 0 && byte != 0x0b && byte != 0x0c
}
