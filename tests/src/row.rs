//! A row: one story with real containers, and all that must come of it. The live suite plays rows as tests, `cargo xtask
//! matrix` plays them as often as it is asked; both judge by the same verdict.

use std::path::Path;

use anyhow::Result;

use crate::case::Case;
use crate::expect::Expected;
use crate::play::{Played, play_into};

/// What happens, and what it must come to.
pub type Story = Box<dyn Fn(&Case) -> Result<Vec<Expected>> + Send + Sync>;

pub struct Row {
    /// Its name on the command line and in the table.
    pub id: &'static str,
    /// What it tells, as a sentence.
    pub tells: &'static str,
    /// Rows of a kind.
    pub group: &'static str,
    /// The monitor's further arguments.
    pub arguments: &'static [&'static str],
    /// Played once by the live suite, and with it in continuous integration; the others when they are asked for.
    pub in_ci: bool,
    story: Story,
}

/// A row that continuous integration plays.
pub fn row(
    id: &'static str,
    tells: &'static str,
    story: impl Fn(&Case) -> Result<Vec<Expected>> + Send + Sync + 'static,
) -> Row {
    Row { id, tells, group: "", arguments: &[], in_ci: true, story: Box::new(story) }
}

impl Row {
    /// Played only when it is asked for.
    #[must_use]
    pub fn by_hand(self) -> Self {
        Self { in_ci: false, ..self }
    }

    #[must_use]
    pub fn with(self, arguments: &'static [&'static str]) -> Self {
        Self { arguments, ..self }
    }

    #[must_use]
    pub fn of(self, group: &'static str) -> Self {
        Self { group, ..self }
    }

    /// Plays it once. A wrong run is kept in `keep`, a right one's recording goes to `recording`.
    #[must_use]
    pub fn play(&self, keep: &Path, recording: Option<&Path>) -> Played {
        play_into(self.arguments, keep, recording, &self.story)
    }
}
