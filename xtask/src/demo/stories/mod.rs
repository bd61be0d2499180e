//! All stories of the demo.

mod exit;
mod failover;
mod keepalive;
mod oom;
mod pause;
mod segv;
mod stop;
mod stream;
mod upload;
mod worker;

use clap::builder::PossibleValue;

use super::story::Story;

/// The story that is played without `--story`.
pub const DEFAULT: &str = "failover";

pub const ALL: [&Story; 10] = [
    &failover::STORY,
    &upload::STORY,
    &oom::STORY,
    &segv::STORY,
    &exit::STORY,
    &worker::STORY,
    &stop::STORY,
    &pause::STORY,
    &stream::STORY,
    &keepalive::STORY,
];

/// Names and summaries, for `--help` and for the check of the argument.
pub fn possible_values() -> Vec<PossibleValue> {
    ALL.iter().map(|story| PossibleValue::new(story.name).help(story.about)).collect()
}

/// The story of that name.
///
/// # Errors
/// When no story has it.
pub fn named(name: &str) -> Result<&'static Story, String> {
    ALL.into_iter().find(|story| story.name == name).ok_or_else(|| format!("no story is named {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_story_and_the_default_by_name() {
        for story in ALL {
            assert_eq!(named(story.name).map(|found| found.about), Ok(story.about));
        }
        assert!(named(DEFAULT).is_ok());
    }
}
