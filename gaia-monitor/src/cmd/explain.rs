//! `explain`: finds the incident that explains an error, in a journal or in a recording.

use std::io::Read;
use std::path::Path;

use serde::Serialize;

use super::print;
use crate::cli::Explain;
use crate::config::{Config, Output};
use crate::driver::Driver;
use crate::engine::effect::Effect;
use crate::exit::{CommandFailure, Exit};
use crate::explain::when::{self, When};
use crate::explain::{self, ErrorName, IncidentIndex, Match, SearchQuery, rank, search};
use crate::model::incident::{Incident, name_of};
use crate::model::policy::Policy;
use crate::model::story::Story;
use crate::model::time::Stamp;
use crate::output::journal::index::JournalIndex;
use crate::output::neutral::neutralise;
use crate::output::queue::Overflow;
use crate::output::terminal::style::{Page, Tone};
use crate::output::terminal::{block, stdout_takes_colour};
use crate::output::{Fold, Outputs};
use crate::recording::play::play;
use crate::recording::reader::Reader;
use crate::stderr;
use crate::story::Sentences;
use crate::text::{counted, harmless};
use crate::wire::log_line;

/// Incidents that are printed whole; further ones are a line each.
const WHOLE: usize = 3;
/// A traceback has some ten thousand bytes.
const LOG_BYTES: u64 = 1 << 20;
const HEADLINES: usize = 20;
/// Lines of a journal that `--output json` prints.
const JSON_LINES: usize = 10_000;
/// Kinds of request stories that are printed.
const STORIES: usize = 10;

pub fn explain(args: Explain) -> Result<Exit, CommandFailure> {
    let mut policy = configured(args.config.as_deref())?;
    let logged = match args.stdin {
        Some(_) => Some(read_log()?),
        None => None,
    };
    let (logged_at, logged_error) = logged.map_or((None, None), |logged| (logged.at, logged.error));
    let query = |now: Stamp| SearchQuery {
        at: args.at.or(logged_at).map(|when| when.window(now)),
        client: args.client.clone(),
        server: args.server.clone(),
        error: args.error.clone().or(logged_error.clone()),
    };
    match (&args.journal, &args.recording) {
        (Some(directory), _) => {
            // Only resolves a time of day, the last one before this instant; no verdict depends on it.
            let now = Stamp(jiff::Timestamp::now().as_nanosecond().try_into().unwrap_or(i64::MAX));
            in_journal(directory, &query(now), &policy, args.output)
        }
        (None, Some(file)) => {
            let mut index = IncidentIndex::default();
            let end = replay(file, &mut index, &mut policy)?;
            in_memory(&index, &query(end), &policy, args.output)
        }
        (None, None) => Err(CommandFailure::new(Exit::Usage, "no source: pass --journal DIR or --recording FILE")),
    }
}

fn in_memory(
    index: &IncidentIndex,
    query: &SearchQuery,
    policy: &Policy,
    output: Output,
) -> Result<Exit, CommandFailure> {
    let matches = rank(index, query);
    if matches.is_empty() {
        return Err(nothing(query, index.incidents().count(), index.span()));
    }
    let stories: Vec<Story> = explain::stories(index, &matches, query).into_iter().cloned().collect();
    match output {
        Output::Pretty => print(&pretty(&matches, matches.len(), &stories, policy))?,
        Output::Json => {
            for found in &matches {
                print(&json(found.incident)?)?;
            }
            print(&lines(&stories)?)?;
        }
    }
    Ok(Exit::Ok)
}

/// A journal may hold a gigabyte: only the matches that are printed are read into memory, and one after the other for
/// JSON.
fn in_journal(directory: &Path, query: &SearchQuery, policy: &Policy, output: Output) -> Result<Exit, CommandFailure> {
    let index = JournalIndex::of(directory)?;
    let limit = match output {
        Output::Pretty => WHOLE + HEADLINES,
        Output::Json => JSON_LINES,
    };
    let found = search::search(&index, query, limit)?;
    if found.best.is_empty() {
        return Err(nothing(query, index.len(), found.span));
    }
    let stories = search::stories(&index, &found, query)?;
    match output {
        Output::Pretty => {
            let mut incidents = Vec::new();
            for number in &found.best {
                index.read([*number], |_, line| incidents.extend(read_incident(line)))?;
            }
            let matches: Vec<_> = incidents.iter().filter_map(|incident| explain::match_one(incident, query)).collect();
            print(&pretty(&matches, found.matches, &stories, policy))?;
        }
        Output::Json => {
            for number in &found.best {
                let mut text = Ok(String::new());
                index.read([*number], |_, line| {
                    if let Some(incident) = read_incident(line) {
                        text = json(&incident);
                    }
                })?;
                print(&text?)?;
            }
            print(&lines(&stories)?)?;
            let more = found.matches.saturating_sub(found.best.len()) as u64;
            if more > 0 {
                stderr::warn(format_args!(
                    "{} that match less well left out; pass --at, --client, --server or --error",
                    counted(more, "incident", "incidents")
                ));
            }
        }
    }
    Ok(Exit::Ok)
}

/// A journal may have been written by an earlier version, which kept texts of containers as they were.
fn read_incident(line: &[u8]) -> Option<Incident> {
    let mut incident = serde_json::from_slice(line).ok()?;
    neutralise(&mut incident);
    Some(incident)
}

/// What a log line or a traceback on standard input says: its last error, and the first time in it.
struct Logged {
    at: Option<When>,
    error: Option<ErrorName>,
}

fn read_log() -> Result<Logged, CommandFailure> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(LOG_BYTES).read_to_end(&mut bytes);
    read.map_err(|error| CommandFailure::new(Exit::Usage, format_args!("cannot read standard input: {error}")))?;
    let text = String::from_utf8_lossy(&bytes);
    let classes = log_line::classes_in(&text);
    if classes.is_empty() {
        return Err(CommandFailure::new(
            Exit::Usage,
            "standard input names no error of a known client; pass a log line or traceback, or use --error and --at",
        ));
    }
    let name = classes.iter().map(name_of).collect::<Vec<_>>().join(" or ");
    Ok(Logged { at: when::in_log(&text), error: Some(ErrorName { name, classes }) })
}

/// The clients' policies, which a journal does not contain.
fn configured(file: Option<&Path>) -> Result<Policy, CommandFailure> {
    let Some(path) = file else { return Ok(Policy::default()) };
    let config = Config::load(path).map_err(|error| CommandFailure::new(Exit::Usage, error))?;
    Ok(config.into_settings().policy)
}

/// Re-analyzes a recording; returns its last instant.
fn replay(file: &Path, index: &mut IncidentIndex, policy: &mut Policy) -> Result<Stamp, CommandFailure> {
    let mut reader = Reader::open(file)?;
    policy.clone_from(&reader.header().settings.policy);
    let mut end = reader.header().started_at.0;
    let mut outputs = Outputs::new(Overflow::Block);
    outputs.add_fold(index);
    let mut driver = Driver::new(reader.header().settings.clone(), outputs);
    let played = play(&mut reader, |event| {
        end = event.seen;
        driver.feed(event);
        true
    })?;
    if played.torn {
        stderr::warn(format_args!(
            "{} ends within its last line: the monitor was killed or is still recording; complete lines were searched",
            file.display()
        ));
    }
    if played.missing > 0 {
        let events = counted(played.missing, "event", "events");
        stderr::warn(format_args!("{} is missing {events}; verdicts may differ from those of the run", file.display()));
    }
    Ok(end)
}

/// Keeps the last revision of every incident, and every story.
impl Fold for &mut IncidentIndex {
    fn fold(&mut self, effect: &Effect, _seen: Stamp) {
        match effect {
            Effect::Incident(incident) => self.put(incident.as_ref().clone()),
            Effect::Story(story) => self.put_story(story.as_ref().clone()),
            Effect::Explained(_) | Effect::Count(_) | Effect::Enrich(_) => {}
        }
    }
}

fn pretty(matches: &[Match<'_>], all: usize, stories: &[Story], policy: &Policy) -> String {
    let mut page = Page::new(stdout_takes_colour());
    for (index, found) in matches.iter().take(WHOLE + HEADLINES).enumerate() {
        if index == WHOLE {
            page.end_line().put(Tone::Strong, &format!("and {} more", all - WHOLE)).end_line();
        }
        if index < WHOLE {
            if index > 0 {
                page.end_line();
            }
            page.put(Tone::Strong, &format!("{}. ", index + 1)).put(Tone::Plain, &found.reasons.join("; "));
            page.end_line();
            block::whole(&mut page, found.incident, policy);
        } else {
            block::headline(&mut page, found.incident);
        }
    }
    let rest = all.saturating_sub(WHOLE + HEADLINES) as u64;
    if rest > 0 {
        let text = format!("  {rest} of them not listed; pass --at, --client, --server or --error");
        page.put(Tone::Quiet, &text).end_line();
    }
    requests(&mut page, stories);
    page.into_text()
}

/// The stories of the requests that these incidents broke, equal ones grouped.
fn requests(page: &mut Page, stories: &[Story]) {
    let mut sentences = Sentences::default();
    stories.iter().for_each(|story| sentences.add(story));
    let groups = sentences.groups();
    for (index, group) in groups.iter().take(STORIES).enumerate() {
        if index == 0 {
            page.end_line().put(Tone::Strong, "Stories of the requests").end_line();
        }
        page.put(if group.caller_got_error { Tone::Alarm } else { Tone::Good }, "  ● ");
        if group.count > 1 {
            page.put(Tone::Strong, &format!("{} × ", group.count));
        }
        page.put(Tone::Plain, &harmless(group.sentence)).end_line();
    }
    let more = groups.iter().skip(STORIES).map(|group| group.count).sum::<u64>() + sentences.left_out();
    if more > 0 {
        page.put(Tone::Quiet, &format!("    and {} more of other kinds", counted(more, "request", "requests")))
            .end_line();
    }
}

/// One line. Incidents come first, the best first, then stories; the field `schema` distinguishes them.
fn json<T: Serialize>(of: &T) -> Result<String, CommandFailure> {
    match serde_json::to_string(of) {
        Ok(line) => Ok(line + "\n"),
        Err(error) => Err(CommandFailure::new(Exit::Internal, format_args!("cannot write JSON: {error}"))),
    }
}

fn lines(stories: &[Story]) -> Result<String, CommandFailure> {
    stories.iter().map(json).collect()
}

/// The message without a match: the query and the range that was searched.
fn nothing(query: &SearchQuery, incidents: usize, span: Option<(Stamp, Stamp)>) -> CommandFailure {
    let mut options = Vec::new();
    options.extend(query.at.map(|window| format!("--at {}", window.from)));
    options.extend(query.client.as_ref().map(|name| format!("--client {name}")));
    options.extend(query.server.as_ref().map(|name| format!("--server {name}")));
    options.extend(query.error.as_ref().map(|error| format!("--error {}", error.name)));
    let query = if options.is_empty() { "everything".to_owned() } else { options.join(" ") };
    let message = match span {
        None => format!("nothing matches {query}: there is no incident; was the monitor running at that time?"),
        Some((first, last)) => format!(
            "nothing matches {query} among {}, with moments from {first} to {last}; use fewer options or another time (UTC)",
            counted(incidents as u64, "incident", "incidents")
        ),
    };
    CommandFailure::new(Exit::NothingFits, message)
}
