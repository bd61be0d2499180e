//! Segment handling: which bytes of a segment are new, which are skipped, and how framing errors are handled.

use super::facts::Facts;
use super::outstanding::Outstanding;
use super::token::Token;
use super::{Class, Field, MessageKind, Parser, SECTION_MAX, State, flag};

/// How a segment continues the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// All bytes were seen before.
    Duplicate,
    /// The bytes from this offset on are new. Bytes missed before them were body and are accounted for.
    NewFrom(u32),
    /// Bytes are missing whose content matters.
    Gap,
}

impl Parser {
    /// Accepts a segment of `len` bytes at sequence number `seq`. The caller then passes the new bytes to
    /// [`Self::skip_body`] and [`Self::feed`].
    #[inline(always)]
    pub fn accept_segment(&mut self, seq: u32, len: u32, outstanding: &Outstanding) -> (Continuity, Facts) {
        match self.state.class() {
            Class::Searching => {
                self.next = seq.wrapping_add(len);
                self.begin();
                self.flags = flag::TENTATIVE;
                return (Continuity::NewFrom(0), Facts::NONE);
            }
            Class::Over => return (Continuity::Duplicate, Facts::NONE),
            Class::Between | Class::StartLine | Class::Line | Class::Body | Class::Surplus => {}
        }
        let ahead = seq.wrapping_sub(self.next) as i32;
        if ahead <= 0 {
            let seen = ahead.unsigned_abs();
            if seen >= len {
                return (Continuity::Duplicate, Facts::NONE);
            }
            self.next = seq.wrapping_add(len);
            return (Continuity::NewFrom(seen), Facts::NONE);
        }
        let missed = ahead as u32;
        self.next = seq.wrapping_add(len);
        if self.skippable(outstanding) < u64::from(missed) {
            return (Continuity::Gap, Facts::NONE);
        }
        (Continuity::NewFrom(0), self.skip(missed))
    }

    /// Stops because the stream cannot be followed. Reported once.
    #[inline(always)]
    pub(super) fn abandon(&mut self) -> Facts {
        let was_over = self.state == State::Over;
        self.state = State::Over;
        if was_over { Facts::NONE } else { Facts::OPAQUE }
    }

    /// Stops because both peers agreed on another protocol.
    #[inline(always)]
    pub(super) fn stop(&mut self) {
        self.state = State::Over;
    }

    /// Searches for the next message after a gap or a failed guess.
    #[inline(always)]
    pub(super) fn search(&mut self) {
        self.state = State::Searching;
        self.flags = 0;
    }

    /// Skips body bytes at `position` and advances it, at most to `end`. `None` if the byte there must be fed.
    #[inline(always)]
    pub(super) fn skip_body(&mut self, outstanding: &Outstanding, position: &mut u32, end: u32) -> Option<Facts> {
        let skippable = self.skippable(outstanding);
        if skippable == 0 {
            return None;
        }
        let left = end.wrapping_sub(*position);
        let count = if skippable < u64::from(left) { skippable as u32 } else { left };
        *position = position.wrapping_add(count);
        Some(self.skip(count))
    }

    /// Ends a segment. Reports a message that it began, even if the start line is incomplete.
    #[inline(always)]
    pub fn end_segment(&mut self) -> Facts {
        if self.flags & flag::TENTATIVE != 0 {
            self.search();
            return Facts::NONE;
        }
        if self.state.class() == Class::StartLine { self.report_begun() } else { Facts::NONE }
    }

    /// Number of bytes that may be skipped unread from here.
    #[inline(always)]
    fn skippable(&self, outstanding: &Outstanding) -> u64 {
        match self.state.class() {
            Class::Body => self.remaining,
            Class::Searching | Class::Over => u64::MAX,
            Class::Surplus if !outstanding.has_pending() => u64::MAX,
            Class::Surplus | Class::Between | Class::StartLine | Class::Line => 0,
        }
    }

    #[inline(always)]
    fn skip(&mut self, count: u32) -> Facts {
        match self.state {
            State::Length => {
                self.remaining = self.remaining.wrapping_sub(u64::from(count));
                if self.remaining == 0 { self.complete() } else { Facts::NONE }
            }
            State::ChunkData => {
                self.remaining = self.remaining.wrapping_sub(u64::from(count));
                if self.remaining == 0 {
                    self.state = State::ChunkDataCr;
                }
                Facts::NONE
            }
            _ => Facts::NONE,
        }
    }

    /// Feeds one byte.
    #[inline(always)]
    pub(super) fn feed(&mut self, byte: u8, outstanding: &mut Outstanding) -> Facts {
        self.section_len = self.section_len.wrapping_add(1);
        let facts = match self.state {
            State::Between => self.first_byte(byte, outstanding),
            State::Method => self.method(byte, outstanding),
            State::Target => self.target(byte, outstanding),
            State::RequestVersion => self.request_version(byte, outstanding),
            State::ResponseVersion => self.response_version(byte, outstanding),
            State::Status => self.status_digit(byte, outstanding),
            State::Reason => self.reason(byte, outstanding),
            State::LineCr => self.line_lf(byte, outstanding),
            State::LineStart => self.line_start(byte, outstanding),
            State::FieldName => self.field_name(byte, outstanding),
            State::FieldValue => self.field_value(byte, outstanding),
            State::SectionCr => self.section_lf(byte, outstanding),
            State::ChunkStart => self.chunk_start(byte, outstanding),
            State::ChunkSize => self.chunk_size(byte, outstanding),
            State::ChunkSizeSpace => self.chunk_size_end(byte, outstanding),
            State::ChunkSizeCr => self.chunk_size_lf(byte, outstanding),
            State::ChunkExtension => self.chunk_extension(byte, outstanding),
            State::ChunkExtensionCr => self.chunk_extension_lf(byte, outstanding),
            State::ChunkDataCr => self.chunk_data_cr(byte, outstanding),
            State::ChunkDataLf => self.chunk_data_lf(byte, outstanding),
            State::Surplus => {
                // A new request is outstanding: the client takes these bytes for its response.
                self.state = State::Over;
                Facts::MALFORMED
            }
            // Skipped, never fed.
            State::Length | State::ChunkData | State::UntilClose | State::Searching | State::Over => Facts::NONE,
        };
        if self.section_len > SECTION_MAX && matches!(self.state.class(), Class::StartLine | Class::Line) {
            return facts.and(self.fail(outstanding));
        }
        facts
    }

    /// Resets the state of the previous message, except what [`Self::status`], [`Self::body`] and [`Self::closes`]
    /// return.
    #[inline(always)]
    pub(super) fn begin(&mut self) {
        self.state = State::Between;
        self.flags &= flag::TENTATIVE;
        self.section_len = 0;
        self.token = Token::EMPTY;
        self.digits = 0;
        self.field = Field::None;
        self.trailers = 0;
    }

    #[inline(always)]
    pub(super) fn report_begun(&mut self) -> Facts {
        if self.flags & flag::REPORTED != 0 {
            return Facts::NONE;
        }
        self.flags |= flag::REPORTED;
        Facts::BEGUN
    }

    #[inline(always)]
    pub(super) fn complete(&mut self) -> Facts {
        self.begin();
        Facts::COMPLETE
    }

    /// Handles bytes that break the framing.
    #[inline(always)]
    pub(super) fn fail(&mut self, outstanding: &Outstanding) -> Facts {
        if self.flags & flag::TENTATIVE != 0 {
            self.search();
            return Facts::NONE;
        }
        match self.kind {
            MessageKind::Request => self.abandon(),
            MessageKind::Response => {
                if self.flags & flag::REPORTED != 0 || outstanding.has_pending() {
                    self.state = State::Over;
                    Facts::MALFORMED
                } else if outstanding.saw_request() {
                    self.state = State::Surplus;
                    Facts::NONE
                } else {
                    self.abandon()
                }
            }
        }
    }
}
