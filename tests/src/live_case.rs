//! A live case: one story with real containers, and every incident that must follow. The live suite plays each as a test,
//! `cargo xtask matrix` as often as requested; both use the same verdict.

use std::path::Path;

use anyhow::Result;

use crate::expect::Expected;
use crate::play::{Played, play_into};
use crate::stage::Stage;

/// What happens, and the incidents that must follow.
pub type Story = Box<dyn Fn(&Stage) -> Result<Vec<Expected>> + Send + Sync>;

pub struct LiveCase {
    /// Its name on the command line and in the table.
    pub id: &'static str,
    /// The story, as a sentence.
    pub title: &'static str,
    /// Cases of a kind.
    pub group: &'static str,
    /// The monitor's further arguments.
    pub arguments: &'static [&'static str],
    /// Played once by the live suite, and with it in continuous integration; the others on request.
    pub in_ci: bool,
    story: Story,
}

/// A live case that continuous integration plays.
pub fn live_case(
    id: &'static str,
    title: &'static str,
    story: impl Fn(&Stage) -> Result<Vec<Expected>> + Send + Sync + 'static,
) -> LiveCase {
    LiveCase { id, title, group: "", arguments: &[], in_ci: true, story: Box::new(story) }
}

impl LiveCase {
    /// Played on request only.
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

    /// Plays it once. A wrong run is kept in `keep`, the recording of a right one in `recording`.
    #[must_use]
    pub fn play(&self, keep: &Path, recording: Option<&Path>) -> Played {
        play_into(self.arguments, keep, recording, &self.story)
    }
}
