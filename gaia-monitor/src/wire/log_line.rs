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

/// The names that clients log, whatever module is written before them; docs/stories.md lists them by library, measured with
/// the real ones.
pub const NAMES: [Named; 38] = [
    // httpx; httpcore's are the same.
    Named { name: "ConnectError", classes: &[ConnectError] },
    Named { name: "ConnectTimeout", classes: &[ConnectTimeout] },
    Named { name: "ReadError", classes: &[ReadError] },
    Named { name: "ReadTimeout", classes: &[ReadTimeout] },
    Named { name: "WriteError", classes: &[WriteError] },
    Named { name: "WriteTimeout", classes: &[WriteTimeout] },
    Named { name: "RemoteProtocolError", classes: &[RemoteProtocolError] },
    // requests and niquests have one class for a failed connect, a reset and a missing response.
    Named { name: "ConnectionError", classes: &[ConnectError, ReadError, RemoteProtocolError, WriteError] },
    Named { name: "ChunkedEncodingError", classes: &[RemoteProtocolError, ReadError] },
    // urllib3.
    Named { name: "MaxRetryError", classes: ANY },
    Named { name: "NewConnectionError", classes: &[ConnectError] },
    Named { name: "NameResolutionError", classes: &[ConnectError] },
    Named { name: "ConnectTimeoutError", classes: &[ConnectTimeout] },
    Named { name: "ReadTimeoutError", classes: &[ReadTimeout] },
    Named { name: "ProtocolError", classes: &[RemoteProtocolError, ReadError] },
    // http.client, and the exceptions of Python itself.
    Named { name: "RemoteDisconnected", classes: &[RemoteProtocolError] },
    Named { name: "IncompleteRead", classes: &[RemoteProtocolError] },
    Named { name: "ConnectionRefusedError", classes: &[ConnectError] },
    Named { name: "ConnectionResetError", classes: &[ReadError] },
    Named { name: "BrokenPipeError", classes: &[ReadError, WriteError] },
    Named { name: "gaierror", classes: &[ConnectError] },
    // aiohttp.
    Named { name: "ClientConnectorError", classes: &[ConnectError] },
    Named { name: "ClientConnectorDNSError", classes: &[ConnectError] },
    Named { name: "ServerDisconnectedError", classes: &[RemoteProtocolError] },
    Named { name: "ClientOSError", classes: &[ReadError, WriteError] },
    Named { name: "ClientPayloadError", classes: &[RemoteProtocolError, ReadError] },
    Named { name: "ServerTimeoutError", classes: &[ConnectTimeout, ReadTimeout] },
    // tornado.
    Named { name: "HTTPStreamClosedError", classes: &[RemoteProtocolError] },
    // Node: undici's code for the other side's close, and the codes of the kernel's errors.
    Named { name: "UND_ERR_SOCKET", classes: &[RemoteProtocolError] },
    Named { name: "ECONNREFUSED", classes: &[ConnectError] },
    Named { name: "ECONNRESET", classes: &[ReadError] },
    Named { name: "EPIPE", classes: &[ReadError, WriteError] },
    Named { name: "ENOTFOUND", classes: &[ConnectError] },
    Named { name: "EAI_AGAIN", classes: &[ConnectError, ConnectTimeout] },
    // Go.
    Named { name: "unexpected EOF", classes: &[RemoteProtocolError] },
    Named { name: "connection reset by peer", classes: &[ReadError] },
    Named { name: "connection refused", classes: &[ConnectError] },
    // A bare EOF of Go, after the more special text above.
    Named { name: "EOF", classes: &[RemoteProtocolError] },
];

const ANY: &[HttpxClass] =
    &[ConnectError, ConnectTimeout, ReadError, ReadTimeout, WriteError, WriteTimeout, RemoteProtocolError];

/// curl's exit codes, as `curl: (52)` or the bare number.
pub const CURL: [(u16, &[HttpxClass]); 6] = [
    (6, &[ConnectError]),
    (7, &[ConnectError]),
    (18, &[RemoteProtocolError]),
    (28, &[ConnectTimeout, ReadTimeout]),
    (52, &[RemoteProtocolError]),
    (56, &[ReadError]),
];

/// The httpx classes that a name stands for: with or without its module, or a code of curl (`curl 52`, `52`).
#[must_use]
pub fn classes_of(name: &str) -> Option<&'static [HttpxClass]> {
    let name = name.trim();
    let code = name.strip_prefix("curl").unwrap_or(name).trim_matches([' ', ':', '(', ')']);
    if let Ok(code) = code.parse::<u16>() {
        return CURL.iter().find(|(known, _)| *known == code).map(|(_, classes)| *classes);
    }
    let bare = name.rsplit(['.', ':']).next().unwrap_or(name).trim();
    NAMES.iter().find(|named| named.name.eq_ignore_ascii_case(bare)).map(|named| named.classes)
}

/// The code in `curl: (52) Empty reply from server`.
fn curl_classes(text: &str) -> Option<&'static [HttpxClass]> {
    let (_, rest) = text.split_once("curl: (")?;
    classes_of(rest.split_once(')')?.0)
}

/// All classes that a line or a traceback can stand for; of a traceback the last line that names an error counts.
#[must_use]
pub fn classes_in(text: &str) -> Vec<HttpxClass> {
    let of_line = |line: &str| -> Vec<HttpxClass> {
        let named = named(line);
        let mut classes: Vec<HttpxClass> = named.iter().flat_map(|named| named.classes).copied().collect();
        classes.extend(curl_classes(line).into_iter().flatten());
        classes.sort();
        classes.dedup();
        classes
    };
    text.lines().rev().map(of_line).find(|classes| !classes.is_empty()).unwrap_or_default()
}

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

/// A control character, a line end, a mark of text direction, or a character that is not displayed at all (Unicode's
/// `Cc`, `Zl`, `Zp`, and `Default_Ignorable_Code_Point`): it could move a cursor, set a title, reverse a line, or make two
/// different names look the same.
#[must_use]
pub fn is_harmful(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    matches!(
        character,
        '\u{80}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
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
    use super::{LENGTH, begins_crash, classes_in, classes_of, kept, named};
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
        for other in ["MyReadError", "ReadErrors", "read_error", "ConnectionErrorHandler"] {
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
    fn reads_the_names_of_other_clients_with_and_without_a_module() {
        use HttpxClass::{ConnectError, ReadError, RemoteProtocolError};
        for (name, class) in [
            ("requests.exceptions.ConnectionError", ReadError),
            ("ChunkedEncodingError", RemoteProtocolError),
            ("urllib3.exceptions.MaxRetryError", ConnectError),
            ("http.client.RemoteDisconnected", RemoteProtocolError),
            ("aiohttp.client_exceptions.ServerDisconnectedError", RemoteProtocolError),
            ("ClientOSError", ReadError),
            ("UND_ERR_SOCKET", RemoteProtocolError),
            ("ECONNRESET", ReadError),
            ("unexpected EOF", RemoteProtocolError),
            ("curl 52", RemoteProtocolError),
            ("curl: (56)", ReadError),
            ("7", ConnectError),
            ("readerror", ReadError),
        ] {
            assert!(classes_of(name).is_some_and(|classes| classes.contains(&class)), "{name}");
        }
        for name in ["", "ReadErr", "httpx", "99", "curl"] {
            assert_eq!(classes_of(name), None, "{name}");
        }
    }

    #[test]
    fn takes_the_last_error_of_a_traceback() {
        let text = "ConnectionResetError: [Errno 104] Connection reset by peer\n\nDuring handling:\n\n\
                    requests.exceptions.ChunkedEncodingError: ('Connection broken')\nwhile serving";
        assert_eq!(classes_in(text), [HttpxClass::ReadError, HttpxClass::RemoteProtocolError]);
        assert_eq!(classes_in("curl: (52) Empty reply from server"), [HttpxClass::RemoteProtocolError]);
        assert_eq!(classes_in("Post \"http://core:6415/x\": EOF"), [HttpxClass::RemoteProtocolError]);
        assert!(classes_in("all is well").is_empty());
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
