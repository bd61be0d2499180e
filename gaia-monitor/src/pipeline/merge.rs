//! Merge of all sources: gives every observation its number and the instant of its release, which define the only order
//! from here on.
//!
//! Pure: `now` is a parameter. Nothing is delayed or reordered, because no source may wait for a slower one; a batch
//! arrives sorted by its source.

use std::collections::BTreeMap;

use crate::model::event::{Event, Fact, Observation};
use crate::model::time::Stamp;

#[derive(Debug, Default)]
pub struct Merge {
    last: u64,
    seen: Stamp,
}

impl Merge {
    /// The next event. `seen` never decreases, even if the system clock is stepped back.
    pub fn release(&mut self, now: Stamp, observation: Observation) -> Event {
        self.last += 1;
        self.seen = self.seen.max(now);
        Event { seq: self.last, seen: self.seen, at: observation.at, fact: observation.fact }
    }

    /// An event of the monitor itself; its own instant is that of its release.
    pub fn own(&mut self, now: Stamp, fact: Fact) -> Event {
        let at = self.seen.max(now);
        self.release(now, Observation { at, fact })
    }

    /// A tick, if a timer is due.
    pub fn tick(&mut self, now: Stamp, deadline: Option<Stamp>) -> Option<Event> {
        let due = deadline.is_some_and(|deadline| deadline <= self.seen.max(now));
        due.then(|| self.own(now, Fact::Tick))
    }

    /// One event for each stage that lost events.
    pub fn lost(&mut self, now: Stamp, losses: BTreeMap<String, u64>) -> Vec<Event> {
        losses
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(stage, count)| self.own(now, Fact::Lost { stage, count }))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Merge;
    use crate::model::event::{Fact, Observation};
    use crate::model::ids::Pid;
    use crate::model::time::Stamp;

    fn victim(at: i64) -> Observation {
        Observation { at: Stamp(at), fact: Fact::OomVictim { pid: Pid(7) } }
    }

    #[test]
    fn numbers_events_from_one_without_gaps() {
        let mut merge = Merge::default();
        let mut seqs = vec![merge.release(Stamp(5), victim(1)).seq];
        seqs.extend(merge.tick(Stamp(6), Some(Stamp(7))).map(|event| event.seq));
        seqs.extend(
            merge.lost(Stamp(6), [("ebpf".into(), 3), ("docker".into(), 0)].into()).iter().map(|event| event.seq),
        );
        seqs.extend(merge.tick(Stamp(8), Some(Stamp(7))).map(|event| event.seq));
        seqs.push(merge.own(Stamp(9), Fact::Shutdown).seq);
        assert_eq!(seqs, [1, 2, 3, 4]);
    }

    #[test]
    fn keeps_seen_monotonic_when_the_clock_steps_back() {
        let mut merge = Merge::default();
        assert_eq!(merge.release(Stamp(100), victim(90)).seen, Stamp(100));
        let late = merge.release(Stamp(40), victim(30));
        assert_eq!((late.seen, late.at), (Stamp(100), Stamp(30)));
        assert_eq!(merge.release(Stamp(101), victim(95)).seen, Stamp(101));
    }

    #[test]
    fn ticks_when_a_timer_is_due_and_not_before() {
        let mut merge = Merge::default();
        assert_eq!(merge.tick(Stamp(10), None), None);
        assert_eq!(merge.tick(Stamp(10), Some(Stamp(11))), None);
        let tick = merge.tick(Stamp(11), Some(Stamp(11))).unwrap();
        assert_eq!((tick.at, tick.seen, tick.fact), (Stamp(11), Stamp(11), Fact::Tick));
    }

    #[test]
    fn ticks_for_a_timer_that_events_have_passed_when_the_clock_steps_back() {
        let mut merge = Merge::default();
        merge.release(Stamp(100), victim(1));
        assert_eq!(merge.tick(Stamp(50), Some(Stamp(60))).unwrap().seen, Stamp(100));
    }

    #[test]
    fn reports_the_count_of_each_stage_that_lost_events() {
        let mut merge = Merge::default();
        let lost = merge.lost(Stamp(3), [("docker.events".into(), 1), ("ring".into(), 9), ("dns".into(), 0)].into());
        let facts: Vec<_> = lost.into_iter().map(|event| event.fact).collect();
        assert_eq!(
            facts,
            [Fact::Lost { stage: "docker.events".into(), count: 1 }, Fact::Lost { stage: "ring".into(), count: 9 }]
        );
    }
}
