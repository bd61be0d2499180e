//! Which lines of an answer are told. A recording keeps them, so they are few: a crash's own words first, then what
//! names an error, then the last lines.

use super::Lines;
use crate::logline::{CRASH_LINES, begins_crash, named};
use crate::model::event::LogLine;
use crate::model::time::Stamp;

/// Lines that one answer brings at most. An incident tells fewer.
const MOST: usize = 64;

/// Of lines in order of time, those that say the most, in order of time.
pub fn the_telling(lines: Vec<(Stamp, LogLine)>, wanted: Lines) -> Vec<(Stamp, LogLine)> {
    let mut crash_left = 0_usize;
    let mut ranked: Vec<(u8, usize, (Stamp, LogLine))> = Vec::new();
    let count = lines.len();
    for (index, (at, line)) in lines.into_iter().enumerate() {
        if begins_crash(&line.text) {
            crash_left = CRASH_LINES + 1;
        }
        let in_crash = crash_left > 0;
        crash_left = crash_left.saturating_sub(1);
        let names_error = !named(&line.text).is_empty();
        let rank = match (wanted, in_crash, names_error) {
            (Lines::Errors, _, false) => continue,
            (Lines::All, true, _) => 0,
            (Lines::Errors, _, true) | (Lines::All, false, true) => 1,
            (Lines::All, false, false) => 2,
        };
        // Of a crash the first lines, of all else the last.
        let order = if rank == 0 { index } else { count - index };
        ranked.push((rank, order, (at, line)));
    }
    ranked.sort();
    ranked.truncate(MOST);
    let mut kept: Vec<_> = ranked.into_iter().map(|(_, _, line)| line).collect();
    kept.sort();
    kept
}

#[cfg(test)]
mod tests {
    use super::super::Lines;
    use super::{MOST, the_telling};
    use crate::model::event::{LogLine, LogStream};
    use crate::model::ids::ContainerId;
    use crate::model::time::Stamp;

    fn lines(texts: impl IntoIterator<Item = String>) -> Vec<(Stamp, LogLine)> {
        let line = |text| LogLine { container: ContainerId("c".into()), stream: LogStream::Stderr, text };
        texts.into_iter().zip(1..).map(|(text, at)| (Stamp(at), line(text))).collect()
    }

    fn texts(kept: &[(Stamp, LogLine)]) -> Vec<&str> {
        kept.iter().map(|(_, line)| line.text.as_str()).collect()
    }

    #[test]
    fn chatter_does_not_push_out_a_crashs_words() {
        let chatter = |count: usize| (0..count).map(|number| format!("GET /health {number}"));
        let crash = ["Fatal Python error: Segmentation fault", "Current thread 0x1:", "  File \"x\", line 1"];
        let story = chatter(500).chain(crash.map(str::to_owned)).chain(chatter(500));
        let kept = the_telling(lines(story), Lines::All);
        assert_eq!(kept.len(), MOST);
        assert!(crash.iter().all(|line| texts(&kept).contains(line)), "{kept:?}");
        assert!(kept.is_sorted());
        assert_eq!(texts(&kept).last(), Some(&"GET /health 499"));
    }

    #[test]
    fn of_a_client_only_what_names_an_error_is_told() {
        let story = ["GET /", "attempt 1 failed: ConnectError", "Fatal Python error: x"].map(str::to_owned);
        assert_eq!(texts(&the_telling(lines(story), Lines::Errors)), ["attempt 1 failed: ConnectError"]);
    }
}
