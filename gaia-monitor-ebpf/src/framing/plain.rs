//! Plain bytes: those that change only a counter or the current word. Most of a header section is plain, so up to eight
//! bytes are taken at once.
//!
//! Runs of plain bytes are found in whole words, without a branch for each byte, because the verifier follows every
//! branch. A run may be too short, never too long: the byte after it goes through [`Parser::feed`], with the same
//! result.

use super::{Field, Parser, SECTION_MAX, State};

/// Number of bytes in a word.
pub const WORD: u32 = 8;

/// 1 in every byte, and the high bit of every byte.
const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGHS: u64 = ONES << 7;

/// The version of nearly every message, the first byte lowest.
const HTTP_1_1: u64 = u64::from_le_bytes(*b"HTTP/1.1");

impl Parser {
    /// Takes plain bytes from `word`, the first byte lowest, of which `count` are valid. Returns their number.
    #[inline(always)]
    pub(super) fn take_plain(&mut self, word: u64, count: u32) -> u32 {
        // Close to the limit every byte is fed, because the byte that exceeds it is reported.
        if self.section_len > SECTION_MAX - WORD {
            return 0;
        }
        let run = match self.state {
            State::Target => target_run(word),
            State::Reason => text_run(word),
            State::FieldValue if self.field == Field::Other => text_run(word),
            State::FieldName => name_run(word),
            State::RequestVersion | State::ResponseVersion => return self.take_version(word, count),
            _ => return 0,
        };
        let taken = if run < count { run } else { count };
        if self.state == State::FieldName {
            self.token.push_word(word, taken);
        }
        self.section_len = self.section_len.wrapping_add(taken);
        taken
    }

    /// Takes the rest of the version, if it is 1.1.
    #[inline(always)]
    fn take_version(&mut self, word: u64, count: u32) -> u32 {
        let read = u32::from(self.digits);
        let left = WORD.wrapping_sub(read);
        if read >= WORD || count < left || (word ^ (HTTP_1_1 >> (8 * read))) << (8 * read) != 0 {
            return 0;
        }
        self.digits = WORD as u8;
        self.section_len = self.section_len.wrapping_add(left);
        left
    }
}

/// Bytes of a target: neither white space nor control characters.
#[inline(always)]
const fn target_run(word: u64) -> u32 {
    first_mark(below(word, 0x21) | equal(word, 0x7f))
}

/// Bytes of a value or reason phrase, control characters excluded.
#[inline(always)]
const fn text_run(word: u64) -> u32 {
    first_mark(below(word, 0x20))
}

/// Letters, digits and `-`: the usual bytes of a field name.
#[inline(always)]
const fn name_run(word: u64) -> u32 {
    let low = word & !HIGHS;
    let lower = low | ONES << 5;
    let letters = at_least(lower, b'a') & !at_least(lower, b'z' + 1);
    let digits = at_least(low, b'0') & !at_least(low, b'9' + 1);
    let hyphens = at_least(low, b'-') & !at_least(low, b'-' + 1);
    first_mark(!((letters | digits | hyphens) & !word) & HIGHS)
}

/// Marks the bytes that are below `limit`, at most 0x80. Exact up to the first mark: a borrow reaches only later bytes.
#[inline(always)]
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * limit as u64) & !word & HIGHS
}

/// Marks the bytes that equal `byte`. Exact up to the first mark.
#[inline(always)]
const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * byte as u64), 1)
}

/// Marks the bytes that are at least `limit`. Exact, if no byte exceeds 0x7f.
#[inline(always)]
const fn at_least(word: u64, limit: u8) -> u64 {
    (word | HIGHS).wrapping_sub(ONES * limit as u64) & HIGHS
}

/// Index of the first byte with a mark, which is its high bit; 8 if there is none.
#[inline(always)]
const fn first_mark(marks: u64) -> u32 {
    let marks = marks >> 7;
    let before = (marks & marks.wrapping_neg()).wrapping_sub(1) & ONES;
    (before.wrapping_mul(ONES) >> 56) as u32
}

#[cfg(test)]
mod tests {
    use super::{name_run, target_run, text_run};

    /// The length of the run in a word with `byte` at `at`, between other bytes of a run.
    fn run(of: fn(u64) -> u32, byte: u8, at: usize) -> u32 {
        let mut word = *b"content-";
        word[at] = byte;
        of(u64::from_le_bytes(word))
    }

    #[test]
    fn ends_a_run_at_the_first_other_byte() {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        for byte in 0..=u8::MAX {
            for at in 0..8 {
                let expected = |is_plain: bool| if is_plain { 8 } else { at as u32 };
                assert_eq!(run(name_run, byte, at), expected(is_name(byte)), "name {byte:#x} at {at}");
                assert_eq!(run(text_run, byte, at), expected(byte >= 0x20), "text {byte:#x} at {at}");
                assert_eq!(
                    run(target_run, byte, at),
                    expected(byte > 0x20 && byte != 0x7f),
                    "target {byte:#x} at {at}"
                );
            }
        }
    }
}
