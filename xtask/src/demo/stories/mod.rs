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

/// Played without `--story`.
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

/// For `--help` and the check of the argument.
pub fn possible_values() -> Vec<PossibleValue> {
    ALL.iter().map(|story| PossibleValue::new(story.name).help(story.about)).collect()
}

/// The story of that name.
///
/// # Errors
/// When there is none.
pub fn named(name: &str) -> Result<&'static Story, String> {
    ALL.into_iter().find(|story| story.name == name).ok_or_else(|| format!("no story is called {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_story_is_found_by_its_name_and_the_default_is_one() {
        for story in ALL {
            assert_eq!(named(story.name).map(|found| found.about), Ok(story.about));
        }
        assert!(named(DEFAULT).is_ok());
    }
}
