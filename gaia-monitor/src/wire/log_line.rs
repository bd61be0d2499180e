//! Classifier of container log lines: errors of HTTP clients, beginnings of crash reports. Also sanitizes lines for storage.
//!
//! Pure. It never decides a cause: a log line is not a kernel fact.

use crate::model::incident::HttpxClass;

/// Characters kept of a line. A class name is near its beginning; a line of a traceback is seldom longer.
pub const LENGTH: usize = 300;

/// Lines of a crash report after its first: a stack of a few dozen frames at most.
pub const CRASH_LINES: usize = 16;

/// Text that runtimes print in a crash: Python (faulthandler, fatal errors), Rust, Go, the JVM, glibc, the sanitizers,
/// Node.
const CRASHES: [&str; 20] = [
    "Fatal Python error",
    "Windows fatal exception",
    "Current thread 0x",
    "Thread 0x",
    "' panicked at ",
    "panic: ",
    "fatal error: ",
    "[signal SIG",
    "goroutine 1 [",
    "A fatal error has been detected by the Java Runtime Environment",
    "hs_err_pid",
    "SIGSEGV",
    "SIGABRT",
    "Segmentation fault",
    "core dumped",
    "double free or corruption",
    "malloc(): ",
    "*** stack smashing detected",
    "ERROR: AddressSanitizer",
    "FATAL ERROR: ",
];

/// Does a crash report begin with this line?
#[must_use]
pub fn begins_crash(text: &str) -> bool {
    CRASHES.iter().any(|mark| text.contains(mark))
}

/// An error of an HTTP client, as its library names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// As written in the line.
    pub name: &'static str,
    /// The httpx classes that it can correspond to.
    pub classes: &'static [HttpxClass],
}

use HttpxClass::{ConnectError, ConnectTimeout, ReadError, ReadTimeout, RemoteProtocolError, WriteError, WriteTimeout};

/// httpx's own names (httpcore's are the same), then those of requests.
const NAMES: [Named; 10] = [
    Named { name: "ConnectError", classes: &[ConnectError] },
    Named { name: "ConnectTimeout", classes: &[ConnectTimeout] },
    Named { name: "ReadError", classes: &[ReadError] },
    Named { name: "ReadTimeout", classes: &[ReadTimeout] },
    Named { name: "WriteError", classes: &[WriteError] },
    Named { name: "WriteTimeout", classes: &[WriteTimeout] },
    Named { name: "RemoteProtocolError", classes: &[RemoteProtocolError] },
    // requests has one class for a refused or failed connect, a reset and a dropped response.
    Named { name: "ConnectionError", classes: &[ConnectError, ReadError, RemoteProtocolError, WriteError] },
    Named { name: "ChunkedEncodingError", classes: &[RemoteProtocolError, ReadError] },
    Named { name: "RemoteDisconnected", classes: &[RemoteProtocolError] },
];

/// The errors that a line names, as whole words (`httpx.ReadError`, not `MyReadErrors`).
#[must_use]
pub fn named(text: &str) -> Vec<Named> {
    NAMES.into_iter().filter(|named| is_word(text, named.name)).collect()
}

fn is_word(text: &str, word: &str) -> bool {
    let part_of_word = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|after| after.chars().next());
        !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
    })
}

/// A control character, a non-ASCII line end or a mark of text direction: it could move a cursor, set a title or reverse
/// a line.
#[must_use]
pub fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
}

/// The stored form of a line: without escape sequences and control characters, not longer than [`LENGTH`].
#[must_use]
pub fn kept(raw: &str) -> String {
    let mut text = String::new();
    let mut length = 0;
    let mut rest = raw.trim_end().chars();
    while let Some(character) = rest.next() {
        if length == LENGTH {
            text.push('…');
            break;
        }
        match character {
            '\u{1b}' => skip_sequence(&mut rest),
            '\t' => text.push(' '),
            harmful if is_harmful(harmful) => continue,
            plain => text.push(plain),
        }
        if character != '\u{1b}' {
            length += 1;
        }
    }
    text
}

/// Colours and cursor movements (ECMA-48: CSI … final byte), titles (OSC … BEL or ST), and the two-byte rest.
fn skip_sequence(rest: &mut std::str::Chars<'_>) {
    match rest.next() {
        Some('[') => {
            rest.find(|character| matches!(character, '\u{40}'..='\u{7e}'));
        }
        Some(']') => {
            // An ST is ESC and a backslash; the backslash is harmless if it stays.
            rest.find(|character| matches!(character, '\u{7}' | '\u{1b}' | '\u{9c}'));
        }
        Some(_) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{LENGTH, begins_crash, kept, named};
    use crate::model::incident::HttpxClass;

    fn names(text: &str) -> Vec<&'static str> {
        named(text).iter().map(|named| named.name).collect()
    }

    #[test]
    fn finds_errors_as_whole_words() {
        let line = "HA fallback POST http://gaia-core-candidate:6415 also failed (ReadError). Raising original error.";
        assert_eq!(names(line), ["ReadError"]);
        assert_eq!(names("httpx.RemoteProtocolError: Server disconnected"), ["RemoteProtocolError"]);
        assert_eq!(names("requests.exceptions.ConnectionError: ('Connection aborted.'"), ["ConnectionError"]);
        for other in ["MyReadError", "ReadErrors", "read_error", "ConnectionErrorHandler", "NewConnectionError"] {
            assert!(names(other).is_empty(), "{other}");
        }
        assert_eq!(names("a ReadErrors and a ReadError"), ["ReadError"]);
    }

    #[test]
    fn maps_an_error_of_requests_to_several_classes() {
        let cut = named("ChunkedEncodingError");
        assert!(cut[0].classes.contains(&HttpxClass::RemoteProtocolError));
    }

    #[test]
    fn knows_the_crash_reports_of_several_runtimes() {
        for line in [
            "Fatal Python error: Segmentation fault",
            "Current thread 0x00007f0e8a7fc740 (most recent call first):",
            "thread 'main' panicked at src/main.rs:3:5:",
            "panic: runtime error: invalid memory address or nil pointer dereference",
            "# A fatal error has been detected by the Java Runtime Environment:",
        ] {
            assert!(begins_crash(line), "{line}");
        }
        assert!(!begins_crash("INFO:     Uvicorn running on http://0.0.0.0:6415"));
    }

    #[test]
    fn removes_terminal_sequences() {
        assert_eq!(kept("\u{1b}[31;1mERROR\u{1b}[0m:\tboom\r\n"), "ERROR: boom");
        assert_eq!(kept("\u{1b}]0;title\u{7}text\u{202e}end"), "textend");
        assert_eq!(kept("a\u{1b}"), "a");
        assert_eq!(kept("a\u{1b}[31"), "a");
    }

    #[test]
    fn cuts_a_long_line_between_characters() {
        let cut = kept(&"é".repeat(LENGTH + 5));
        assert_eq!(cut.chars().count(), LENGTH + 1);
        assert!(cut.ends_with('…'));
        assert_eq!(kept(&"x".repeat(LENGTH)).len(), LENGTH);
    }
}
