//! Text helpers: escaping, plurals, durations, names of parties. Every output uses them.
//!
//! Text of a container passes through [`harmless`] before it reaches a terminal.

use std::borrow::Cow;

use crate::model::incident::{Incident, MomentFact, Party, Phase};
use crate::model::time::Nanos;
use crate::wire::log_line::is_harmful;

/// Characters of a name: Docker's own are far shorter, a Compose label may have any length.
pub const NAME: usize = 255;
/// Characters of any other text.
pub const TEXT: usize = 2_000;

/// Escapes characters that could move a cursor, set a title, reverse the line or stay unseen; cuts text beyond [`TEXT`].
#[must_use]
pub fn harmless(text: &str) -> Cow<'_, str> {
    neutral(text, TEXT)
}

/// The same for a name, cut beyond [`NAME`].
#[must_use]
pub fn harmless_name(name: &str) -> Cow<'_, str> {
    neutral(name, NAME)
}

/// A message in one line: the lines of a longer one are joined, and a page of HTML is only mentioned.
#[must_use]
pub fn one_line(message: &str) -> String {
    let page = message.find('<').filter(|at| {
        let begin: String = message.chars().skip(message[..*at].chars().count()).take(9).collect();
        ["<!doctype", "<html", "<head", "<body", "<?xml"]
            .iter()
            .any(|mark| begin.to_ascii_lowercase().starts_with(mark))
    });
    let text = page.map_or(message, |at| message.get(..at).unwrap_or_default());
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut line = harmless(&lines.join("; ")).into_owned();
    if page.is_some() {
        line.push_str(" (a page of HTML: another kind of server)");
    }
    line
}

/// A parser's message without the names of this program's types: `expected struct Header` is `expected an object`.
#[must_use]
pub fn without_types(message: &str) -> String {
    const NOUNS: [(&str, &str); 6] = [
        ("tuple struct", "a list"),
        ("newtype struct", "a value"),
        ("struct variant", "an object"),
        ("struct", "an object"),
        ("enum", "one of its values"),
        ("unit", "nothing"),
    ];
    const NUMBERS: [(&str, &str); 12] = [
        ("u8", "a number from 0 to 255"),
        ("u16", "a number from 0 to 65535"),
        ("u32", "a number of at most 32 bits, not negative"),
        ("u64", "a number of at most 64 bits, not negative"),
        ("usize", "a number, not negative"),
        ("i8", "a small number"),
        ("i16", "a number of at most 16 bits"),
        ("i32", "a number of at most 32 bits"),
        ("i64", "a number of at most 64 bits"),
        ("isize", "a number"),
        ("f32", "a number"),
        ("f64", "a number"),
    ];
    const MARK: &str = "expected ";
    let Some(at) = message.find(MARK).map(|at| at + MARK.len()) else { return message.to_owned() };
    let (before, expected) = message.split_at(at);
    let is_name = |character: char| character.is_alphanumeric() || "_:".contains(character);
    for (keyword, noun) in NOUNS {
        if let Some(name) = expected.strip_prefix(keyword).and_then(|rest| rest.strip_prefix(' ')) {
            return format!("{before}{noun}{}", name.trim_start_matches(is_name));
        }
    }
    for (number, noun) in NUMBERS {
        if let Some(rest) = expected.strip_prefix(number).filter(|rest| !rest.starts_with(is_name)) {
            return format!("{before}{noun}{rest}");
        }
    }
    message.to_owned()
}

fn neutral(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit && !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::new();
    let mut length = 0;
    for character in text.chars() {
        let escaped = is_harmful(character).then(|| character.escape_default());
        length += escaped.as_ref().map_or(1, ExactSizeIterator::len);
        if length > limit {
            plain.push('…');
            break;
        }
        match escaped {
            Some(escaped) => plain.extend(escaped),
            None => plain.push(character),
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
    use super::{NAME, harmless, harmless_name, offset, one_line, span, without_types};
    use crate::model::time::Nanos;

    #[test]
    fn escapes_terminal_sequences() {
        assert_eq!(harmless("plain text, ümläute → too"), "plain text, ümläute → too");
        assert_eq!(harmless("\x1b]0;owned\x07"), "\\u{1b}]0;owned\\u{7}");
        assert_eq!(harmless("a\r\nb\u{9b}2J\u{202e}"), "a\\r\\nb\\u{9b}2J\\u{202e}");
    }

    #[test]
    fn escapes_what_is_not_displayed() {
        for hidden in ['\u{200b}', '\u{200d}', '\u{2060}', '\u{feff}', '\u{ad}', '\u{3164}', '\u{e0041}', '\u{fe0f}'] {
            assert_eq!(harmless(&format!("a{hidden}b")), format!("a{}b", hidden.escape_default()));
        }
    }

    #[test]
    fn cuts_long_text_once() {
        let cut = harmless_name(&"é".repeat(60_000)).into_owned();
        assert_eq!((cut.chars().count(), cut.chars().last()), (NAME + 1, Some('…')));
        assert_eq!(harmless_name(&cut), cut);
        assert_eq!(harmless_name(&"é".repeat(NAME)), "é".repeat(NAME));
        let escaped = harmless_name(&"\u{202e}".repeat(60_000)).into_owned();
        assert!(escaped.chars().count() <= NAME + 1 && escaped.ends_with("\\u{202e}…"), "{escaped}");
        assert_eq!(harmless(&escaped), escaped);
    }

    #[test]
    fn names_no_type_of_the_program() {
        let cases = [
            ("invalid type: integer `3`, expected struct Header at line 1 column 1", "an object at line 1 column 1"),
            ("invalid value: integer `70000`, expected u16 at line 1", "a number from 0 to 65535 at line 1"),
            ("invalid type: string \"a\", expected enum Output", "one of its values"),
            ("unknown variant `x`, expected one of `pretty`, `json`", "one of `pretty`, `json`"),
            ("invalid type: null, expected a string", "a string"),
        ];
        for (message, expected) in cases {
            let shown = without_types(message);
            assert_eq!(shown.split_once("expected ").unwrap().1, expected, "{shown}");
        }
        assert_eq!(without_types("trailing characters"), "trailing characters");
    }

    #[test]
    fn puts_a_message_into_one_line_without_a_page() {
        assert_eq!(one_line("a\n  b\r\n\nc\u{7}"), "a; b; c\\u{7}");
        assert_eq!(one_line("x < y, <pid 7>"), "x < y, <pid 7>");
        let page = "Docker responded with status code 404: <!DOCTYPE HTML>\n<html>…";
        assert_eq!(one_line(page), "Docker responded with status code 404: (a page of HTML: another kind of server)");
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
