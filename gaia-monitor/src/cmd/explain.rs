//! `explain`: finds the incident that explains an error, in a journal or in a recording.

use std::path::Path;

use super::print;
use crate::cli::Explain;
use crate::config::{Config, Output};
use crate::driver::Driver;
use crate::engine::effect::Effect;
use crate::exit::{CommandFailure, Exit};
use crate::explain::{self, IncidentIndex, Match, SearchQuery, rank};
use crate::model::incident::name_of;
use crate::model::settings::Waits;
use crate::model::time::Stamp;
use crate::output::journal;
use crate::output::queue::Overflow;
use crate::output::terminal::style::{Page, Tone};
use crate::output::terminal::{block, stdout_takes_colour};
use crate::output::{Fold, Outputs};
use crate::recording::play::play;
use crate::recording::reader::Reader;
use crate::stderr;
use crate::story::{self, Story};
use crate::text::{counted, harmless};

/// Incidents that are printed whole; further ones are a line each.
const WHOLE: usize = 3;
/// Kinds of request stories that are printed.
const STORIES: usize = 10;

pub fn explain(args: Explain) -> Result<Exit, CommandFailure> {
    let mut index = IncidentIndex::default();
    let mut waits = configured(args.config.as_deref())?;
    // A time of day is the last one before this instant: today's, or the recording's end.
    let now = match (&args.journal, &args.recording) {
        (Some(directory), _) => {
            journal::read(directory, |incident| index.put(incident))?;
            // Only resolves a time of day; no verdict depends on it.
            Stamp(jiff::Timestamp::now().as_nanosecond().try_into().unwrap_or(i64::MAX))
        }
        (None, Some(file)) => replay(file, &mut index, &mut waits)?,
        (None, None) => {
            return Err(CommandFailure::new(Exit::Usage, "no source: pass --journal DIR or --recording FILE"));
        }
    };
    let query = SearchQuery {
        at: args.at.map(|when| when.window(now)),
        client: args.client,
        server: args.server,
        error: args.error,
    };
    let matches = rank(&index, &query);
    if matches.is_empty() {
        return Err(CommandFailure::new(Exit::NothingFits, nothing(&index, &query)));
    }
    let stories = explain::stories(&index, &matches, &query, &waits);
    print(&match args.output {
        Output::Pretty => pretty(&matches, &stories),
        Output::Json => json(&matches, &stories)?,
    })?;
    Ok(Exit::Ok)
}

/// The waits between attempts, which a journal does not contain.
fn configured(file: Option<&Path>) -> Result<Waits, CommandFailure> {
    let Some(path) = file else { return Ok(Waits::default()) };
    let config = Config::load(path).map_err(|error| CommandFailure::new(Exit::Usage, error))?;
    Ok(config.into_settings().policy.waits)
}

/// Re-analyzes a recording; returns its last instant.
fn replay(file: &Path, index: &mut IncidentIndex, waits: &mut Waits) -> Result<Stamp, CommandFailure> {
    let mut reader = Reader::open(file)?;
    waits.clone_from(&reader.header().settings.policy.waits);
    let mut end = reader.header().started_at.0;
    let mut outputs = Outputs::new(Overflow::Block);
    outputs.add_fold(index);
    let mut driver = Driver::new(reader.header().settings.clone(), outputs);
    let played = play(&mut reader, |event| {
        end = event.seen;
        driver.feed(event);
        true
    })?;
    if played.missing > 0 {
        let events = counted(played.missing, "event", "events");
        stderr::warn(format_args!("{} is missing {events}; verdicts may differ from those of the run", file.display()));
    }
    Ok(end)
}

/// Keeps the last revision of every incident.
impl Fold for &mut IncidentIndex {
    fn fold(&mut self, effect: &Effect, _seen: Stamp) {
        if let Effect::Incident(incident) = effect {
            self.put(incident.as_ref().clone());
        }
    }
}

fn pretty(matches: &[Match<'_>], stories: &[Story]) -> String {
    let mut page = Page::new(stdout_takes_colour());
    for (index, found) in matches.iter().enumerate() {
        if index == WHOLE {
            page.end_line().put(Tone::Strong, &format!("and {} more", matches.len() - WHOLE)).end_line();
        }
        if index < WHOLE {
            if index > 0 {
                page.end_line();
            }
            page.put(Tone::Strong, &format!("{}. ", index + 1)).put(Tone::Plain, &found.reasons.join("; "));
            page.end_line();
            block::whole(&mut page, found.incident);
        } else {
            block::headline(&mut page, found.incident);
        }
    }
    requests(&mut page, stories);
    page.into_text()
}

/// The stories of the requests that these incidents broke, equal ones grouped.
fn requests(page: &mut Page, stories: &[Story]) {
    let groups = story::group(stories);
    for (index, (count, story)) in groups.iter().take(STORIES).enumerate() {
        if index == 0 {
            page.end_line().put(Tone::Strong, "Stories of the requests").end_line();
        }
        let tone = if story.caller_saw.is_some() { Tone::Alarm } else { Tone::Good };
        page.put(tone, "  ● ");
        if *count > 1 {
            page.put(Tone::Strong, &format!("{count} × "));
        }
        page.put(Tone::Plain, &harmless(&story.text)).end_line();
        joined(page, story);
    }
    let more: u64 = groups.iter().skip(STORIES).map(|(count, _)| count).sum();
    if more > 0 {
        page.put(Tone::Quiet, &format!("    and {} more of other kinds", counted(more, "request", "requests")))
            .end_line();
    }
}

/// The two incidents of a failed failover.
fn joined(page: &mut Page, story: &Story) {
    let Some(fallback) = &story.fallback_attempt else { return };
    let (own, server) = (harmless(&fallback.incident.0), harmless(&fallback.server));
    let text = match &fallback.failover_of {
        Some(primary) => {
            format!("{server}'s incident {own} is part of the failover of incident {}", harmless(&primary.0))
        }
        None => format!("{server}'s incident is {own}"),
    };
    page.put(Tone::Quiet, &format!("    {text}")).end_line();
}

/// Incidents, the best first, then stories; the field `schema` distinguishes them.
fn json(matches: &[Match<'_>], stories: &[Story]) -> Result<String, CommandFailure> {
    let mut text = String::new();
    let incidents = matches.iter().map(|found| serde_json::to_string(found.incident));
    for line in incidents.chain(stories.iter().map(serde_json::to_string)) {
        let line =
            line.map_err(|error| CommandFailure::new(Exit::Internal, format_args!("cannot write JSON: {error}")))?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}

/// The message without a match: the query and the range that was searched.
fn nothing(index: &IncidentIndex, query: &SearchQuery) -> String {
    let mut options = Vec::new();
    options.extend(query.at.map(|window| format!("--at {}", window.from)));
    options.extend(query.client.as_ref().map(|name| format!("--client {name}")));
    options.extend(query.server.as_ref().map(|name| format!("--server {name}")));
    options.extend(query.error.map(|class| format!("--error {}", name_of(&class))));
    let query = if options.is_empty() { "everything".to_owned() } else { options.join(" ") };
    let count = index.incidents().count() as u64;
    match index.span() {
        None => format!("nothing matches {query}: there is no incident; was the monitor running at that time?"),
        Some((first, last)) => format!(
            "nothing matches {query} among {}, with moments from {first} to {last}; use fewer options or another time (UTC)",
            counted(count, "incident", "incidents")
        ),
    }
}
