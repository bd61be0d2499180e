//! `explain`: finds the incident that explains an error, in a journal or in a recording.

use std::path::Path;

use super::print;
use crate::cli::{Explain, Output};
use crate::config::Config;
use crate::engine::Engine;
use crate::engine::effect::Effect;
use crate::exit::{Exit, Failure};
use crate::explain::{self, Fit, Query, Shelf, rank};
use crate::model::incident::name_of;
use crate::model::settings::Waits;
use crate::model::time::Stamp;
use crate::recording::play::play;
use crate::recording::reader::Reader;
use crate::sinks::journal;
use crate::sinks::notice;
use crate::sinks::terminal::style::{Page, Tone};
use crate::sinks::terminal::text::{counted, harmless};
use crate::sinks::terminal::{block, stdout_takes_colour};
use crate::story::{self, Story};

/// Incidents that are printed whole; further ones are a line each.
const WHOLE: usize = 3;
/// Kinds of requests' stories that are printed.
const STORIES: usize = 10;

pub fn explain(args: Explain) -> Result<Exit, Failure> {
    let mut shelf = Shelf::default();
    let mut waits = configured(args.config.as_deref())?;
    // A time of day is the last one before this instant: today's, or the recording's end.
    let now = match (&args.journal, &args.recording) {
        (Some(directory), _) => {
            journal::read(directory, |incident| shelf.put(incident))?;
            // What a person means by a time of day; no verdict depends on it.
            Stamp(jiff::Timestamp::now().as_nanosecond().try_into().unwrap_or(i64::MAX))
        }
        (None, Some(file)) => judge(file, &mut shelf, &mut waits)?,
        (None, None) => {
            return Err(Failure::new(Exit::Usage, "say where to look: --journal DIR or --recording FILE"));
        }
    };
    let query =
        Query { at: args.at.map(|when| when.window(now)), client: args.client, server: args.server, error: args.error };
    let fits = rank(&shelf, &query);
    if fits.is_empty() {
        return Err(Failure::new(Exit::NothingFits, nothing(&shelf, &query)));
    }
    let stories = explain::stories(&shelf, &fits, &query, &waits);
    print(&match args.output {
        Output::Pretty => pretty(&fits, &stories),
        Output::Json => json(&fits, &stories)?,
    })?;
    Ok(Exit::Ok)
}

/// The pauses between attempts that a journal does not tell.
fn configured(file: Option<&Path>) -> Result<Waits, Failure> {
    let Some(path) = file else { return Ok(Waits::default()) };
    let config = Config::load(path).map_err(|error| Failure::new(Exit::Usage, error))?;
    Ok(config.into_settings().policy.waits)
}

/// Steps an engine through a recording; tells when it ended.
fn judge(file: &Path, shelf: &mut Shelf, waits: &mut Waits) -> Result<Stamp, Failure> {
    let mut reader = Reader::open(file)?;
    waits.clone_from(&reader.header().settings.policy.waits);
    let mut engine = Engine::new(reader.header().settings.clone());
    let mut effects = Vec::new();
    let mut end = reader.header().started_at.0;
    let played = play(&mut reader, |event| {
        end = event.seen;
        engine.step(event, &mut effects);
        for effect in effects.drain(..) {
            if let Effect::Incident(incident) = effect {
                shelf.put(*incident);
            }
        }
        true
    })?;
    if played.missing > 0 {
        let events = counted(played.missing, "event", "events");
        notice::warn(format_args!("{} lacks {events}; verdicts may differ from those of the run", file.display()));
    }
    Ok(end)
}

fn pretty(fits: &[Fit<'_>], stories: &[Story]) -> String {
    let mut page = Page::new(stdout_takes_colour());
    for (index, fit) in fits.iter().enumerate() {
        if index == WHOLE {
            page.end_line().put(Tone::Strong, &format!("and {} more", fits.len() - WHOLE)).end_line();
        }
        if index < WHOLE {
            if index > 0 {
                page.end_line();
            }
            page.put(Tone::Strong, &format!("{}. ", index + 1)).put(Tone::Plain, &fit.reasons.join("; "));
            page.end_line();
            block::whole(&mut page, fit.incident);
        } else {
            block::headline(&mut page, fit.incident);
        }
    }
    requests(&mut page, stories);
    page.into_text()
}

/// What became of the requests that these incidents broke, alike ones together.
fn requests(page: &mut Page, stories: &[Story]) {
    let alike = story::alike(stories);
    for (index, (count, told)) in alike.iter().take(STORIES).enumerate() {
        if index == 0 {
            page.end_line().put(Tone::Strong, "What became of the requests").end_line();
        }
        let tone = if told.caller_saw.is_some() { Tone::Alarm } else { Tone::Good };
        page.put(tone, "  ● ");
        if *count > 1 {
            page.put(Tone::Strong, &format!("{count} × "));
        }
        page.put(Tone::Plain, &harmless(&told.text)).end_line();
        joined(page, told);
    }
    let more: u64 = alike.iter().skip(STORIES).map(|(count, _)| count).sum();
    if more > 0 {
        page.put(Tone::Quiet, &format!("    and {} more of other kinds", counted(more, "request", "requests")))
            .end_line();
    }
}

/// The incidents of a failed failover, and which is part of which.
fn joined(page: &mut Page, told: &Story) {
    let Some(fallback) = &told.fallback_attempt else { return };
    let (own, server) = (harmless(&fallback.incident.0), harmless(&fallback.server));
    let text = match &fallback.failover_of {
        Some(primary) => {
            format!("{server}'s incident {own} is part of the failover of incident {}", harmless(&primary.0))
        }
        None => format!("{server}'s incident is {own}"),
    };
    page.put(Tone::Quiet, &format!("    {text}")).end_line();
}

/// Incidents, the best first, then stories: `schema` tells which a line is.
fn json(fits: &[Fit<'_>], stories: &[Story]) -> Result<String, Failure> {
    let mut text = String::new();
    let incidents = fits.iter().map(|fit| serde_json::to_string(fit.incident));
    for line in incidents.chain(stories.iter().map(serde_json::to_string)) {
        let line = line.map_err(|error| Failure::new(Exit::Internal, format_args!("cannot write JSON: {error}")))?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}

/// What was looked at, so that the next question can be a better one.
fn nothing(shelf: &Shelf, query: &Query) -> String {
    let mut asked = Vec::new();
    asked.extend(query.at.map(|window| format!("--at {}", window.from)));
    asked.extend(query.client.as_ref().map(|name| format!("--client {name}")));
    asked.extend(query.server.as_ref().map(|name| format!("--server {name}")));
    asked.extend(query.error.map(|class| format!("--error {}", name_of(&class))));
    let asked = if asked.is_empty() { "everything".to_owned() } else { asked.join(" ") };
    let count = shelf.incidents().count() as u64;
    match shelf.span() {
        None => format!("nothing fits {asked}: there is no incident at all; was the monitor running at that time?"),
        Some((first, last)) => format!(
            "nothing fits {asked} among {}, whose moments lie between {first} and {last}; ask for less, or for another \
             time (UTC)",
            counted(count, "incident", "incidents")
        ),
    }
}
