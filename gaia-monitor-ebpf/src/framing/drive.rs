//! Packets and bytes → steps: what is new in a packet, what may be skipped, and what happens when the bytes do not fit.

use super::exchange::Exchange;
use super::facts::Facts;
use super::token::Token;
use super::{Automaton, Class, Direction, HEAD_MAX, Header, State, mark};

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
    /// Takes a packet of `len` bytes at sequence number `seq`; new bytes are to follow through [`Self::leap`] and [`Self::eat`].
    #[inline(always)]
    pub fn admit(&mut self, seq: u32, len: u32, exchange: &Exchange) -> (Admission, Facts) {
        match self.state.class() {
            Class::Searching => {
                self.next = seq.wrapping_add(len);
                self.begin();
                self.marks = mark::TENTATIVE;
                return (Admission::From(0), Facts::NONE);
            }
            Class::Over => return (Admission::Old, Facts::NONE),
            Class::Between | Class::StartLine | Class::Line | Class::Body | Class::Surplus => {}
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
    pub(super) fn abandon(&mut self) -> Facts {
        let was_over = self.state == State::Over;
        self.state = State::Over;
        if was_over { Facts::NONE } else { Facts::OPAQUE }
    }

    /// What follows is none of ours, by agreement of both sides.
    #[inline(always)]
    pub(super) fn end(&mut self) {
        self.state = State::Over;
    }

    /// The stream lost its thread; it is looked for again.
    #[inline(always)]
    pub(super) fn search(&mut self) {
        self.state = State::Searching;
        self.marks = 0;
    }

    /// Skips a stretch of body, if `position` is in one; moves it on, at most to `end`.
    #[inline(always)]
    pub(super) fn leap(&mut self, exchange: &Exchange, position: &mut u32, end: u32) -> Option<Facts> {
        let skippable = self.skippable(exchange);
        if skippable == 0 {
            return None;
        }
        let left = end.wrapping_sub(*position);
        let stretch = if skippable < u64::from(left) { skippable as u32 } else { left };
        *position = position.wrapping_add(stretch);
        Some(self.skip(stretch))
    }

    /// The packet ends here: what it began is told, even if the start line is not complete.
    #[inline(always)]
    pub fn pause(&mut self) -> Facts {
        if self.marks & mark::TENTATIVE != 0 {
            self.search();
            return Facts::NONE;
        }
        if self.state.class() == Class::StartLine { self.tell_begun() } else { Facts::NONE }
    }

    /// Bytes that may pass unread from here.
    #[inline(always)]
    fn skippable(&self, exchange: &Exchange) -> u64 {
        match self.state.class() {
            Class::Body => self.remaining,
            Class::Searching | Class::Over => u64::MAX,
            Class::Surplus if !exchange.is_owed() => u64::MAX,
            Class::Surplus | Class::Between | Class::StartLine | Class::Line => 0,
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

    /// Reads one byte.
    #[inline(always)]
    pub(super) fn eat(&mut self, byte: u8, exchange: &mut Exchange) -> Facts {
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
            State::Surplus => {
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
        matches!(self.state.class(), Class::StartLine | Class::Line)
    }

    /// Forgets the last message.
    #[inline(always)]
    pub(super) fn begin(&mut self) {
        self.state = State::Between;
        self.marks &= mark::TENTATIVE;
        self.head = 0;
        self.token = Token::EMPTY;
        self.digits = 0;
        self.header = Header::Missing;
        self.trailers = 0;
    }

    #[inline(always)]
    pub(super) fn tell_begun(&mut self) -> Facts {
        if self.marks & mark::TOLD != 0 {
            return Facts::NONE;
        }
        self.marks |= mark::TOLD;
        Facts::BEGUN
    }

    #[inline(always)]
    pub(super) fn complete(&mut self) -> Facts {
        self.begin();
        Facts::COMPLETE
    }

    /// The bytes break the framing.
    #[inline(always)]
    pub(super) fn fail(&mut self, exchange: &Exchange) -> Facts {
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
                    self.state = State::Surplus;
                    Facts::NONE
                } else {
                    self.abandon()
                }
            }
        }
    }
}
