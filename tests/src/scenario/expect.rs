//! Expectations of a scenario. Only named fields are compared, but every incident must be named: one too many is an error.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use gaia_monitor::engine::effect::{Counter, Effect, Request};
use gaia_monitor::model::ids::IncidentId;
use gaia_monitor::model::incident::{Affected, Incident, name_of};
use gaia_monitor::model::time::Stamp;

use super::fields;
use super::invariants::shown;
use super::play::Played;
use super::script::Names;
use super::stories::{self, ExpectedStory};
use super::words::{Words, span};

#[derive(Clone, Debug, Default)]
pub struct Expected {
    incidents: Vec<ExpectedIncident>,
    silent: bool,
    counted: BTreeMap<String, usize>,
    /// `None`: stories are not compared.
    stories: Option<Vec<ExpectedStory>>,
    /// The latest line that others belong to is a story.
    in_story: bool,
    /// Instants and pids that expectations name.
    pub names: Names,
}

/// One incident.
#[derive(Clone, Debug)]
struct ExpectedIncident {
    kind: String,
    /// The container's name; `none` without one.
    subject: String,
    fields: Vec<(String, String)>,
    /// Its name, for `caused_by`, `merged` and `failover` of another.
    alias: Option<String>,
    entries: Vec<Entry>,
    notes: Vec<String>,
    /// Texts that no timeline entry contains.
    unsaid: Vec<String>,
}

/// One entry of `affected`: `CLIENT > SERVER CLASS [DETAIL]`.
#[derive(Clone, Debug)]
struct Entry {
    client: String,
    server: String,
    class: String,
    fields: Vec<(String, String)>,
}

impl Expected {
    /// Does the line belong to the expectations?
    pub fn takes(words: &Words) -> bool {
        matches!(words.first(), Some("expect" | "silent" | "counted" | "story" | "no-story"))
    }

    pub fn is_begun(&self) -> bool {
        self.silent || !self.incidents.is_empty()
    }

    pub fn line(&mut self, indented: bool, words: &Words) -> Result<()> {
        let mut words = words.clone();
        if indented {
            if self.in_story {
                let story = self.stories.as_mut().and_then(|stories| stories.last_mut());
                return story.context("an attempt belongs to a story")?.line(&mut words);
            }
            let wanted = self.incidents.last_mut().context("an entry belongs to an incident")?;
            return wanted.line(&mut words);
        }
        match words.next("the expectation")?.as_str() {
            "silent" => self.silent = true,
            "no-story" => self.stories = Some(Vec::new()),
            "story" => {
                self.in_story = true;
                self.stories.get_or_insert_default().push(ExpectedStory::read(&mut words)?);
                return Ok(());
            }
            "counted" => {
                for (key, value) in words.pairs() {
                    self.counted.insert(key.to_owned(), value.parse()?);
                }
                return Ok(());
            }
            _ => {
                self.in_story = false;
                let alias = words.after("as");
                let kind = words.next("the cause")?;
                let subject = words.next("the subject")?;
                let fields = words.pairs().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
                let wanted = ExpectedIncident {
                    kind,
                    subject,
                    fields,
                    alias,
                    entries: Vec::new(),
                    notes: Vec::new(),
                    unsaid: Vec::new(),
                };
                self.incidents.push(wanted);
                ensure!(words.maybe().is_none(), "too many words");
                return Ok(());
            }
        }
        words.end()
    }

    /// Compares the published incidents with the expected ones.
    pub fn check(&self, played: &Played) -> Result<()> {
        self.compare(played).map_err(|error| {
            let last: Vec<String> = played.last().into_iter().map(shown).collect();
            let reasons = played.0.iter().filter_map(|emitted| match &emitted.effect {
                Effect::Explained(explanation) => Some(format!("explained: {explanation}")),
                Effect::Incident(_) | Effect::Story(_) | Effect::Count(_) | Effect::Enrich(_) => None,
            });
            let reasons: Vec<String> = reasons.collect();
            anyhow::anyhow!("{error:#}\n{}\n{}", reasons.join("\n"), last.join("\n"))
        })
    }

    fn compare(&self, played: &Played) -> Result<()> {
        let last = played.last();
        let mut aliases: BTreeMap<&str, &IncidentId> = BTreeMap::new();
        let mut found: Vec<(&ExpectedIncident, &Incident)> = Vec::new();
        let mut used = BTreeSet::new();
        for wanted in &self.incidents {
            let fits = |incident: &&&Incident| {
                let subject = incident.subject.container.as_deref().unwrap_or(fields::NONE);
                let same = name_of(&incident.cause.kind) == wanted.kind && subject == wanted.subject;
                same && !used.contains(&incident.id)
            };
            let incident = *last.iter().find(fits).with_context(|| format!("no {} {}", wanted.kind, wanted.subject))?;
            used.insert(&incident.id);
            if let Some(alias) = &wanted.alias {
                aliases.insert(alias, &incident.id);
            }
            found.push((wanted, incident));
        }
        for incident in &last {
            let subject = incident.subject.container.as_deref().unwrap_or(fields::NONE);
            ensure!(used.contains(&incident.id), "one too many: {} {subject}", name_of(&incident.cause.kind));
        }
        for (wanted, incident) in found {
            self.incident(wanted, incident, played, &aliases)
                .with_context(|| format!("{} {}", wanted.kind, wanted.subject))?;
        }
        if let Some(wanted) = &self.stories {
            stories::compare(wanted, played, &Labels(&self.names), &aliases)?;
        }
        self.counts(played)
    }

    fn counts(&self, played: &Played) -> Result<()> {
        for (key, wanted) in &self.counted {
            let count = played.0.iter().filter(|emitted| {
                let name = match &emitted.effect {
                    Effect::Count(Counter::ClientCancelled { .. }) => "cancelled",
                    Effect::Count(Counter::IdleClose { .. }) => "idle",
                    Effect::Count(Counter::Lost { .. }) => "lost",
                    Effect::Count(Counter::LogsUnread { .. }) => "unread",
                    Effect::Enrich(Request::Logs { .. }) => "requested_logs",
                    Effect::Enrich(Request::Memory { .. }) => "requested_memory",
                    Effect::Enrich(Request::Core { .. }) => "requested_core",
                    Effect::Count(Counter::Broken { .. }) => "broken",
                    Effect::Count(Counter::Restarted { .. }) => "restarts",
                    Effect::Count(Counter::OomKill { .. }) => "ooms",
                    Effect::Count(Counter::ServedAgain { .. }) => "served_again",
                    Effect::Enrich(Request::Maintenance { .. }) => "requested_maintenance",
                    Effect::Story(_) => "stories",
                    Effect::Incident(_) | Effect::Explained(_) => "",
                };
                name == key
            });
            equal(key, &count.count().to_string(), &wanted.to_string())?;
        }
        Ok(())
    }

    fn incident(
        &self,
        wanted: &ExpectedIncident,
        incident: &Incident,
        played: &Played,
        aliases: &BTreeMap<&str, &IncidentId>,
    ) -> Result<()> {
        let revisions = played.of(&incident.id);
        for (key, value) in &wanted.fields {
            if let Some(found) = fields::instant(incident, key) {
                let text = |at: Stamp| at.to_string();
                let wanted = self.instant(value)?;
                equal(key, &found.map_or(fields::NONE.into(), text), &wanted.map_or(fields::NONE.into(), text))?;
                continue;
            }
            let reference = match key.as_str() {
                "caused_by" => Some(&incident.cause.caused_by),
                "merged" => Some(&incident.merged_into),
                "failover" => Some(&incident.failover_of),
                _ => None,
            };
            if let Some(found) = reference {
                let id = aliases.get(value.as_str()).map_or(value.as_str(), |id| id.0.as_str());
                equal(key, found.as_ref().map_or(fields::NONE, |id| id.0.as_str()), id)?;
                continue;
            }
            let found = match key.as_str() {
                "states" => {
                    let mut states: Vec<String> =
                        revisions.iter().map(|(_, incident)| name_of(&incident.state)).collect();
                    states.dedup();
                    states.join(",")
                }
                "first_kind" => revisions.first().map_or(String::new(), |(_, incident)| name_of(&incident.cause.kind)),
                "revisions" => revisions.len().to_string(),
                "pid" => {
                    let pid = incident.subject.pid;
                    let name = self.names.pids.iter().find(|(_, known)| Some(**known) == pid);
                    name.map_or_else(|| format!("{pid:?}"), |(name, _)| name.clone())
                }
                "weighed" => {
                    let weighed: Vec<String> = incident.alternatives.iter().map(|other| name_of(&other.kind)).collect();
                    for kind in value.split(',') {
                        ensure!(weighed.iter().any(|other| other == kind), "{kind} is not among {weighed:?}");
                    }
                    continue;
                }
                "published" => {
                    let first = revisions.first().map_or(Stamp(i64::MAX), |(seen, _)| *seen);
                    let limit = self.instant(value)?.context("published=@LABEL+SPAN")?;
                    ensure!(first <= limit, "first published at {first}, later than {limit}");
                    continue;
                }
                other => fields::of_incident(incident, other)?,
            };
            equal(key, &found, value)?;
        }
        if !wanted.entries.is_empty() {
            equal("entries", &incident.affected.len().to_string(), &wanted.entries.len().to_string())?;
        }
        for (entry, found) in wanted.entries.iter().zip(&incident.affected) {
            self.entry(entry, found).with_context(|| format!("{} > {}", entry.client, entry.server))?;
        }
        for note in &wanted.notes {
            let found = incident.timeline.iter().any(|entry| entry.text.contains(note.as_str()));
            ensure!(found, "no timeline entry contains {note:?}");
        }
        for text in &wanted.unsaid {
            let found = incident.timeline.iter().find(|entry| entry.text.contains(text.as_str()));
            ensure!(found.is_none(), "a timeline entry contains {text:?}: {found:?}");
        }
        Ok(())
    }

    fn entry(&self, wanted: &Entry, found: &Affected) -> Result<()> {
        equal("client", found.client.container.as_deref().unwrap_or("host"), &wanted.client)?;
        equal("server", found.server.container.as_deref().unwrap_or("host"), &wanted.server)?;
        equal("class", &name_of(&found.client_error.httpx), &wanted.class)?;
        for (key, value) in &wanted.fields {
            match key.as_str() {
                "at" => {
                    let wanted = self.instant(value)?.unwrap_or_default();
                    equal(key, &found.at.to_string(), &wanted.to_string())?;
                }
                "by" | "to" => {
                    let pid = if key == "by" { found.client.pid } else { found.server.pid };
                    let named = self.names.pids.get(value).with_context(|| format!("no process {value}"))?;
                    equal(key, &format!("{pid:?}"), &format!("{:?}", Some(*named)))?;
                }
                other => equal(other, &fields::of_entry(found, other)?, value)?,
            }
        }
        Ok(())
    }

    fn instant(&self, text: &str) -> Result<Option<Stamp>> {
        Labels(&self.names).instant(text)
    }
}

/// The instants that expectations name.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a>(&'a Names);

impl Labels<'_> {
    /// `@label`, `@label+20ms`, `none`.
    pub fn instant(&self, text: &str) -> Result<Option<Stamp>> {
        if text == fields::NONE {
            return Ok(None);
        }
        let name = text.strip_prefix('@').context("an instant is @LABEL or @LABEL+SPAN")?;
        let (name, after) = name.split_once('+').map_or((name, "0ns"), |pair| pair);
        let at = self.0.instants.get(name).with_context(|| format!("no label @{name}"))?;
        Ok(Some(at.plus(span(after)?)))
    }
}

impl ExpectedIncident {
    fn line(&mut self, words: &mut Words) -> Result<()> {
        let first = words.next("an entry")?;
        if first == "note" {
            self.notes.push(words.next("what the timeline says")?);
            return Ok(());
        }
        if first == "unsaid" {
            self.unsaid.push(words.next("what the timeline does not say")?);
            return Ok(());
        }
        ensure!(words.next("an arrow")? == ">", "an entry reads CLIENT > SERVER CLASS");
        let server = words.next("the server")?;
        let class = words.next("the class")?;
        let detail = words.maybe().map(|detail| ("detail".to_owned(), detail));
        let pairs = words.pairs().map(|(key, value)| (key.to_owned(), value.to_owned()));
        let fields = detail.into_iter().chain(pairs).collect();
        self.entries.push(Entry { client: first, server, class, fields });
        Ok(())
    }
}

pub fn equal(what: &str, found: &str, wanted: &str) -> Result<()> {
    if found != wanted {
        bail!("{what} is {found}, not {wanted}");
    }
    Ok(())
}
