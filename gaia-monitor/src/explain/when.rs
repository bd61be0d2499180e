//! Times as copied from a log: RFC 3339, Python's format, or a time of day. Without an offset they are UTC.

use std::str::FromStr;

use crate::model::time::{Nanos, Stamp};

/// Words of a log line that may be its time; a prefix of Compose or a level may come before.
const WORDS: usize = 6;
const DAY: i64 = 86_400_000_000_000;

/// A typed time. It covers the unit of its last digit: `14:02:11` is that whole second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Instant {
        from: Stamp,
        length: Nanos,
    },
    /// A time of day, as nanoseconds since midnight UTC.
    TimeOfDay {
        from: Nanos,
        length: Nanos,
    },
}

/// A span of instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: Stamp,
    pub until: Stamp,
}

impl When {
    /// The span, seen from `now`: a time of day is the last one that began before it.
    #[must_use]
    pub fn window(self, now: Stamp) -> Window {
        let (from, length) = match self {
            When::Instant { from, length } => (from, length),
            When::TimeOfDay { from, length } => {
                let midnight = now.0.div_euclid(DAY).saturating_mul(DAY);
                let today = Stamp(midnight).plus(from);
                (if today > now { today.minus(Nanos(DAY)) } else { today }, length)
            }
        };
        Window { from, until: from.plus(length) }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim().replace(',', ".");
        let length = Nanos(precision(&text));
        if let Ok(from) = text.parse::<Stamp>() {
            return Ok(When::Instant { from, length });
        }
        if let Ok(local) = text.parse::<jiff::civil::DateTime>()
            && let Ok(from) = format!("{local}Z").parse::<Stamp>()
        {
            return Ok(When::Instant { from, length });
        }
        if let Ok(time) = text.parse::<jiff::civil::Time>() {
            let seconds = (i64::from(time.hour()) * 60 + i64::from(time.minute())) * 60 + i64::from(time.second());
            let from = Nanos(seconds * 1_000_000_000 + i64::from(time.subsec_nanosecond()));
            return Ok(When::TimeOfDay { from, length });
        }
        Err(format!(
            "{text:?} is not a time: write 2025-11-25T14:02:11.5Z, \"2025-11-25 14:02:11,500\" or 14:02:11 (UTC)"
        ))
    }
}

/// The first time in a log line or traceback: at the beginning of one of its lines, or after an opening bracket.
#[must_use]
pub fn in_log(text: &str) -> Option<When> {
    text.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().take(WORDS).collect();
        let trimmed = |word: &str| word.trim_matches(['[', ']', '(', ')', '"']).trim_end_matches(':').to_owned();
        let pairs = words.windows(2).map(|pair| format!("{} {}", trimmed(pair[0]), trimmed(pair[1])));
        let all: Vec<String> = pairs.chain(words.iter().map(|word| trimmed(word))).collect();
        all.iter().find_map(|word| word.parse().ok())
    })
}

/// The unit of the last typed digit, in nanoseconds.
fn precision(text: &str) -> i64 {
    if let Some((_, fraction)) = text.split_once('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count().min(9);
        return 10_i64.pow(9 - u32::try_from(digits).unwrap_or(9));
    }
    // An offset has a colon of its own, behind its sign; a date has none.
    let time = text.rsplit(['T', 't', ' ']).next().unwrap_or_default();
    let time = time.split(['+', '-']).next().unwrap_or_default();
    if time.matches(':').count() >= 2 { 1_000_000_000 } else { 60_000_000_000 }
}

#[cfg(test)]
mod tests {
    use super::When;
    use crate::model::time::Stamp;

    /// Noon of 2025-11-25.
    const NOON: &str = "2025-11-25T12:00:00Z";

    fn window(text: &str) -> (String, i64) {
        let now: Stamp = NOON.parse().unwrap();
        let window = text.parse::<When>().unwrap().window(now);
        (window.from.to_string(), window.until.since(window.from).0)
    }

    #[test]
    fn reads_times_with_their_precision() {
        let cases = [
            ("2025-11-25T11:02:11.123456789Z", "2025-11-25T11:02:11.123456789Z", 1),
            ("2025-11-25T12:02:11+01:00", "2025-11-25T11:02:11.000000000Z", 1_000_000_000),
            ("2025-11-25 11:02:11,500", "2025-11-25T11:02:11.500000000Z", 1_000_000),
            ("2025-11-25 11:02", "2025-11-25T11:02:00.000000000Z", 60_000_000_000),
            ("11:02:11", "2025-11-25T11:02:11.000000000Z", 1_000_000_000),
            ("11:02:11.5", "2025-11-25T11:02:11.500000000Z", 100_000_000),
            ("23:59:10", "2025-11-24T23:59:10.000000000Z", 1_000_000_000),
        ];
        for (text, from, length) in cases {
            assert_eq!(window(text), (from.to_owned(), length), "{text}");
        }
    }

    #[test]
    fn finds_the_time_of_a_log_line() {
        let found = |text: &str| super::in_log(text).map(|when| when.window(NOON.parse().unwrap()).from.to_string());
        for (line, from) in [
            ("2025-11-25 11:02:11,500 WARNING HA fallback failed (ReadError)", "2025-11-25T11:02:11.500000000Z"),
            ("web_1  | [2025-11-25T11:02:11Z] ERROR httpx.ReadError", "2025-11-25T11:02:11.000000000Z"),
            ("Traceback:\n11:02:11 ERROR: ReadError", "2025-11-25T11:02:11.000000000Z"),
        ] {
            assert_eq!(found(line).as_deref(), Some(from), "{line}");
        }
        assert_eq!(found("httpx.ReadError"), None);
    }

    #[test]
    fn rejects_other_text_with_examples() {
        for text in ["", "soon", "25:00:00", "2025-13-01T00:00:00Z"] {
            assert!(text.parse::<When>().unwrap_err().contains("is not a time: write 2025"), "{text}");
        }
    }
}
