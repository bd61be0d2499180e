//! Selection of log lines. A recording keeps them, so they are few: the message of a crash first, then lines that name an
//! error, then the last lines.

use super::LineSelection;
use crate::model::event::LogLine;
use crate::model::time::Stamp;
use crate::wire::log_line::{CRASH_LINES, begins_crash, named};

/// LineSelection kept of one response. An incident contains fewer.
const MAX_LINES: usize = 64;

/// The most relevant of lines sorted by time, sorted by time.
pub fn most_relevant(lines: Vec<(Stamp, LogLine)>, wanted: LineSelection) -> Vec<(Stamp, LogLine)> {
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
            (LineSelection::Errors, _, false) => continue,
            (LineSelection::All, true, _) => 0,
            (LineSelection::Errors, _, true) | (LineSelection::All, false, true) => 1,
            (LineSelection::All, false, false) => 2,
        };
        // The first lines of a crash, the last of all others.
        let order = if rank == 0 { index } else { count - index };
        ranked.push((rank, order, (at, line)));
    }
    ranked.sort();
    ranked.truncate(MAX_LINES);
    let mut kept: Vec<_> = ranked.into_iter().map(|(_, _, line)| line).collect();
    kept.sort();
    kept
}

#[cfg(test)]
mod tests {
    use super::super::LineSelection;
    use super::{MAX_LINES, most_relevant};
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
    fn keeps_the_message_of_a_crash_among_other_lines() {
        let chatter = |count: usize| (0..count).map(|number| format!("GET /health {number}"));
        let crash = ["Fatal Python error: Segmentation fault", "Current thread 0x1:", "  File \"x\", line 1"];
        let story = chatter(500).chain(crash.map(str::to_owned)).chain(chatter(500));
        let kept = most_relevant(lines(story), LineSelection::All);
        assert_eq!(kept.len(), MAX_LINES);
        assert!(crash.iter().all(|line| texts(&kept).contains(line)), "{kept:?}");
        assert!(kept.is_sorted());
        assert_eq!(texts(&kept).last(), Some(&"GET /health 499"));
    }

    #[test]
    fn keeps_only_errors_of_a_client() {
        let story = ["GET /", "attempt 1 failed: ConnectError", "Fatal Python error: x"].map(str::to_owned);
        assert_eq!(texts(&most_relevant(lines(story), LineSelection::Errors)), ["attempt 1 failed: ConnectError"]);
    }
}
