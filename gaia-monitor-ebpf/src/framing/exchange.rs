//! What the two directions of a connection must know of each other: which answers may have a body.
//!
//! The direction of the requests writes, the direction of the answers takes. Both run in the kernel at the same time on
//! different processors: each number here has one writer.

/// Requests that may wait for their answers at once. Nobody pipelines deeper; beyond it answers are not followed.
pub const DEPTH: u32 = 64;

/// A request's method, as far as it decides about the answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Head,
    Connect,
    Other,
}

/// The requests of a connection, first in, first out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Exchange {
    /// Bit n: the request n (modulo 64) was a HEAD, a CONNECT. Written by the requests.
    heads: u64,
    connects: u64,
    asked: u32,
    /// Written by the answers.
    answered: u32,
    /// 1: an answer turned the connection into something else.
    upgraded: u32,
    reserved: u32,
}

impl Exchange {
    pub const NEW: Exchange = Exchange { heads: 0, connects: 0, asked: 0, answered: 0, upgraded: 0, reserved: 0 };

    #[inline(always)]
    pub(super) fn ask(&mut self, asked: Asked) {
        let bit = 1u64 << (self.asked & (DEPTH - 1));
        self.heads = if asked == Asked::Head { self.heads | bit } else { self.heads & !bit };
        self.connects = if asked == Asked::Connect { self.connects | bit } else { self.connects & !bit };
        self.asked = self.asked.wrapping_add(1);
    }

    /// Takes the oldest open request. `None`: there are more than are remembered. An answer to a request that was not
    /// seen is taken for one to a GET.
    #[inline(always)]
    pub(super) fn answer(&mut self) -> Option<Asked> {
        let open = self.asked.wrapping_sub(self.answered);
        if open == 0 {
            return Some(Asked::Other);
        }
        let index = self.answered & (DEPTH - 1);
        self.answered = self.answered.wrapping_add(1);
        if open > DEPTH {
            return None;
        }
        if self.heads >> index & 1 == 1 {
            return Some(Asked::Head);
        }
        Some(if self.connects >> index & 1 == 1 { Asked::Connect } else { Asked::Other })
    }

    #[inline(always)]
    pub(super) fn upgrade(&mut self) {
        self.upgraded = 1;
    }

    /// Did an answer turn the connection into something else?
    #[must_use]
    #[inline(always)]
    pub fn is_upgraded(&self) -> bool {
        self.upgraded != 0
    }

    /// Is an answer owed, as far as the requests were seen?
    #[inline(always)]
    pub(super) fn is_owed(&self) -> bool {
        self.asked != self.answered
    }

    /// Was there ever a request?
    #[inline(always)]
    pub(super) fn was_asked(&self) -> bool {
        self.asked != 0
    }
}
