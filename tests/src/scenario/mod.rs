//! Offline scenarios: a small text with the facts that come in and the incidents that must come out. No Docker, no kernel,
//! no clock; the engine is driven as the pipeline drives it. `tests/scenarios/README.md` describes the language.
//!
//! A statement is an event of a container, a process or a connection; [`script`] turns it into the kernel's and
//! Docker's facts in the order and with the lags that were measured, so that a scenario stays a few lines long.

mod actors;
mod crashes;
mod ended;
mod expect;
mod facts;
mod fields;
mod interfaces;
mod invariants;
mod lookups;
mod losses;
pub mod play;
mod script;
mod stories;
mod traffic;
mod wires;
mod words;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use gaia_monitor::model::event::Event;
use gaia_monitor::model::settings::Settings;

pub use expect::Expected;
pub use invariants::{check as keeps_the_contract, shown};

/// One scenario, read.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub settings: Settings,
    /// In order of release, numbered from 1.
    pub events: Vec<Event>,
    pub expected: Expected,
}

/// Every scenario's text under a folder, in order of its name.
pub fn texts(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(texts(&path)?);
        } else if path.extension().is_some_and(|kind| kind == "txt") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a scenario. Errors name the line.
pub fn read(text: &str) -> Result<Scenario> {
    let mut script = script::Script::new();
    let mut expected = Expected::default();
    for (number, line) in text.lines().enumerate() {
        let indented = line.starts_with(' ');
        let words = words::Words::of(line);
        if words.is_empty() {
            continue;
        }
        let taken = if indented || Expected::takes(&words) {
            expected.line(indented, &words)
        } else if expected.is_begun() {
            Err(anyhow::anyhow!("a fact after the expectations"))
        } else {
            script.line(words)
        };
        taken.with_context(|| format!("line {}: {line}", number + 1))?;
    }
    if !expected.is_begun() {
        bail!("a scenario needs expectations, or `silent`");
    }
    let (settings, events, names) = script.finish();
    expected.names = names;
    Ok(Scenario { settings, events, expected })
}

/// Plays a scenario and returns the first difference.
pub fn check(scenario: &Scenario) -> Result<()> {
    let played = play::play(&scenario.settings, &scenario.events);
    invariants::check(&played)?;
    invariants::counts(&played)?;
    scenario.expected.check(&played)
}

#[cfg(test)]
mod tests {
    use super::{check, read};

    const STORY: &str = "container core listens=80\ndie core 3 @died\n+20ms docker core die 3\n";

    fn outcome(expectations: &str) -> String {
        match read(&format!("{STORY}{expectations}")).and_then(|scenario| check(&scenario)) {
            Ok(()) => "as expected".to_owned(),
            Err(error) => format!("{error:#}").lines().next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn compares_only_named_fields() {
        assert_eq!(outcome("expect process_exited core"), "as expected");
        assert_eq!(outcome("expect process_exited core code=3 at=@died total=0"), "as expected");
    }

    #[test]
    fn names_the_difference_when_a_scenario_fails() {
        assert_eq!(outcome("silent"), "one too many: process_exited core");
        assert_eq!(outcome("expect process_killed core"), "no process_killed core");
        assert_eq!(outcome("expect process_exited core code=4"), "process_exited core: code is 3, not 4");
        let entries = outcome("expect process_exited core\n  web > core ReadError reset");
        assert_eq!(entries, "process_exited core: entries is 0, not 1");
    }

    #[test]
    fn rejects_misspelt_lines() {
        for line in ["dei core 3", "die core 3 exitlast", "docker core hangs"] {
            assert_ne!(outcome(&format!("{line}\nexpect process_exited core")), "as expected", "{line}");
        }
        assert_eq!(outcome("expect process_exited core cod=3"), "process_exited core: an incident has no field cod");
        assert!(read(STORY).is_err(), "a scenario without expectations");
    }
}
