//! Framing tests on the host: a connection is played packet by packet, and the reports are compared.

mod connection;
mod equivalence;
mod oracle;
mod random;
mod requests;
mod responses;

use super::{Body, Direction, Facts, Flow, Opening, WORD};

/// One reported fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    Begun,
    Informational(u16),
    Headers { status: u16, body: Body, close: bool },
    Complete,
    Upgraded,
    Malformed,
    Opaque,
}

/// A socket, with the sequence numbers that TCP would assign to its packets.
pub(super) struct Endpoint {
    flow: Flow,
    opened: bool,
    /// `None`: the first packet is the first payload of the connection.
    opening: Option<Opening>,
    /// The peer is on another host.
    remote_peer: bool,
    next: [u32; 2],
    feeding: Feeding,
    pub(super) reports: Vec<Report>,
    /// Number of bytes fed and ranges skipped, which bounds the work.
    pub(super) steps: usize,
}

/// How the bytes of a packet reach the parsers.
#[derive(Clone, Copy, Debug)]
enum Feeding {
    /// One by one: the plain reference.
    Bytes,
    /// As in the kernel: in words of a window of this many bytes, which is fetched when it is used up.
    Words { window: u32 },
}

/// The window of the probe's programs.
const WINDOW: u32 = 32;

/// Close to the wrap, so that every longer test crosses it.
const FIRST_SENT: u32 = u32::MAX - 40;
const FIRST_RECEIVED: u32 = u32::MAX - 7;

impl Endpoint {
    pub(super) fn new() -> Self {
        Self {
            flow: Flow::EMPTY,
            opened: false,
            opening: None,
            remote_peer: false,
            next: [FIRST_SENT, FIRST_RECEIVED],
            feeding: Feeding::Words { window: WINDOW },
            reports: Vec::new(),
            steps: 0,
        }
    }

    /// The socket of a connection that is older than the probe.
    pub(super) fn older() -> Self {
        Self { opening: Some(Opening::Older), ..Self::new() }
    }

    /// A server socket that did not see its first request, which arrived during the handshake.
    pub(super) fn with_request_in_handshake() -> Self {
        Self { opening: Some(Opening::RequestInHandshake), ..Self::new() }
    }

    pub(super) fn with_remote_peer() -> Self {
        Self { remote_peer: true, ..Self::new() }
    }

    /// Feeds single bytes from now on.
    pub(super) fn by_bytes(self) -> Self {
        Self { feeding: Feeding::Bytes, ..self }
    }

    /// Feeds words of a window of `window` bytes from now on.
    pub(super) fn by_words(self, window: u32) -> Self {
        Self { feeding: Feeding::Words { window }, ..self }
    }

    fn next(&mut self, direction: Direction) -> &mut u32 {
        match direction {
            Direction::Out => &mut self.next[0],
            Direction::In => &mut self.next[1],
        }
    }

    /// Passes the next packet in sequence.
    pub(super) fn pass(&mut self, direction: Direction, bytes: &[u8]) {
        let seq = *self.next(direction);
        *self.next(direction) = seq.wrapping_add(u32::try_from(bytes.len()).unwrap());
        self.packet(direction, seq, bytes);
    }

    /// Skips bytes that no hook saw.
    pub(super) fn miss(&mut self, direction: Direction, bytes: usize) {
        let seq = *self.next(direction);
        *self.next(direction) = seq.wrapping_add(u32::try_from(bytes).unwrap());
    }

    /// Retransmits the last bytes, `old`, followed by `new`.
    pub(super) fn retransmit(&mut self, direction: Direction, old: &[u8], new: &[u8]) {
        let seq = self.next(direction).wrapping_sub(u32::try_from(old.len()).unwrap());
        *self.next(direction) = self.next(direction).wrapping_add(u32::try_from(new.len()).unwrap());
        self.packet(direction, seq, &[old, new].concat());
    }

    fn packet(&mut self, direction: Direction, seq: u32, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).unwrap();
        if !self.opened {
            self.opened = true;
            let first = Opening::First { direction, receives_next: FIRST_RECEIVED };
            self.flow.open(self.opening.unwrap_or(first), self.remote_peer);
        }
        let mut window = (0, 0);
        let (start, mut facts) = self.flow.accept_segment(direction, seq, len);
        if let Some(mut position) = start {
            while position < len {
                if facts.ends_message() {
                    self.report(direction, facts);
                    facts = Facts::NONE;
                }
                let before = position;
                let step = self.flow.skip_body(direction, &mut position, len).unwrap_or_else(|| {
                    let (fed, facts) = self.feed(direction, bytes, position, &mut window);
                    position += fed;
                    facts
                });
                facts = facts.and(step);
                assert!(position > before, "a step without progress");
                self.steps += 1;
            }
            if facts.ends_message() {
                self.report(direction, facts);
                facts = Facts::NONE;
            }
            facts = facts.and(self.flow.end_segment(direction));
        }
        self.report(direction, facts);
    }

    /// Feeds the next bytes, and returns their number. `window`: the first byte of the window, and the one after its end.
    fn feed(&mut self, direction: Direction, bytes: &[u8], position: u32, window: &mut (u32, u32)) -> (u32, Facts) {
        let Feeding::Words { window: len } = self.feeding else {
            return (1, self.flow.feed(direction, bytes.get(position as usize).copied()));
        };
        if position >= window.1 {
            let left = u32::try_from(bytes.len()).unwrap() - position;
            *window = (position, position + (left - 1) % len + 1);
        }
        let count = (window.1 - position).min(WORD);
        let mut word = [0xa5; WORD as usize];
        word[..count as usize].copy_from_slice(&bytes[position as usize..][..count as usize]);
        let (fed, facts) = self.flow.feed_word(direction, u64::from_le_bytes(word), count);
        assert!((1..=count).contains(&fed), "fed {fed} of {count}");
        (fed, facts)
    }

    fn report(&mut self, direction: Direction, facts: Facts) {
        if !self.flow.reports(direction) {
            return;
        }
        let parser = self.flow.parser(direction);
        let status = parser.status();
        let headers = Report::Headers { status, body: parser.body(), close: parser.closes() };
        let all = [
            (Facts::BEGUN, Report::Begun),
            (Facts::INFORMATIONAL, Report::Informational(status)),
            (Facts::HEADERS, headers),
            (Facts::COMPLETE, Report::Complete),
            (Facts::UPGRADED, Report::Upgraded),
            (Facts::MALFORMED, Report::Malformed),
            (Facts::OPAQUE, Report::Opaque),
        ];
        self.reports.extend(all.into_iter().filter(|(fact, _)| facts.has(*fact)).map(|(_, report)| report));
    }

    /// Reports since the last call.
    pub(super) fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }
}

/// Reports of a server socket that receives these requests and sends these responses in turn.
pub(super) fn server_reports(exchanges: &[(&str, &[u8])]) -> Vec<Report> {
    let mut server = Endpoint::new();
    for (request, response) in exchanges {
        server.pass(Direction::In, request.as_bytes());
        server.pass(Direction::Out, response);
    }
    server.take_reports()
}

/// Reports of a server socket that responds to a plain GET.
pub(super) fn response_reports(response: &[u8]) -> Vec<Report> {
    server_reports(&[("GET / HTTP/1.1\r\n\r\n", response)])
}

/// Reports of a client socket that sends these bytes.
pub(super) fn request_reports(bytes: &[u8]) -> Vec<Report> {
    let mut client = Endpoint::new();
    client.pass(Direction::Out, bytes);
    client.take_reports()
}

/// The headers of a response after which the connection stays open.
pub(super) fn headers(status: u16, body: Body) -> Report {
    Report::Headers { status, body, close: false }
}

/// The headers of a response after which the server closes the connection.
pub(super) fn closing_headers(status: u16, body: Body) -> Report {
    Report::Headers { status, body, close: true }
}
