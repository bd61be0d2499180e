//! Expectations of the stories of requests. Only a scenario that names a story, or `no-story`, checks them; then every story
//! must be named, in order of publication.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use gaia_monitor::engine::effect::Effect;
use gaia_monitor::model::ids::IncidentId;
use gaia_monitor::model::incident::name_of;
use gaia_monitor::model::story::{Attempt, AttemptOutcome, SCHEMA, Story};
use gaia_monitor::story::sentence;

use super::expect::{Labels, equal};
use super::fields::NONE;
use super::play::Played;
use super::words::Words;

/// `story CLIENT [field=value …]`, and an indented `SERVER CLASS|STATUS [role=] [incident=] [begun=] [ended=]` for each attempt.
#[derive(Clone, Debug, Default)]
pub struct ExpectedStory {
    client: String,
    fields: Vec<(String, String)>,
    attempts: Vec<ExpectedAttempt>,
    says: Vec<String>,
}

/// One attempt: server, class or status, fields.
type ExpectedAttempt = (String, String, Vec<(String, String)>);

impl ExpectedStory {
    pub fn read(words: &mut Words) -> Result<Self> {
        let client = words.next("the client")?;
        let fields = words.pairs().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Ok(Self { client, fields, ..Self::default() })
    }

    pub fn line(&mut self, words: &mut Words) -> Result<()> {
        let server = words.next("the server")?;
        if server == "says" {
            self.says.push(words.next("what the sentence contains")?);
            return Ok(());
        }
        let result = words.next("the class or status")?;
        let fields = words.pairs().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        self.attempts.push((server, result, fields));
        Ok(())
    }

    fn check(&self, story: &Story, labels: &Labels<'_>, aliases: &BTreeMap<&str, &IncidentId>) -> Result<()> {
        equal("client", story.client.container.as_deref().unwrap_or("host"), &self.client)?;
        for (key, value) in &self.fields {
            let saw = &story.caller_saw;
            let found = match key.as_str() {
                "outcome" => name_of(&story.outcome),
                "confidence" => name_of(&story.confidence),
                "fallback" => name_of(&story.fallback.state),
                "reason" => story.fallback.reason.map_or(NONE.to_owned(), |reason| name_of(&reason)),
                "saw" => match (saw.status, saw.httpx) {
                    (Some(status), _) => status.to_string(),
                    (None, Some(class)) => name_of(&class),
                    (None, None) => NONE.to_owned(),
                },
                "from" => saw.attempt.to_string(),
                "swallowed" if saw.swallowed.is_empty() => NONE.to_owned(),
                "swallowed" => saw.swallowed.iter().map(usize::to_string).collect::<Vec<_>>().join(","),
                "begun" | "ended" => {
                    let at = if key == "begun" { story.begun_at } else { story.ended_at };
                    let wanted = labels.instant(value)?.unwrap_or_default();
                    equal(key, &at.to_string(), &wanted.to_string())?;
                    continue;
                }
                other => anyhow::bail!("a story has no field {other}"),
            };
            equal(key, &found, value)?;
        }
        equal("attempts", &story.attempts.len().to_string(), &self.attempts.len().to_string())?;
        for (number, ((server, result, fields), found)) in self.attempts.iter().zip(&story.attempts).enumerate() {
            attempt(found, server, result, fields, labels, aliases).with_context(|| format!("attempt {number}"))?;
        }
        let text = sentence(story);
        for part in &self.says {
            ensure!(text.contains(part.as_str()), "{text:?} does not contain {part:?}");
        }
        Ok(())
    }
}

fn attempt(
    found: &Attempt,
    server: &str,
    result: &str,
    fields: &[(String, String)],
    labels: &Labels<'_>,
    aliases: &BTreeMap<&str, &IncidentId>,
) -> Result<()> {
    equal("server", found.server.container.as_deref().unwrap_or("host"), server)?;
    let outcome = match (&found.client_error, found.status) {
        (Some(error), _) => name_of(&error.httpx),
        (None, Some(status)) => status.to_string(),
        (None, None) => NONE.to_owned(),
    };
    equal("result", &outcome, result)?;
    for (key, value) in fields {
        let text = match key.as_str() {
            "role" => name_of(&found.role),
            "incident" => {
                let id = aliases.get(value.as_str()).map_or(value.as_str(), |id| id.0.as_str());
                equal(key, found.incident.as_ref().map_or(NONE, |id| id.0.as_str()), id)?;
                continue;
            }
            "begun" | "ended" => {
                let at = if key == "begun" { found.begun_at } else { found.ended_at };
                equal(key, &at.to_string(), &labels.instant(value)?.unwrap_or_default().to_string())?;
                continue;
            }
            other => anyhow::bail!("an attempt has no field {other}"),
        };
        equal(key, &text, value)?;
    }
    Ok(())
}

/// Every story, in order of publication.
pub fn of(played: &Played) -> Vec<&Story> {
    played
        .0
        .iter()
        .filter_map(|emitted| match &emitted.effect {
            Effect::Story(story) => Some(story.as_ref()),
            Effect::Incident(_) | Effect::Explained(_) | Effect::Count(_) | Effect::Enrich(_) => None,
        })
        .collect()
}

pub fn compare(
    wanted: &[ExpectedStory],
    played: &Played,
    labels: &Labels<'_>,
    aliases: &BTreeMap<&str, &IncidentId>,
) -> Result<()> {
    let found = of(played);
    let shown = || found.iter().map(|story| format!("{}\n{story:#?}", sentence(story))).collect::<Vec<_>>().join("\n");
    ensure!(found.len() == wanted.len(), "{} stories, not {}:\n{}", found.len(), wanted.len(), shown());
    for (number, (wanted, story)) in wanted.iter().zip(&found).enumerate() {
        wanted.check(story, labels, aliases).with_context(|| format!("story {number} of\n{}", shown()))?;
    }
    Ok(())
}

/// What the contract demands of every story.
pub fn keeps_the_contract(played: &Played) -> Result<()> {
    let mut ids = std::collections::BTreeSet::new();
    for story in of(played) {
        let count = story.attempts.len();
        let check = || -> Result<()> {
            ensure!(story.schema == SCHEMA, "the schema");
            ensure!(count > 0, "no attempt");
            ensure!(story.caller_saw.attempt < count, "caller_saw.attempt is no index");
            ensure!(story.caller_saw.swallowed.iter().all(|index| *index < count), "swallowed is no index");
            ensure!(!story.caller_saw.swallowed.contains(&story.caller_saw.attempt), "seen and swallowed");
            ensure!(story.fallback.reason.is_some() == (name_of(&story.fallback.state) == "not_asked"), "the reason");
            for attempt in &story.attempts {
                ensure!(attempt.begun_at <= attempt.ended_at, "an attempt ended before it began");
                let failed = attempt.outcome == AttemptOutcome::Failed;
                ensure!(failed == attempt.client_error.is_some(), "client_error belongs to a failed attempt");
            }
            ensure!(story.attempts.first().is_some_and(|first| first.begun_at == story.begun_at), "begun_at");
            Ok(())
        };
        check().with_context(|| format!("{story:#?}"))?;
        ensure!(ids.insert(&story.id), "a story was published twice: {story:#?}");
    }
    Ok(())
}
