//! The automaton on the host: a connection played byte by byte, and what is told of it.

mod answers;
mod connection;
mod oracle;
mod random;
mod requests;

use super::{Body, Facts, Flow, Opening, Way};

/// One fact in the words of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Begun,
    Informational(u16),
    Head { status: u16, body: Body, close: bool },
    Complete,
    Upgraded,
    Malformed,
    Opaque,
}

/// An end of a connection, with the numbers that TCP would give its packets.
pub(super) struct End {
    flow: Flow,
    opened: bool,
    /// Unless it is the connection's first payload.
    opening: Option<Opening>,
    /// The peer is on another host.
    outside: bool,
    next: [u32; 2],
    pub(super) told: Vec<Told>,
    /// Steps taken, to see that work is bounded.
    pub(super) steps: usize,
}

/// Close to the wrap, so that every longer test crosses it.
const FIRST_SENT: u32 = u32::MAX - 40;
const FIRST_RECEIVED: u32 = u32::MAX - 7;

impl End {
    pub(super) fn new() -> Self {
        Self {
            flow: Flow::EMPTY,
            opened: false,
            opening: None,
            outside: false,
            next: [FIRST_SENT, FIRST_RECEIVED],
            told: Vec::new(),
            steps: 0,
        }
    }

    /// A connection that is older than the probe.
    pub(super) fn older() -> Self {
        Self { opening: Some(Opening::Older), ..Self::new() }
    }

    /// A server whose first request came before the socket was one.
    pub(super) fn answering() -> Self {
        Self { opening: Some(Opening::Answer), ..Self::new() }
    }

    pub(super) fn to_another_host() -> Self {
        Self { outside: true, ..Self::new() }
    }

    fn next(&mut self, way: Way) -> &mut u32 {
        match way {
            Way::Out => &mut self.next[0],
            Way::In => &mut self.next[1],
        }
    }

    /// A packet in its turn.
    pub(super) fn pass(&mut self, way: Way, bytes: &[u8]) {
        let seq = *self.next(way);
        *self.next(way) = seq.wrapping_add(u32::try_from(bytes.len()).unwrap());
        self.packet(way, seq, bytes);
    }

    /// Bytes that no hook saw.
    pub(super) fn miss(&mut self, way: Way, bytes: usize) {
        let seq = *self.next(way);
        *self.next(way) = seq.wrapping_add(u32::try_from(bytes).unwrap());
    }

    /// The last `bytes` again, followed by others.
    pub(super) fn again(&mut self, way: Way, old: &[u8], new: &[u8]) {
        let seq = self.next(way).wrapping_sub(u32::try_from(old.len()).unwrap());
        *self.next(way) = self.next(way).wrapping_add(u32::try_from(new.len()).unwrap());
        self.packet(way, seq, &[old, new].concat());
    }

    fn packet(&mut self, way: Way, seq: u32, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).unwrap();
        if !self.opened {
            self.opened = true;
            let first = Opening::First { way, receives_next: FIRST_RECEIVED };
            self.flow.open(self.opening.unwrap_or(first), self.outside);
        }
        let (start, mut facts) = self.flow.admit(way, seq, len);
        if let Some(mut position) = start {
            while position < len {
                if facts.ends_message() {
                    self.tell(way, facts);
                    facts = Facts::NONE;
                }
                let before = position;
                let told = self.flow.leap(way, &mut position, len).unwrap_or_else(|| {
                    let byte = bytes.get(position as usize).copied();
                    position += 1;
                    self.flow.eat(way, byte)
                });
                facts = facts.and(told);
                assert!(position > before, "a step that gets nowhere");
                self.steps += 1;
            }
            if facts.ends_message() {
                self.tell(way, facts);
                facts = Facts::NONE;
            }
            facts = facts.and(self.flow.pause(way));
        }
        self.tell(way, facts);
    }

    fn tell(&mut self, way: Way, facts: Facts) {
        if !self.flow.tells(way) {
            return;
        }
        let automaton = self.flow.messages(way);
        let status = automaton.status();
        let head = Told::Head { status, body: automaton.body(), close: automaton.closes() };
        let all = [
            (Facts::BEGUN, Told::Begun),
            (Facts::INFORMATIONAL, Told::Informational(status)),
            (Facts::HEAD, head),
            (Facts::COMPLETE, Told::Complete),
            (Facts::UPGRADED, Told::Upgraded),
            (Facts::MALFORMED, Told::Malformed),
            (Facts::OPAQUE, Told::Opaque),
        ];
        self.told.extend(all.into_iter().filter(|(fact, _)| facts.has(*fact)).map(|(_, told)| told));
    }

    /// What was told since the last call.
    pub(super) fn news(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }
}

/// What a server's socket tells while it gets these requests and gives these answers, one after the other.
pub(super) fn served(exchanges: &[(&str, &[u8])]) -> Vec<Told> {
    let mut end = End::new();
    for (request, answer) in exchanges {
        end.pass(Way::In, request.as_bytes());
        end.pass(Way::Out, answer);
    }
    end.news()
}

/// The answer to a plain GET.
pub(super) fn answered(answer: &[u8]) -> Vec<Told> {
    served(&[("GET / HTTP/1.1\r\n\r\n", answer)])
}

/// What a client's socket tells of what it sends.
pub(super) fn asked(bytes: &[u8]) -> Vec<Told> {
    let mut end = End::new();
    end.pass(Way::Out, bytes);
    end.news()
}

pub(super) fn head(status: u16, body: Body) -> Told {
    Told::Head { status, body, close: false }
}

pub(super) fn last_head(status: u16, body: Body) -> Told {
    Told::Head { status, body, close: true }
}
