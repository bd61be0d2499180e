//! What containers wrote, as far as it was asked for.
//!
//! Bound: [`PER_CONTAINER`] lines each, of [`CONTAINERS`] containers; the oldest lines, and the containers that came
//! first, go first. An incident keeps the lines that it told (see `draft/traces`), so only a later incident misses them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::logline::{self, Named};
use crate::model::event::{LogLine, LogStream};
use crate::model::ids::ContainerId;
use crate::model::time::Stamp;

const PER_CONTAINER: usize = 256;
const CONTAINERS: usize = 256;

/// One line. It sorts by its instant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub at: Stamp,
    pub stream: LogStream,
    pub text: String,
}

impl Line {
    #[must_use]
    pub fn named(&self) -> Vec<Named> {
        logline::named(&self.text)
    }
}

#[derive(Debug, Default)]
pub struct Logs {
    of: BTreeMap<ContainerId, BTreeSet<Line>>,
    arrived: VecDeque<ContainerId>,
}

impl Logs {
    /// The lines of a container in a span of time, both ends included.
    pub fn between(&self, container: &ContainerId, from: Stamp, until: Stamp) -> impl Iterator<Item = &Line> {
        let lines = self.of.get(container).into_iter().flatten();
        lines.skip_while(move |line| line.at < from).take_while(move |line| line.at <= until)
    }

    /// Takes a line in; `None` if it is known already.
    pub(super) fn take(&mut self, at: Stamp, said: &LogLine) -> Option<Line> {
        let line = Line { at, stream: said.stream, text: said.text.clone() };
        if !self.of.contains_key(&said.container) {
            self.arrived.push_back(said.container.clone());
            if self.arrived.len() > CONTAINERS
                && let Some(oldest) = self.arrived.pop_front()
            {
                self.of.remove(&oldest);
            }
        }
        let lines = self.of.entry(said.container.clone()).or_default();
        if !lines.insert(line.clone()) {
            return None;
        }
        if lines.len() > PER_CONTAINER {
            lines.pop_first();
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::{CONTAINERS, Logs, PER_CONTAINER};
    use crate::model::event::{LogLine, LogStream};
    use crate::model::ids::ContainerId;
    use crate::model::time::Stamp;

    fn line(container: usize, text: &str) -> LogLine {
        LogLine { container: ContainerId(container.to_string()), stream: LogStream::Stdout, text: text.to_owned() }
    }

    #[test]
    fn a_line_counts_once_and_the_oldest_go_first() {
        let mut logs = Logs::default();
        assert!(logs.take(Stamp(1), &line(0, "a")).is_some());
        assert!(logs.take(Stamp(1), &line(0, "a")).is_none());
        for at in (2..).take(PER_CONTAINER) {
            logs.take(Stamp(at), &line(0, "b"));
        }
        let first = ContainerId("0".into());
        let kept = logs.between(&first, Stamp(0), Stamp(i64::MAX));
        assert_eq!(kept.map(|line| line.at).next(), Some(Stamp(2)));
        for container in 1..=CONTAINERS {
            logs.take(Stamp(1), &line(container, "a"));
        }
        assert_eq!(logs.between(&first, Stamp(0), Stamp(i64::MAX)).count(), 0);
    }
}
