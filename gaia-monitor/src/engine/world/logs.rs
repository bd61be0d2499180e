//! Log lines of containers, as requested by the engine.
//!
//! Bound: [`LINES_CAP`] lines of each of [`CONTAINERS_CAP`] containers; when reached, the oldest line, or the container
//! first recorded, is evicted. An incident keeps its published lines (see `report/log_lines`), so only a later incident
//! misses them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::event::{LogLine, LogStream};
use crate::model::ids::ContainerId;
use crate::model::time::Stamp;
use crate::wire::log_line::{self, Named};

const LINES_CAP: usize = 256;
const CONTAINERS_CAP: usize = 256;

/// One log line, ordered by its instant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub at: Stamp,
    pub stream: LogStream,
    pub text: String,
}

impl Line {
    #[must_use]
    pub fn named(&self) -> Vec<Named> {
        log_line::named(&self.text)
    }
}

#[derive(Debug, Default)]
pub struct Logs {
    by_container: BTreeMap<ContainerId, BTreeSet<Line>>,
    arrived: VecDeque<ContainerId>,
}

impl Logs {
    /// The lines of a container between two instants, both included.
    pub fn between(&self, container: &ContainerId, from: Stamp, until: Stamp) -> impl Iterator<Item = &Line> {
        let lines = self.by_container.get(container).into_iter().flatten();
        lines.skip_while(move |line| line.at < from).take_while(move |line| line.at <= until)
    }

    /// Records a line; `None` if it is a duplicate.
    pub(super) fn record(&mut self, at: Stamp, log: &LogLine) -> Option<Line> {
        let line = Line { at, stream: log.stream, text: log.text.clone() };
        if !self.by_container.contains_key(&log.container) {
            self.arrived.push_back(log.container.clone());
            if self.arrived.len() > CONTAINERS_CAP
                && let Some(oldest) = self.arrived.pop_front()
            {
                self.by_container.remove(&oldest);
            }
        }
        let lines = self.by_container.entry(log.container.clone()).or_default();
        if !lines.insert(line.clone()) {
            return None;
        }
        if lines.len() > LINES_CAP {
            lines.pop_first();
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::{CONTAINERS_CAP, LINES_CAP, Logs};
    use crate::model::event::{LogLine, LogStream};
    use crate::model::ids::ContainerId;
    use crate::model::time::Stamp;

    fn line(container: usize, text: &str) -> LogLine {
        LogLine { container: ContainerId(container.to_string()), stream: LogStream::Stdout, text: text.to_owned() }
    }

    #[test]
    fn ignores_duplicate_lines_and_evicts_the_oldest() {
        let mut logs = Logs::default();
        assert!(logs.record(Stamp(1), &line(0, "a")).is_some());
        assert!(logs.record(Stamp(1), &line(0, "a")).is_none());
        for at in (2..).take(LINES_CAP) {
            logs.record(Stamp(at), &line(0, "b"));
        }
        let first = ContainerId("0".into());
        let kept = logs.between(&first, Stamp(0), Stamp(i64::MAX));
        assert_eq!(kept.map(|line| line.at).next(), Some(Stamp(2)));
        for container in 1..=CONTAINERS_CAP {
            logs.record(Stamp(1), &line(container, "a"));
        }
        assert_eq!(logs.between(&first, Stamp(0), Stamp(i64::MAX)).count(), 0);
    }
}
