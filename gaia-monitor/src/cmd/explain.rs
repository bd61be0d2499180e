//! `explain`: finds the incident that explains an error, in a journal or in a recording.

use std::path::Path;

use super::print;
use crate::cli::{Explain, Output};
use crate::engine::Engine;
use crate::engine::effect::Effect;
use crate::exit::{Exit, Failure};
use crate::explain::{Fit, Query, Shelf, rank};
use crate::model::incident::name_of;
use crate::model::time::Stamp;
use crate::recording::play::play;
use crate::recording::reader::Reader;
use crate::sinks::journal;
use crate::sinks::notice;
use crate::sinks::terminal::style::{Page, Tone};
use crate::sinks::terminal::text::counted;
use crate::sinks::terminal::{block, stdout_takes_colour};

/// Incidents that are printed whole; further ones are a line each.
const WHOLE: usize = 3;

pub fn explain(args: Explain) -> Result<Exit, Failure> {
    let mut shelf = Shelf::default();
    // A time of day is the last one before this instant: today's, or the recording's end.
    let now = match (&args.journal, &args.recording) {
        (Some(directory), _) => {
            journal::read(directory, |incident| shelf.put(incident))?;
            // What a person means by a time of day; no verdict depends on it.
            Stamp(jiff::Timestamp::now().as_nanosecond().try_into().unwrap_or(i64::MAX))
        }
        (None, Some(file)) => judge(file, &mut shelf)?,
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
    print(&match args.output {
        Output::Pretty => pretty(&fits),
        Output::Json => json(&fits)?,
    })?;
    Ok(Exit::Ok)
}

/// Steps an engine through a recording; tells when it ended.
fn judge(file: &Path, shelf: &mut Shelf) -> Result<Stamp, Failure> {
    let mut reader = Reader::open(file)?;
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

fn pretty(fits: &[Fit<'_>]) -> String {
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
    page.into_text()
}

fn json(fits: &[Fit<'_>]) -> Result<String, Failure> {
    let mut text = String::new();
    for fit in fits {
        let line = serde_json::to_string(fit.incident)
            .map_err(|error| Failure::new(Exit::Internal, format_args!("cannot write an incident as JSON: {error}")))?;
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
