//! The latest incidents in memory, served over HTTP. Like the journal, they are an output with a thread of its own.
//!
//! Bound: [`KEPT`] incidents and [`BYTES`] of their text; the oldest are evicted first. The journal has older ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::effect::Effect;
use crate::model::ids::IncidentId;
use crate::model::incident::{CauseKind, Incident, State};
use crate::model::label::NO_CONTAINER;
use crate::output::queue::{WriteError, Writer};

pub const KEPT: usize = 1_000;
pub const BYTES: usize = 16 << 20;
/// Text of one page; a client that reads slowly holds it.
const PAGE_BYTES: usize = 1 << 20;

/// One incident by its last revision.
#[derive(Clone, Debug)]
struct Entry {
    cause: CauseKind,
    /// Every name of the subject, the clients and the servers that a label of a metric can have.
    names: BTreeSet<String>,
    withdrawn: bool,
    line: Arc<str>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: BTreeMap<IncidentId, Entry>,
    /// In order of their first revision, oldest first.
    order: VecDeque<IncidentId>,
    bytes: usize,
}

/// Shared by the writer and the server.
#[derive(Clone, Debug, Default)]
pub struct Recent(Arc<Mutex<Kept>>);

/// The filter of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IncidentQuery {
    pub cause: Option<CauseKind>,
    pub service: Option<String>,
    pub limit: usize,
    /// Only incidents whose first revision came before this one's.
    pub after: Option<IncidentId>,
}

/// Some incidents, newest first.
#[derive(Clone, Debug)]
pub struct IncidentPage {
    pub lines: Vec<Arc<str>>,
    /// The last one, if more follow.
    pub next: Option<IncidentId>,
}

impl Recent {
    /// `None`: the incident in `after` has been evicted, or never existed.
    #[must_use]
    pub fn page(&self, query: &IncidentQuery) -> Option<IncidentPage> {
        let kept = self.lock();
        let mut behind = kept.order.iter().rev();
        if let Some(after) = &query.after {
            behind.find(|id| *id == after)?;
        }
        let matches = |entry: &Entry| {
            !entry.withdrawn
                && query.cause.is_none_or(|cause| cause == entry.cause)
                && query.service.as_ref().is_none_or(|service| entry.names.contains(service))
        };
        let mut found =
            behind.filter_map(|id| Some((id, kept.entries.get(id).filter(|entry| matches(entry))?))).peekable();
        let mut page = Vec::new();
        let mut bytes = 0;
        while page.len() < query.limit
            && let Some((id, entry)) =
                found.next_if(|(_, entry)| page.is_empty() || bytes + entry.line.len() <= PAGE_BYTES)
        {
            bytes += entry.line.len();
            page.push((id, entry));
        }
        let next = found.peek().and_then(|_| page.last().map(|(id, _)| (*id).clone()));
        Some(IncidentPage { lines: page.into_iter().map(|(_, entry)| Arc::clone(&entry.line)).collect(), next })
    }

    pub(super) fn keep(&self, incident: &Incident) -> Result<(), serde_json::Error> {
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
            let Some(evicted) = kept.order.pop_front().and_then(|id| kept.entries.remove(&id)) else { break };
            kept.bytes -= evicted.line.len();
        }
        Ok(())
    }

    /// Held for a lookup only, never while anything is written or sent.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn names(incident: &Incident) -> BTreeSet<String> {
    let subject = &incident.subject;
    let mut names: BTreeSet<&str> =
        [&subject.service, &subject.container].into_iter().flatten().map(|name| &**name).collect();
    if names.is_empty() {
        names.insert(NO_CONTAINER);
    }
    names.extend(incident.affected.iter().flat_map(|entry| entry.client.names().chain(entry.server.names())));
    names.into_iter().map(str::to_owned).collect()
}

impl Writer<Arc<Effect>> for Recent {
    fn kind(&self) -> &'static str {
        "incidents"
    }

    fn name(&self) -> String {
        "the page of incidents".to_owned()
    }

    fn take(&mut self, effect: Arc<Effect>, _lost_before: u64) -> Result<(), WriteError> {
        match effect.as_ref() {
            Effect::Incident(incident) => {
                self.keep(incident).map_err(|error| WriteError::Lost { count: 1, error: io::Error::from(error) })
            }
            Effect::Story(_) | Effect::Explained(_) | Effect::Count(_) | Effect::Enrich(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES, IncidentQuery, KEPT, PAGE_BYTES, Recent};
    use crate::model::ids::{IncidentId, Pid};
    use crate::model::incident::{CauseKind, Incident, State};
    use crate::output::test_fixtures;

    fn incident(number: usize) -> Incident {
        Incident { id: IncidentId(format!("inc-{number}")), ..test_fixtures::killed() }
    }

    fn ids(recent: &Recent, query: &IncidentQuery) -> (Vec<String>, Option<String>) {
        let page = recent.page(query).unwrap();
        let id = |line: &std::sync::Arc<str>| serde_json::from_str::<Incident>(line).unwrap().id.0;
        (page.lines.iter().map(id).collect(), page.next.map(|id| id.0))
    }

    fn query(limit: usize) -> IncidentQuery {
        IncidentQuery { limit, ..IncidentQuery::default() }
    }

    #[test]
    fn pages_list_every_incident_from_the_newest_to_the_oldest() {
        let recent = Recent::default();
        (0..5).for_each(|number| recent.keep(&incident(number)).unwrap());
        let (first, next) = ids(&recent, &query(2));
        assert_eq!((first, next.as_deref()), (vec!["inc-4".to_owned(), "inc-3".into()], Some("inc-3")));
        recent.keep(&incident(5)).unwrap();
        let after = next.map(IncidentId);
        let (second, next) = ids(&recent, &IncidentQuery { after: after.clone(), ..query(3) });
        assert_eq!((second, next), (vec!["inc-2".to_owned(), "inc-1".into(), "inc-0".into()], None));
        assert!(recent.page(&IncidentQuery { after: Some(IncidentId("gone".into())), ..query(3) }).is_none());
    }

    #[test]
    fn keeps_the_last_revision_and_omits_withdrawn_incidents() {
        let recent = Recent::default();
        recent.keep(&incident(1)).unwrap();
        let mut later = incident(1);
        later.cause.kind = CauseKind::OomKilled;
        recent.keep(&later).unwrap();
        let oom = IncidentQuery { cause: Some(CauseKind::OomKilled), ..query(9) };
        assert_eq!(ids(&recent, &oom).0, ["inc-1"]);
        assert!(ids(&recent, &IncidentQuery { cause: Some(CauseKind::ProcessKilled), ..query(9) }).0.is_empty());
        later.state = State::Withdrawn;
        recent.keep(&later).unwrap();
        assert!(ids(&recent, &query(9)).0.is_empty());
    }

    #[test]
    fn finds_a_service_as_subject_client_or_server() {
        let recent = Recent::default();
        recent.keep(&incident(1)).unwrap();
        let of = |service: &str| ids(&recent, &IncidentQuery { service: Some(service.into()), ..query(9) }).0.len();
        assert_eq!((of("gaia-core-candidate"), of("gaia-web"), of("gaia-wiki")), (1, 1, 0));
        assert_eq!((of("host"), of("external"), of("none")), (0, 0, 0));
    }

    #[test]
    fn finds_parties_without_a_container_by_their_metrics_label() {
        let recent = Recent::default();
        let mut outside = incident(1);
        outside.subject.container = None;
        outside.subject.service = None;
        for entry in &mut outside.affected {
            (entry.client.container, entry.client.service, entry.client.pid) = (None, None, Some(Pid(7)));
            (entry.server.container, entry.server.service, entry.server.pid) = (None, None, None);
        }
        recent.keep(&outside).unwrap();
        let of = |service: &str| ids(&recent, &IncidentQuery { service: Some(service.into()), ..query(9) }).0.len();
        assert_eq!((of("host"), of("external"), of("none"), of("gaia-web")), (1, 1, 1, 0));
    }

    #[test]
    fn a_page_is_bounded_and_the_next_one_continues() {
        let recent = Recent::default();
        let long = |number| Incident { schema: "x".repeat(PAGE_BYTES / 3), ..incident(number) };
        (0..5).for_each(|number| recent.keep(&long(number)).unwrap());
        let (first, next) = ids(&recent, &query(9));
        assert_eq!((first.len(), next.as_deref()), (2, Some("inc-3")));
        let (second, next) = ids(&recent, &IncidentQuery { after: next.map(IncidentId), ..query(9) });
        assert_eq!((second.len(), next.as_deref()), (2, Some("inc-1")));
        recent.keep(&Incident { schema: "x".repeat(PAGE_BYTES * 2), ..incident(9) }).unwrap();
        assert_eq!(ids(&recent, &query(9)).0, ["inc-9"], "an incident of any length has a page");
    }

    #[test]
    fn evicts_the_oldest_beyond_count_or_size() {
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
