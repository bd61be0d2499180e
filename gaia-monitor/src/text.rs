//! Text helpers: escaping, plurals, durations, names of parties. Every output uses them.
//!
//! Text of a container passes through [`harmless`] before it reaches a terminal.

use std::borrow::Cow;

use crate::model::incident::{Incident, MomentFact, Party, Phase};
use crate::model::time::Nanos;
use crate::wire::log_line::is_harmful;

/// Escapes characters that could move a cursor, set a title or reverse the line.
#[must_use]
pub fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_harmful(character) {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    Cow::Owned(plain)
}

/// `1 incident`, `2 incidents`.
#[must_use]
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A duration: `850 ns`, `12.345 ms`, `5.250 s`, `3 min 12 s`, `2 h 5 min`.
#[must_use]
pub fn span(span: Nanos) -> String {
    let nanos = span.0.unsigned_abs();
    let seconds = nanos / 1_000_000_000;
    let sign = if span.0 < 0 { "−" } else { "" };
    match nanos {
        0 => "0 s".to_owned(),
        1..1_000 => format!("{sign}{nanos} ns"),
        1_000..1_000_000_000 => format!("{sign}{}.{:03} ms", nanos / 1_000_000, nanos / 1_000 % 1_000),
        1_000_000_000..60_000_000_000 => format!("{sign}{seconds}.{:03} s", nanos / 1_000_000 % 1_000),
        60_000_000_000..3_600_000_000_000 => format!("{sign}{} min {} s", seconds / 60, seconds % 60),
        3_600_000_000_000.. => format!("{sign}{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// A signed duration, for offsets from a moment.
#[must_use]
pub fn offset(offset: Nanos) -> String {
    match offset.0 {
        0 => "0".to_owned(),
        1.. => format!("+{}", span(offset)),
        ..0 => span(offset),
    }
}

#[must_use]
pub fn moment_fact(fact: MomentFact) -> &'static str {
    match fact {
        MomentFact::ProcessExit => "exit of the last thread",
        MomentFact::DockerDie => "Docker's die event; the exit itself was not seen",
        MomentFact::Signal => "the signal; the exit is not known yet",
        MomentFact::DockerPause => "Docker's pause event",
        MomentFact::LinkRemoved => "the link was removed",
        MomentFact::DockerDisconnect => "Docker's disconnect event",
        MomentFact::LinkDown => "the link went down",
        MomentFact::DnsFailed => "the first failed lookup",
        MomentFact::Refused => "the first refused connect",
        MomentFact::SynUnanswered => "the first unanswered SYN",
        MomentFact::Unacknowledged => "the first packet that was never acknowledged",
        MomentFact::PacketFiltered => "the first filtered packet",
        MomentFact::ServerClose => "the server's FIN or RST",
        MomentFact::ClientClose => "the client's close",
        MomentFact::Malformed => "arrival of bytes that are not HTTP",
        MomentFact::ClientError => "the error at the client's socket",
    }
}

#[must_use]
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolving => "during name resolution",
        Phase::Connecting => "while connecting",
        Phase::Sending => "while sending the request",
        Phase::AwaitingResponse => "while waiting for the response",
        Phase::ReceivingBody => "in the middle of the response",
        Phase::Idle => "while idle",
    }
}

/// The name of a connection's client or server.
#[must_use]
pub fn party(party: &Party) -> String {
    let name = party.container.as_ref().or(party.service.as_ref());
    match (name, &party.comm, party.pid, party.ip) {
        (Some(name), _, _, _) => harmless(name).into_owned(),
        (None, Some(comm), Some(pid), _) => format!("{} (pid {pid}, on the host)", harmless(comm)),
        (None, _, Some(pid), _) => format!("pid {pid} on the host"),
        (None, _, None, Some(ip)) => ip.to_string(),
        (None, _, None, None) => "an unknown process".to_owned(),
    }
}

/// The same with its address, as far as that is known.
#[must_use]
pub fn party_at(at: &Party) -> String {
    let name = party(at);
    match (at.ip, at.port) {
        (Some(ip), Some(port)) => {
            let address = std::net::SocketAddr::new(ip, port).to_string();
            if name == ip.to_string() { address } else { format!("{name} {address}") }
        }
        (Some(ip), None) if name != ip.to_string() => format!("{name} {ip}"),
        (Some(_) | None, _) => name,
    }
}

/// The short name of an incident's subject.
#[must_use]
pub fn subject(incident: &Incident) -> String {
    let subject = &incident.subject;
    match (subject.container.as_ref().or(subject.service.as_ref()), &subject.comm) {
        (Some(name), _) => harmless(name).into_owned(),
        (None, Some(comm)) => harmless(comm).into_owned(),
        (None, None) => "the host".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{harmless, offset, span};
    use crate::model::time::Nanos;

    #[test]
    fn escapes_terminal_sequences() {
        assert_eq!(harmless("plain text, ümläute → too"), "plain text, ümläute → too");
        assert_eq!(harmless("\x1b]0;owned\x07"), "\\u{1b}]0;owned\\u{7}");
        assert_eq!(harmless("a\r\nb\u{9b}2J\u{202e}"), "a\\r\\nb\\u{9b}2J\\u{202e}");
    }

    #[test]
    fn prints_spans_in_a_fitting_unit() {
        let cases = [
            (0, "0 s"),
            (850, "850 ns"),
            (12_345, "0.012 ms"),
            (-4_213_999, "−4.213 ms"),
            (5_250_000_000, "5.250 s"),
            (192_000_000_000, "3 min 12 s"),
            (7_500_000_000_000, "2 h 5 min"),
        ];
        for (nanos, text) in cases {
            assert_eq!(span(Nanos(nanos)), text);
        }
        assert_eq!(offset(Nanos(0)), "0");
        assert_eq!(offset(Nanos(1_500_000)), "+1.500 ms");
        assert_eq!(offset(Nanos(-1_500_000)), "−1.500 ms");
    }
}
