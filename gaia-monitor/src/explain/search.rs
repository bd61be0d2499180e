//! Search of a journal of any size: ranks its incidents line by line and keeps the best ones only.
//!
//! Each line is read when it is needed. A line is parsed only if it contains what the query asks for; its timeline, which
//! no query asks for, is left out.

use std::collections::{BTreeSet, BinaryHeap};
use std::thread;

use memchr::memmem::Finder;

use super::{AFTER, BEFORE, Rank, SearchQuery, condition_at, match_incident};
use crate::model::incident::{Condition, HttpxClass, Incident, name_of};
use crate::model::story::Story;
use crate::model::time::{Nanos, Stamp, Utc};
use crate::output::journal::JournalError;
use crate::output::journal::index::{JournalIndex, parts};
use crate::story;

/// Matches whose stories are shown, and how many stories.
const STORY_MATCHES: usize = 10_000;
const STORIES: usize = 10_000;

/// The best matches, as numbers of the index.
#[derive(Debug)]
pub struct Found {
    pub best: Vec<usize>,
    /// All matches.
    pub matches: usize,
    /// The first and the last moment of all incidents.
    pub span: Option<(Stamp, Stamp)>,
}

/// Ranks the incidents of a journal; the `keep` best ones are returned, the best first.
///
/// # Errors
/// A file cannot be read.
pub fn search(index: &JournalIndex, query: &SearchQuery, keep: usize) -> Result<Found, JournalError> {
    let found = thread::scope(|scope| {
        let threads: Vec<_> =
            parts(index.len()).into_iter().map(|part| scope.spawn(|| Part::search(index, part, query, keep))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(JournalError::died())))
            .collect::<Vec<_>>()
    });
    let mut all = Part::default();
    for part in found {
        let part = part?;
        all.matches += part.matches;
        all.span = all.span.into_iter().chain(part.span).reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
        all.best.extend(part.best);
    }
    let mut best = all.best.into_sorted_vec();
    best.truncate(keep);
    let span = all.span.map(|(first, last)| (first.0, last.0));
    Ok(Found { best: best.into_iter().map(|(_, number)| number).collect(), matches: all.matches, span })
}

/// The stories of the requests that the best of these incidents broke, limited to the requested client, by their
/// beginning.
///
/// # Errors
/// A file cannot be read.
pub fn stories(index: &JournalIndex, found: &Found, query: &SearchQuery) -> Result<Vec<Story>, JournalError> {
    let mut matching = BTreeSet::new();
    index.read(found.best.iter().copied().take(STORY_MATCHES), |_, line| {
        matching.extend(without_timeline(line).map(|incident| incident.id));
    })?;
    let of_client = |story: &Story| query.client.as_ref().is_none_or(|client| story::is_of(story, client));
    let mut wanted = Vec::new();
    index.read_stories(|line| {
        let story = serde_json::from_slice::<Story>(line).ok();
        let is_wanted = |story: &Story| of_client(story) && story.incidents().any(|id| matching.contains(id));
        wanted.extend(story.filter(is_wanted).filter(|_| wanted.len() < STORIES));
    })?;
    wanted.sort_by(|one, other| (one.begun_at, &one.id).cmp(&(other.begun_at, &other.id)));
    Ok(wanted)
}

/// The result of one thread.
#[derive(Default)]
struct Part {
    /// The worst of the kept matches is on top.
    best: BinaryHeap<(Rank, usize)>,
    matches: usize,
    span: Option<(Utc, Utc)>,
}

impl Part {
    fn search(
        index: &JournalIndex,
        part: std::ops::Range<usize>,
        query: &SearchQuery,
        keep: usize,
    ) -> Result<Self, JournalError> {
        let filter = Filter::of(query);
        let moment = Finder::new(br#""moment":{"at":""#);
        let mut found = Self::default();
        let (mut first, mut last): (Option<Vec<u8>>, Option<Vec<u8>>) = (None, None);
        index.read(part, |number, line| {
            // Instants of the same form are in order as texts.
            let at =
                moment.find(line).and_then(|at| line.get(at + moment.needle().len()..)).and_then(|at| at.get(..30));
            if let Some(at) = at {
                if first.as_ref().is_none_or(|first| at < first.as_slice()) {
                    first = Some(at.to_vec());
                }
                if last.as_ref().is_none_or(|last| at > last.as_slice()) {
                    last = Some(at.to_vec());
                }
            }
            if !filter.may_match(line) {
                return;
            }
            let Some(incident) = without_timeline(line) else { return };
            let Some(one) = match_incident(&incident, query) else { return };
            found.matches += 1;
            if found.best.len() < keep {
                found.best.push((one.rank, number));
            } else if let Some(mut worst) = found.best.peek_mut()
                && (one.rank, number) < *worst
            {
                *worst = (one.rank, number);
            }
        })?;
        let instant = |text: Option<Vec<u8>>| Some(Utc(std::str::from_utf8(&text?).ok()?.parse().ok()?));
        found.span = instant(first).zip(instant(last));
        Ok(found)
    }
}

/// Rejects lines without a part that every match contains.
struct Filter {
    classes: Option<Vec<Finder<'static>>>,
    /// The minutes in which an instant of a match may lie.
    minutes: Option<Vec<Finder<'static>>>,
    condition: Finder<'static>,
    query: SearchQuery,
}

impl Filter {
    fn of(query: &SearchQuery) -> Self {
        let finder = |class: &HttpxClass| Finder::new(&format!("\"{}\"", name_of(class))).into_owned();
        let classes = query.error.as_ref().map(|error| error.classes.iter().map(finder).collect());
        let minutes = query.at.and_then(|window| {
            const MINUTE: Nanos = Nanos::from_secs(60);
            const MOST: usize = 8;
            let (from, until) = (window.from.minus(BEFORE), window.until.plus(AFTER));
            let instants = std::iter::successors(Some(from), |at| Some(at.plus(MINUTE)));
            let mut minutes: Vec<String> = instants.take_while(|at| *at < until).take(MOST).map(minute).collect();
            minutes.push(minute(until));
            minutes.dedup();
            let whole = minutes.len() <= MOST;
            whole.then(|| minutes.iter().map(|minute| Finder::new(minute).into_owned()).collect())
        });
        Self { classes, minutes, condition: Finder::new(br#","condition":"#), query: query.clone() }
    }

    fn may_match(&self, line: &[u8]) -> bool {
        let is_in = |class: &Finder| class.find(line).is_some();
        let has_class = self.classes.as_ref().is_none_or(|classes| classes.iter().any(is_in));
        has_class
            && self.minutes.as_ref().is_none_or(|minutes| {
                minutes.iter().any(|minute| minute.find(line).is_some()) || self.condition_may_match(line)
            })
    }

    fn condition_may_match(&self, line: &[u8]) -> bool {
        let Some(at) = self.condition.find(line) else { return true };
        let Some(rest) = line.get(at + self.condition.needle().len()..) else { return true };
        if rest.starts_with(b"null") {
            return false;
        }
        let end = memchr::memchr(b'}', rest).map_or(0, |end| end + 1);
        match (rest.get(..end).map(serde_json::from_slice::<Condition>), self.query.at) {
            (Some(Ok(condition)), Some(window)) => condition_at(condition, window),
            _ => true,
        }
    }
}

fn minute(at: Stamp) -> String {
    at.to_string().chars().take("2025-11-25T14:02".len()).collect()
}

/// Parses a line without its timeline and what follows it.
fn without_timeline(line: &[u8]) -> Option<Incident> {
    const TIMELINE: &[u8] = br#","timeline":["#;
    const REST: &[u8] = br#","timeline":[],"timeline_left_out":0,"lost_events":{}}"#;
    // Within a text the quotes would be escaped.
    let head = memchr::memmem::rfind(line, TIMELINE).and_then(|at| line.get(..at));
    let short = head.map(|head| [head, REST].concat());
    short.and_then(|short| serde_json::from_slice(&short).ok()).or_else(|| serde_json::from_slice(line).ok())
}

#[cfg(test)]
mod tests {
    use super::{Found, search, without_timeline};
    use crate::explain::when::Window;
    use crate::explain::{ErrorName, IncidentIndex, SearchQuery, rank};
    use crate::model::ids::IncidentId;
    use crate::model::incident::{HttpxClass, Incident};
    use crate::model::time::{Nanos, Utc};
    use crate::output::journal::index::JournalIndex;
    use crate::output::test_fixtures;

    /// Incidents 7 s apart; each third one has no condition, each fourth one another client.
    fn incident(number: i64) -> Incident {
        let mut incident = test_fixtures::killed();
        incident.id = IncidentId(format!("gm-{number:05}"));
        let by = Nanos::from_secs(7 * number);
        incident.moment.at = Utc(incident.moment.at.0.plus(by));
        for entry in &mut incident.affected {
            entry.at = Utc(entry.at.0.plus(by));
            if number % 4 == 0 {
                entry.client.container = Some("gaia-mcp".into());
                entry.client.service = Some("gaia-mcp".into());
            }
        }
        if number % 5 == 0 {
            incident.affected.pop();
            incident.timeline.push(test_fixtures::line(
                Nanos(1),
                crate::model::incident::TimelineSource::Log,
                r#","timeline":["#,
            ));
        }
        match &mut incident.condition {
            Some(_) if number % 3 == 0 => incident.condition = None,
            Some(condition) => {
                condition.since = incident.moment.at;
                condition.until = (number % 3 == 1).then(|| Utc(incident.moment.at.0.plus(Nanos::from_secs(20))));
            }
            None => {}
        }
        incident
    }

    #[test]
    fn leaves_nothing_out_but_the_timeline() {
        for number in 0..10 {
            let mut whole = incident(number);
            let line = serde_json::to_vec(&whole).unwrap();
            whole.timeline.clear();
            assert_eq!(without_timeline(&line), Some(whole));
        }
    }

    #[test]
    fn finds_the_same_as_a_search_in_memory() {
        let place = tempfile::tempdir().unwrap();
        let mut memory = IncidentIndex::default();
        let lines: Vec<String> = (0..600)
            .map(|number| {
                memory.put(incident(number));
                serde_json::to_string(&incident(number)).unwrap() + "\n"
            })
            .collect();
        for (file, part) in lines.chunks(100).enumerate() {
            std::fs::write(place.path().join(format!("incidents-{file}.jsonl")), part.concat()).unwrap();
        }
        let index = JournalIndex::of(place.path()).unwrap();
        let window = |seconds: i64, length: i64| {
            let from = test_fixtures::MOMENT.plus(Nanos::from_secs(seconds));
            Some(Window { from, until: from.plus(Nanos::from_secs(length)) })
        };
        let times = [None, window(0, 1), window(1_000, 1), window(-30, 60), window(4_100, 3_600), window(90_000, 1)];
        let names = [None, Some("gaia-mcp".to_owned())];
        for (at, client) in times.into_iter().flat_map(|at| names.clone().map(|client| (at, client))) {
            for error in [None, Some(HttpxClass::ReadError), Some(HttpxClass::ConnectError)] {
                let error = error.map(ErrorName::from);
                let query = SearchQuery { at, client: client.clone(), server: None, error };
                let wanted = rank(&memory, &query);
                let Found { best, matches, span } = search(&index, &query, 30).unwrap();
                assert_eq!((matches, span), (wanted.len(), memory.span()), "{query:?}");
                let mut ids = Vec::new();
                for number in &best {
                    index.read([*number], |_, line| ids.push(without_timeline(line).unwrap().id)).unwrap();
                }
                let wanted: Vec<_> = wanted.iter().take(30).map(|found| found.incident.id.clone()).collect();
                assert_eq!(ids, wanted, "{query:?}");
            }
        }
    }
}
