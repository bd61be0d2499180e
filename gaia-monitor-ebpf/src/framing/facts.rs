//! What a step of the automaton tells.

/// A set of facts about one message. In this order they happened, all at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Facts(u32);

impl Facts {
    pub const NONE: Facts = Facts(0);
    /// The first byte of a request, or of an answer.
    pub const BEGUN: Facts = Facts(1);
    /// The end of the header of an answer that is not the one that is owed.
    pub const INFORMATIONAL: Facts = Facts(1 << 1);
    /// The end of the header of an answer.
    pub const HEAD: Facts = Facts(1 << 2);
    /// The last byte of a request, or of an answer.
    pub const COMPLETE: Facts = Facts(1 << 3);
    /// What follows is not HTTP, by agreement.
    pub const UPGRADED: Facts = Facts(1 << 4);
    /// The bytes break the framing of an answer.
    pub const MALFORMED: Facts = Facts(1 << 5);
    /// Not HTTP/1.x, or not to be followed.
    pub const OPAQUE: Facts = Facts(1 << 6);

    const ENDS: u32 =
        Facts::INFORMATIONAL.0 | Facts::COMPLETE.0 | Facts::UPGRADED.0 | Facts::MALFORMED.0 | Facts::OPAQUE.0;

    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    #[must_use]
    pub const fn from_bits(bits: u32) -> Facts {
        Facts(bits)
    }

    #[must_use]
    #[inline(always)]
    pub const fn and(self, other: Facts) -> Facts {
        Facts(self.0 | other.0)
    }

    #[must_use]
    pub const fn has(self, other: Facts) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The message is over: what follows belongs to the next one, so these must be told before the next step.
    #[must_use]
    pub const fn ends_message(self) -> bool {
        self.0 & Facts::ENDS != 0
    }
}

/// How the body of an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Empty,
    /// After so many bytes.
    Length(u64),
    Chunked,
    UntilClose,
}

impl Body {
    /// As a number of the record.
    #[must_use]
    pub const fn kind(self) -> u8 {
        match self {
            Body::Empty => 0,
            Body::Length(_) => 1,
            Body::Chunked => 2,
            Body::UntilClose => 3,
        }
    }

    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Body::Length(bytes) => bytes,
            Body::Empty | Body::Chunked | Body::UntilClose => 0,
        }
    }

    /// From a record's numbers.
    #[must_use]
    pub const fn of(kind: u8, bytes: u64) -> Option<Body> {
        match kind {
            0 => Some(Body::Empty),
            1 => Some(Body::Length(bytes)),
            2 => Some(Body::Chunked),
            3 => Some(Body::UntilClose),
            _unknown => None,
        }
    }
}
