//! Text output: one block for the first revision of an incident, then only what is new.
//!
//! A revision that changes the verdict prints the block again; one that only adds facts prints those. Nothing depends on
//! the width of the terminal or on the clock, so a replay prints the same bytes.

pub mod block;
pub mod clients;
pub mod style;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use super::queue::{WriteError, Writer};
use crate::engine::effect::Effect;
use crate::model::ids::IncidentId;
use crate::model::incident::{Affected, Incident, State, TimelineEntry, name_of};
use crate::model::policy::Policy;
use crate::model::story::Story;
use crate::story;
use crate::text;
use style::{Page, Tone};

/// Incidents remembered to find what is new. The next revision of an evicted one prints the whole block.
const REMEMBERED: usize = 256;

/// Does standard output accept colours? A terminal does, unless `NO_COLOR` or `TERM=dumb` is set.
#[must_use]
pub fn stdout_takes_colour() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}

pub struct Terminal<W> {
    output: W,
    colour: bool,
    policy: Policy,
    /// What was last printed of each incident that can still change.
    printed: BTreeMap<IncidentId, Incident>,
}

impl<W: Write> Terminal<W> {
    pub fn new(output: W, colour: bool, policy: Policy) -> Self {
        Self { output, colour, policy, printed: BTreeMap::new() }
    }

    /// Puts what is new in this revision on the page.
    fn render(&mut self, page: &mut Page, incident: &Incident) {
        let before = self.printed.remove(&incident.id);
        let print = match (&before, incident.state) {
            (None, State::Withdrawn) => false,
            (Some(_), State::Withdrawn) => {
                withdrawn(page, incident);
                false
            }
            (None, State::Open | State::Settled | State::Closed) => true,
            (Some(before), State::Open | State::Settled | State::Closed) => verdict_differs(before, incident),
        };
        let mut remembered = incident.clone();
        if print {
            block::whole(page, incident, &self.policy);
        } else if let Some(before) = before
            && incident.state != State::Withdrawn
            && !news(page, &before, incident, &self.policy)
        {
            // The revision that prints them compares with these.
            remembered.timeline = before.timeline;
            remembered.cause = before.cause;
        }
        if matches!(incident.state, State::Open | State::Settled) {
            if self.printed.len() >= REMEMBERED {
                self.printed.pop_first();
            }
            self.printed.insert(incident.id.clone(), remembered);
        }
    }

    fn write(&mut self, page: Page) -> Result<(), WriteError> {
        let text = page.into_text();
        if text.is_empty() {
            return Ok(());
        }
        match self.output.write_all(text.as_bytes()).and_then(|()| self.output.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(WriteError::Closed(error)),
            Err(error) => Err(WriteError::Lost { count: 1, error }),
        }
    }
}

impl<W: Write + Send + 'static> Writer<Arc<Effect>> for Terminal<W> {
    fn kind(&self) -> &'static str {
        "stdout"
    }

    fn name(&self) -> String {
        "standard output".to_owned()
    }

    fn take(&mut self, effect: Arc<Effect>, lost_before: u64) -> Result<(), WriteError> {
        let mut page = Page::new(self.colour);
        left_out(&mut page, lost_before);
        match effect.as_ref() {
            Effect::Incident(incident) => self.render(&mut page, incident),
            Effect::Story(story) => request(&mut page, story),
            Effect::Explained(explanation) => {
                page.put(Tone::Quiet, &format!("· {}", text::harmless(&explanation.to_string()))).end_line();
            }
            Effect::Count(_) | Effect::Enrich(_) => {}
        }
        self.write(page)
    }

    fn finish(&mut self, lost: u64) -> Result<(), WriteError> {
        let mut page = Page::new(self.colour);
        left_out(&mut page, lost);
        self.write(page)
    }
}

/// A request that is over, on one line.
fn request(page: &mut Page, story: &Story) {
    let tone = if story::caller_got_error(story) { Tone::Alarm } else { Tone::Good };
    page.put(tone, "◆ ").put(Tone::Plain, &text::harmless(&story::sentence(story)));
    let took = text::span(story.ended_at.0.since(story.begun_at.0));
    page.put(Tone::Quiet, &format!("  {} for {took} · {}", story.begun_at, text::harmless(&story.id))).end_line();
}

fn left_out(page: &mut Page, lost: u64) {
    if lost > 0 {
        let messages = text::counted(lost, "message", "messages");
        page.put(Tone::Caution, &format!("… {messages} dropped: this output was too slow")).end_line();
    }
}

/// Does the block of `now` state a different verdict?
fn verdict_differs(before: &Incident, now: &Incident) -> bool {
    before.moment != now.moment
        || before.cause.kind != now.cause.kind
        || before.cause.signal != now.cause.signal
        || before.cause.exit_code != now.cause.exit_code
        || before.cause.how != now.cause.how
        || before.cause.confidence != now.cause.confidence
        || before.subject.container != now.subject.container
}

fn heading(page: &mut Page, incident: &Incident, status: &str) {
    page.put(Tone::Quiet, "↳ ").put(Tone::Strong, &text::subject(incident)).put(Tone::Plain, " ");
    page.put(block::tone(incident.cause.kind), &name_of(&incident.cause.kind));
    page.put(Tone::Plain, &format!(" {status}")).put(Tone::Quiet, &format!("  {}", block::reference(incident)));
    page.end_line();
}

fn withdrawn(page: &mut Page, incident: &Incident) {
    let status = match &incident.merged_into {
        Some(other) => format!("withdrawn: part of incident {}", text::harmless(&other.0)),
        None => "withdrawn: later facts rule it out".to_owned(),
    };
    heading(page, incident, &status);
}

/// Prints what a revision adds to the printed one; `false`: the additions wait for a later revision.
fn news(page: &mut Page, before: &Incident, now: &Incident, policy: &Policy) -> bool {
    let clients: Vec<Affected> =
        now.affected.iter().filter(|entry| !before.affected.iter().any(|old| is_same(old, entry))).cloned().collect();
    let more_broken = now.affected_total > before.affected_total;
    match now.state {
        // A mere addition to a settled incident waits until it closes or breaks more connections.
        State::Settled if before.state == State::Settled && clients.is_empty() && !more_broken => return false,
        State::Open => {
            if clients.is_empty() && !more_broken {
                return false;
            }
            heading(page, now, block::state_text(now.state));
            clients::rows(page, now, &clients, policy);
            return false;
        }
        State::Settled | State::Closed => {}
        State::Withdrawn => return false,
    }
    let timeline: Vec<TimelineEntry> =
        now.timeline.iter().filter(|entry| is_news(entry, before, now.state)).cloned().collect();
    let mut status = block::state_text(now.state).to_owned();
    if let Some(condition) = now.condition.filter(|_| now.state == State::Closed) {
        status.push_str(&match condition.until {
            Some(_) => format!(": {}", block::lasting(&condition)),
            None => format!(" while still {}", name_of(&condition.kind)),
        });
    }
    heading(page, now, &status);
    if before.cause.sender != now.cause.sender || before.cause.caused_by != now.cause.caused_by {
        block::why(page, now);
    }
    if !clients.is_empty() || more_broken {
        clients::rows(page, now, &clients, policy);
    }
    block::timeline(page, &timeline, 0);
    true
}

/// Whether an entry has to be printed again. One that counts up is printed with its first count and with its last.
fn is_news(entry: &TimelineEntry, before: &Incident, state: State) -> bool {
    let counted = |old: &TimelineEntry| entry.counter.is_some() && old.counter == entry.counter;
    !before.timeline.contains(entry) && (state == State::Closed || !before.timeline.iter().any(counted))
}

/// The same broken connection with the same outcome, so that it is not printed again.
fn is_same(old: &Affected, new: &Affected) -> bool {
    old.at == new.at
        && (old.client.ip, old.client.port, old.server.ip) == (new.client.ip, new.client.port, new.server.ip)
        && old.client_error == new.client_error
}

#[cfg(test)]
mod tests;
