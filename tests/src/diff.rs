//! Differences between a run and its expectation, each with the promise that it breaks: a test fails with all of them as
//! text, the matrix counts them by aspect. Nothing here decides what is right.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// The promise that a difference breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// The case did not happen, or could not be played.
    Story,
    /// A client's error: httpx's class, detail, errno, phase, and whether the policy retries it.
    Class,
    /// Kind, end, sender, subject, confidence and condition.
    Cause,
    /// A broken connection without an entry, or an entry without one.
    Coverage,
    /// An instant that is not the witness's.
    Moment,
    /// Published or settled too late.
    Pace,
    /// An incident that nothing calls for.
    FalseIncident,
    /// The line itself: schema, order, revisions, replay.
    Form,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    pub aspect: Aspect,
    pub text: String,
}

/// Collects every difference, so that one wrong run reports all of them.
#[derive(Clone, Debug, Default)]
pub struct Diffs {
    within: Vec<String>,
    found: Vec<Diff>,
}

impl Diffs {
    pub fn unless<T: PartialEq + std::fmt::Debug>(&mut self, aspect: Aspect, what: &str, found: &T, wanted: &T) {
        if found != wanted {
            self.add(aspect, &format!("{what}: {found:?}, expected {wanted:?}"));
        }
    }

    pub fn note(&mut self, aspect: Aspect, what: &str, result: Result<()>) {
        if let Err(error) = result {
            self.add(aspect, &format!("{what}: {error:#}"));
        }
    }

    pub fn add(&mut self, aspect: Aspect, text: &str) {
        let words = self.within.iter().map(String::as_str).chain([text]).collect::<Vec<_>>();
        self.found.push(Diff { aspect, text: words.join(": ") });
    }

    /// Puts `what` in front of each difference that `look` finds.
    pub fn within(&mut self, what: String, look: impl FnOnce(&mut Self)) {
        self.within.push(what);
        look(self);
        self.within.pop();
    }

    #[must_use]
    pub fn into_found(self) -> Vec<Diff> {
        self.found
    }
}

/// One difference a line.
///
/// # Errors
/// When there are any.
pub fn none_of(found: &[Diff]) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let lines: Vec<&str> = found.iter().map(|difference| difference.text.as_str()).collect();
    bail!("{}", lines.join("\n  "))
}
