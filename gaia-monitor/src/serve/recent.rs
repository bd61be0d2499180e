//! The latest incidents, for who asks over HTTP: a writer like the journal, on a thread of its own, into memory.
//!
//! Bound: [`KEPT`] incidents and [`BYTES`] of their text; the oldest go first. What is longer ago stands in the journal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::effect::Effect;
use crate::model::ids::IncidentId;
use crate::model::incident::{CauseKind, Incident, State};
use crate::sinks::lane::{Drain, Trouble};

pub const KEPT: usize = 1_000;
pub const BYTES: usize = 16 << 20;
/// What metrics call the subject of an incident that has no container.
const NOBODY: &str = "none";

/// One incident by its last revision.
#[derive(Clone, Debug)]
struct Entry {
    cause: CauseKind,
    /// Whom it is about and whom it affected, by every name that a label of a metric can have.
    names: BTreeSet<String>,
    withdrawn: bool,
    line: Arc<str>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: BTreeMap<IncidentId, Entry>,
    /// As they were first told, oldest first.
    order: VecDeque<IncidentId>,
    bytes: usize,
}

/// Shared by the writer and the server.
#[derive(Clone, Debug, Default)]
pub struct Recent(Arc<Mutex<Kept>>);

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pub cause: Option<CauseKind>,
    pub service: Option<String>,
    pub limit: usize,
    /// Only what was first told before this one.
    pub after: Option<IncidentId>,
}

/// Some incidents, newest first.
#[derive(Clone, Debug)]
pub struct Page {
    pub lines: Vec<Arc<str>>,
    /// The last one, if there are more behind it.
    pub next: Option<IncidentId>,
}

impl Recent {
    /// `None`: the incident that it begins after is not kept any more, or never was.
    #[must_use]
    pub fn page(&self, query: &Query) -> Option<Page> {
        let kept = self.lock();
        let mut behind = kept.order.iter().rev();
        if let Some(after) = &query.after {
            behind.find(|id| *id == after)?;
        }
        let fits = |entry: &Entry| {
            !entry.withdrawn
                && query.cause.is_none_or(|cause| cause == entry.cause)
                && query.service.as_ref().is_none_or(|service| entry.names.contains(service))
        };
        let mut found = behind.filter_map(|id| Some((id, kept.entries.get(id).filter(|entry| fits(entry))?)));
        let page: Vec<_> = found.by_ref().take(query.limit).collect();
        let next = found.next().and_then(|_| page.last().map(|(id, _)| (*id).clone()));
        Some(Page { lines: page.into_iter().map(|(_, entry)| Arc::clone(&entry.line)).collect(), next })
    }

    fn keep(&self, incident: &Incident) -> Result<(), serde_json::Error> {
        let line: Arc<str> = serde_json::to_string(incident)?.into();
        let withdrawn = incident.state == State::Withdrawn;
        let entry = Entry { cause: incident.cause.kind, names: names(incident), withdrawn, line };
        let mut kept = self.lock();
        kept.bytes += entry.line.len();
        match kept.entries.insert(incident.id.clone(), entry) {
            Some(before) => kept.bytes -= before.line.len(),
            None => kept.order.push_back(incident.id.clone()),
        }
        while kept.order.len() > KEPT || (kept.bytes > BYTES && kept.order.len() > 1) {
            let Some(gone) = kept.order.pop_front().and_then(|id| kept.entries.remove(&id)) else { break };
            kept.bytes -= gone.line.len();
        }
        Ok(())
    }

    /// Held for a look-up, never while anything is written or sent.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn names(incident: &Incident) -> BTreeSet<String> {
    let subject = &incident.subject;
    let mut names: BTreeSet<&str> =
        [&subject.service, &subject.container].into_iter().flatten().map(|name| &**name).collect();
    if names.is_empty() {
        names.insert(NOBODY);
    }
    names.extend(incident.affected.iter().flat_map(|entry| entry.client.names().chain(entry.server.names())));
    names.into_iter().map(str::to_owned).collect()
}

impl Drain<Arc<Effect>> for Recent {
    fn kind(&self) -> &'static str {
        "incidents"
    }

    fn name(&self) -> String {
        "the page of incidents".to_owned()
    }

    fn take(&mut self, effect: Arc<Effect>, _lost_before: u64) -> Result<(), Trouble> {
        match effect.as_ref() {
            Effect::Incident(incident) => {
                self.keep(incident).map_err(|error| Trouble::Lost { count: 1, error: io::Error::from(error) })
            }
            Effect::Explained { .. } | Effect::Counted(_) | Effect::Wanted(_) => Ok(()),
        }
    }

    fn idle(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    fn finish(&mut self, _lost: u64) -> Result<(), Trouble> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES, KEPT, Query, Recent};
    use crate::model::ids::{IncidentId, Pid};
    use crate::model::incident::{CauseKind, Incident, State};
    use crate::sinks::sample;

    fn incident(number: usize) -> Incident {
        Incident { id: IncidentId(format!("inc-{number}")), ..sample::killed() }
    }

    fn ids(recent: &Recent, query: &Query) -> (Vec<String>, Option<String>) {
        let page = recent.page(query).unwrap();
        let id = |line: &std::sync::Arc<str>| serde_json::from_str::<Incident>(line).unwrap().id.0;
        (page.lines.iter().map(id).collect(), page.next.map(|id| id.0))
    }

    fn query(limit: usize) -> Query {
        Query { limit, ..Query::default() }
    }

    #[test]
    fn pages_go_from_the_newest_to_the_oldest_and_miss_none() {
        let recent = Recent::default();
        (0..5).for_each(|number| recent.keep(&incident(number)).unwrap());
        let (first, next) = ids(&recent, &query(2));
        assert_eq!((first, next.as_deref()), (vec!["inc-4".to_owned(), "inc-3".into()], Some("inc-3")));
        recent.keep(&incident(5)).unwrap();
        let after = next.map(IncidentId);
        let (second, next) = ids(&recent, &Query { after: after.clone(), ..query(3) });
        assert_eq!((second, next), (vec!["inc-2".to_owned(), "inc-1".into(), "inc-0".into()], None));
        assert!(recent.page(&Query { after: Some(IncidentId("gone".into())), ..query(3) }).is_none());
    }

    #[test]
    fn the_last_revision_stands_and_a_withdrawn_one_is_left_out() {
        let recent = Recent::default();
        recent.keep(&incident(1)).unwrap();
        let mut later = incident(1);
        later.cause.kind = CauseKind::OomKilled;
        recent.keep(&later).unwrap();
        let oom = Query { cause: Some(CauseKind::OomKilled), ..query(9) };
        assert_eq!(ids(&recent, &oom).0, ["inc-1"]);
        assert!(ids(&recent, &Query { cause: Some(CauseKind::ProcessKilled), ..query(9) }).0.is_empty());
        later.state = State::Withdrawn;
        recent.keep(&later).unwrap();
        assert!(ids(&recent, &query(9)).0.is_empty());
    }

    #[test]
    fn a_service_is_found_as_subject_client_or_server() {
        let recent = Recent::default();
        recent.keep(&incident(1)).unwrap();
        let of = |service: &str| ids(&recent, &Query { service: Some(service.into()), ..query(9) }).0.len();
        assert_eq!((of("gaia-core-candidate"), of("gaia-web"), of("gaia-wiki")), (1, 1, 0));
        assert_eq!((of("host"), of("external"), of("none")), (0, 0, 0));
    }

    #[test]
    fn what_has_no_container_is_found_by_the_word_that_metrics_have_for_it() {
        let recent = Recent::default();
        let mut outside = incident(1);
        outside.subject.container = None;
        outside.subject.service = None;
        for entry in &mut outside.affected {
            (entry.client.container, entry.client.service, entry.client.pid) = (None, None, Some(Pid(7)));
            (entry.server.container, entry.server.service, entry.server.pid) = (None, None, None);
        }
        recent.keep(&outside).unwrap();
        let of = |service: &str| ids(&recent, &Query { service: Some(service.into()), ..query(9) }).0.len();
        assert_eq!((of("host"), of("external"), of("none"), of("gaia-web")), (1, 1, 1, 0));
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_too_much() {
        let recent = Recent::default();
        (0..KEPT + 3).for_each(|number| recent.keep(&incident(number)).unwrap());
        assert_eq!(recent.lock().order.len(), KEPT);
        let mut long = incident(KEPT + 10);
        long.cause.summary = "x".repeat(BYTES / 2);
        recent.keep(&long).unwrap();
        long.id = IncidentId("last".into());
        recent.keep(&long).unwrap();
        let kept = recent.lock();
        assert!(kept.bytes <= BYTES || kept.order.len() == 1);
        assert_eq!(kept.bytes, kept.entries.values().map(|entry| entry.line.len()).sum::<usize>());
        assert_eq!(kept.order.back().map(|id| id.0.as_str()), Some("last"));
    }
}
