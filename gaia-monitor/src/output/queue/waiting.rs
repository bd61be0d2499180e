//! The items that wait for one writer, in order, within a bound.
//!
//! At the bound the least is lost: first a revision of an incident with a newer one behind it, then the newest revision of
//! an incident that is not over (another one follows), then the item that arrives. Every loss is counted at its place.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::event::Event;
use crate::model::ids::IncidentId;

/// What may wait for one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    pub items: usize,
    pub bytes: usize,
}

impl Bound {
    #[must_use]
    pub const fn of_items(items: usize) -> Self {
        Self { items, bytes: usize::MAX }
    }
}

/// The incident that an item is a revision of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision<'a> {
    pub of: &'a IncidentId,
    /// No other revision follows.
    pub is_last: bool,
}

/// An item of a queue.
pub trait Queued {
    /// `None`: no other item replaces it.
    fn revision(&self) -> Option<Revision<'_>> {
        None
    }
    /// Its memory, roughly.
    fn bytes(&self) -> usize {
        0
    }
}

/// A recording contains every event or a gap.
impl Queued for Event {}

/// An item, and how many between it and the previous one were lost.
#[derive(Debug)]
pub(super) struct Item<T> {
    pub item: T,
    pub lost_before: u64,
}

#[derive(Debug)]
pub(super) struct Waiting<T> {
    bound: Bound,
    items: BTreeMap<u64, Item<T>>,
    next: u64,
    bytes: usize,
    /// The newest waiting revision of each incident.
    newest: BTreeMap<IncidentId, u64>,
    /// Revisions with a newer one behind them.
    superseded: BTreeSet<u64>,
    /// Newest revisions of incidents that are not over.
    passing: BTreeSet<u64>,
    /// Lost behind the last item.
    tail: u64,
}

impl<T: Queued> Waiting<T> {
    pub(super) fn new(bound: Bound) -> Self {
        Self {
            bound,
            items: BTreeMap::new(),
            next: 0,
            bytes: 0,
            newest: BTreeMap::new(),
            superseded: BTreeSet::new(),
            passing: BTreeSet::new(),
            tail: 0,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.items.len() >= self.bound.items || (self.bytes >= self.bound.bytes && !self.items.is_empty())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Lost behind the last item.
    pub(super) fn tail(&self) -> u64 {
        self.tail
    }

    /// Appends an item; returns how many were lost for it, itself included.
    pub(super) fn put(&mut self, item: T) -> u64 {
        let number = self.next;
        self.next += 1;
        self.bytes = self.bytes.saturating_add(item.bytes());
        if let Some(revision) = item.revision() {
            if !revision.is_last {
                self.passing.insert(number);
            }
            if let Some(older) = self.newest.insert(revision.of.clone(), number) {
                self.passing.remove(&older);
                self.superseded.insert(older);
            }
        }
        self.items.insert(number, Item { item, lost_before: std::mem::take(&mut self.tail) });
        let mut lost = 0;
        while self.is_beyond() {
            let least = self.superseded.first().or_else(|| self.passing.first()).copied().unwrap_or(number);
            self.lose(least);
            lost += 1;
        }
        lost
    }

    pub(super) fn take(&mut self) -> Option<Item<T>> {
        let number = *self.items.first_key_value()?.0;
        self.remove(number)
    }

    fn is_beyond(&self) -> bool {
        self.items.len() > self.bound.items || (self.bytes > self.bound.bytes && self.items.len() > 1)
    }

    /// Removes an item and counts it before the next one.
    fn lose(&mut self, number: u64) {
        let Some(lost) = self.remove(number) else { return };
        let count = lost.lost_before + 1;
        match self.items.range_mut(number..).next() {
            Some((_, next)) => next.lost_before += count,
            None => self.tail += count,
        }
    }

    fn remove(&mut self, number: u64) -> Option<Item<T>> {
        let item = self.items.remove(&number)?;
        self.bytes = self.bytes.saturating_sub(item.item.bytes());
        self.superseded.remove(&number);
        self.passing.remove(&number);
        if let Some(revision) = item.item.revision()
            && self.newest.get(revision.of) == Some(&number)
        {
            self.newest.remove(revision.of);
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bound, Queued, Revision, Waiting};
    use crate::model::ids::IncidentId;

    /// A revision: incident, number, whether it is the last one.
    #[derive(Debug)]
    struct Line(IncidentId, u32, bool);

    impl Queued for Line {
        fn revision(&self) -> Option<Revision<'_>> {
            Some(Revision { of: &self.0, is_last: self.2 })
        }
        fn bytes(&self) -> usize {
            10
        }
    }

    fn line(incident: &str, revision: u32) -> Line {
        Line(IncidentId(incident.into()), revision, false)
    }

    fn last(incident: &str, revision: u32) -> Line {
        Line(IncidentId(incident.into()), revision, true)
    }

    /// What is left, as `incident+revision`, with the losses before each and at the end.
    fn rest(mut waiting: Waiting<Line>) -> String {
        let mut text = String::new();
        while let Some(item) = waiting.take() {
            text.push_str(&format!("{}{}({}) ", item.item.0.0, item.item.1, item.lost_before));
        }
        assert_eq!((waiting.bytes, waiting.newest.len(), waiting.passing.len()), (0, 0, 0));
        assert!(waiting.superseded.is_empty());
        format!("{text}end({})", waiting.tail())
    }

    fn queued(items: usize, lines: impl IntoIterator<Item = Line>) -> (u64, String) {
        let mut waiting = Waiting::new(Bound::of_items(items));
        let lost = lines.into_iter().map(|line| waiting.put(line)).sum();
        (lost, rest(waiting))
    }

    #[test]
    fn loses_nothing_within_the_bound() {
        let (lost, left) = queued(3, [line("a", 1), line("a", 2), last("a", 3)]);
        assert_eq!((lost, left.as_str()), (0, "a1(0) a2(0) a3(0) end(0)"));
    }

    #[test]
    fn loses_the_oldest_superseded_revision_first() {
        let (lost, left) = queued(3, [line("a", 1), line("b", 1), line("a", 2), line("a", 3), line("b", 2)]);
        assert_eq!((lost, left.as_str()), (2, "a2(2) a3(0) b2(0) end(0)"));
    }

    #[test]
    fn loses_what_another_revision_follows_before_a_last_one() {
        let (lost, left) = queued(2, [last("a", 1), line("b", 1), last("c", 1)]);
        assert_eq!((lost, left.as_str()), (1, "a1(0) c1(1) end(0)"));
        let (lost, left) = queued(2, [last("a", 1), last("b", 1), line("c", 1)]);
        assert_eq!((lost, left.as_str()), (1, "a1(0) b1(0) end(1)"));
    }

    #[test]
    fn loses_the_item_that_arrives_when_every_waiting_one_is_a_last_revision() {
        let (lost, left) = queued(2, [last("a", 1), last("b", 1), last("c", 1), last("d", 1)]);
        assert_eq!((lost, left.as_str()), (2, "a1(0) b1(0) end(2)"));
    }

    #[test]
    fn bounds_the_bytes_but_keeps_an_item_of_any_size() {
        let mut waiting = Waiting::new(Bound { items: 100, bytes: 25 });
        assert_eq!((0..5).map(|number| waiting.put(line("a", number))).sum::<u64>(), 3);
        assert_eq!(rest(waiting), "a3(3) a4(0) end(0)");
        let mut waiting = Waiting::new(Bound { items: 100, bytes: 5 });
        assert_eq!(waiting.put(line("a", 1)), 0);
        assert!(waiting.is_full());
        assert_eq!(rest(waiting), "a1(0) end(0)");
    }

    #[test]
    fn every_item_is_either_left_or_counted_and_each_last_revision_arrives() {
        for items in 40..60 {
            let revisions = (1..=30).flat_map(|revision| {
                let one = move |incident| Line(IncidentId(format!("i{incident:02}")), revision, revision == 30);
                (0..40).map(one)
            });
            let (lost, left) = queued(items, revisions);
            assert_eq!(left.matches('i').count() as u64 + lost, 30 * 40);
            assert_eq!((0..40).filter(|incident| left.contains(&format!("i{incident:02}30("))).count(), 40, "{left}");
        }
    }
}
