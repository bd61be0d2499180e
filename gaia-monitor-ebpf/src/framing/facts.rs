//! Facts that a parser reports about a message.

/// A set of facts about one message, in the order in which they occur. All of them have the time of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Facts(u32);

impl Facts {
    pub const NONE: Facts = Facts(0);
    /// The first byte of a request or response.
    pub const BEGUN: Facts = Facts(1);
    /// The end of the header section of an interim (1xx) response.
    pub const INFORMATIONAL: Facts = Facts(1 << 1);
    /// The end of the header section of a final response.
    pub const HEADERS: Facts = Facts(1 << 2);
    /// The last byte of a request or response.
    pub const COMPLETE: Facts = Facts(1 << 3);
    /// The connection switched to another protocol.
    pub const UPGRADED: Facts = Facts(1 << 4);
    /// The bytes break the framing of a response.
    pub const MALFORMED: Facts = Facts(1 << 5);
    /// Not HTTP/1.x, or no longer possible to follow.
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

    /// True if the message is over. The caller must emit these facts before it feeds the next byte, which belongs to
    /// the next message.
    #[must_use]
    pub const fn ends_message(self) -> bool {
        self.0 & Facts::ENDS != 0
    }
}

/// How the body of a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Empty,
    /// After this many bytes.
    Length(u64),
    Chunked,
    UntilClose,
}

impl Body {
    /// The number of the variant in a record.
    #[must_use]
    pub const fn number(self) -> u8 {
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

    /// Reads the two numbers of a record.
    #[must_use]
    pub const fn of(number: u8, bytes: u64) -> Option<Body> {
        match number {
            0 => Some(Body::Empty),
            1 => Some(Body::Length(bytes)),
            2 => Some(Body::Chunked),
            3 => Some(Body::UntilClose),
            _unknown => None,
        }
    }
}
