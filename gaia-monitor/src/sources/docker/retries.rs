//! Containers that Docker failed to inspect. Each is tried again at growing intervals, until it is inspected or removed.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::ids::ContainerId;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Containers tried again; far more than a host runs. Beyond it, one is tried again with its next event.
const CONTAINERS: usize = 4_096;

#[derive(Debug, Default)]
pub struct Retries(BTreeMap<ContainerId, Retry>);

#[derive(Debug)]
struct Retry {
    interval: Duration,
    /// `None`: an inspection is under way.
    due: Option<Instant>,
}

impl Retries {
    /// Records a failure. Returns `true` for the first in sequence.
    pub fn failed(&mut self, id: ContainerId, now: Instant) -> bool {
        if let Some(retry) = self.0.get_mut(&id) {
            retry.interval = (retry.interval * 2).min(LONGEST);
            retry.due = Some(now + retry.interval);
            return false;
        }
        if self.0.len() < CONTAINERS {
            self.0.insert(id, Retry { interval: FIRST, due: Some(now + FIRST) });
        }
        true
    }

    /// The container was inspected or removed. Returns `true` if it had failed.
    pub fn ended(&mut self, id: &ContainerId) -> bool {
        self.0.remove(id).is_some()
    }

    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|retry| retry.due).min()
    }

    /// The containers to inspect now.
    pub fn take_due(&mut self, now: Instant) -> Vec<ContainerId> {
        let due = self.0.iter_mut().filter(|(_, retry)| retry.due.is_some_and(|due| due <= now));
        due.map(|(id, retry)| {
            retry.due = None;
            id.clone()
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{CONTAINERS, LONGEST, Retries};
    use crate::model::ids::ContainerId;

    fn id(name: &str) -> ContainerId {
        ContainerId(name.into())
    }

    #[test]
    fn grows_the_interval_until_the_container_is_inspected() {
        let mut retries = Retries::default();
        let mut now = Instant::now();
        assert!(retries.failed(id("a"), now));
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(retries.next().unwrap() - now, Duration::from_secs(seconds));
            assert!(retries.take_due(now).is_empty());
            now = retries.next().unwrap();
            assert_eq!(retries.take_due(now), [id("a")]);
            assert_eq!(retries.next(), None, "one inspection at a time");
            assert!(!retries.failed(id("a"), now));
        }
        assert!(retries.ended(&id("a")) && !retries.ended(&id("a")));
        assert!(retries.failed(id("a"), now), "a later failure is a new one");
    }

    #[test]
    fn has_a_bound() {
        let (mut retries, now) = (Retries::default(), Instant::now());
        (0..2 * CONTAINERS).for_each(|number| assert!(retries.failed(id(&number.to_string()), now)));
        assert_eq!(retries.take_due(now + LONGEST).len(), CONTAINERS);
    }
}
