//! Rules on commit subjects: short, imperative, in the voice of the repository.

use std::process::Command;

use gaia_monitor_tests::host;

use super::voice::banned_in;
use super::{Measure, Rule, float};

/// The last commit before these rules; earlier history is not judged.
const BASE: &str = "433f3b05f7c0a108ef4d287f82fa6e0413443680";
/// Only the latest commits are judged, so that an old mistake does not fail forever.
const JUDGED: usize = 30;
/// Git cuts longer subjects in many of its views.
const LONGEST: usize = 72;

const MEDIAN_BAR: f64 = 50.0;

pub const RULES: [Rule; 3] = [
    Rule {
        name: "commits: median length of a subject",
        ceiling: MEDIAN_BAR,
        bar: MEDIAN_BAR,
        measure: |_| judged(median),
    },
    Rule { name: "commits: no subject above 72 characters", ceiling: 0.0, bar: 0.0, measure: |_| judged(too_long) },
    Rule { name: "commits: no banned word in a subject", ceiling: 0.0, bar: 0.0, measure: |_| judged(banned) },
];

fn judged(measure: fn(&[String]) -> Measure) -> Measure {
    match subjects() {
        Ok((subjects, note)) => Measure { note, ..measure(&subjects) },
        Err(reason) => Measure { note: Some(format!("commit subjects not checked: {reason}")), ..Measure::default() },
    }
}

/// The latest subjects after the base, without merges, and what limits them.
fn subjects() -> Result<(Vec<String>, Option<String>), String> {
    let (range, note) = match git(&["cat-file", "-e", &format!("{BASE}^{{commit}}")]) {
        Ok(_) => (format!("{BASE}..HEAD"), None),
        // A shallow clone, or no repository at all; the latter fails below.
        Err(_) => {
            ("HEAD".to_owned(), Some("commit subjects: shallow clone, only its own commits are checked".to_owned()))
        }
    };
    let log = git(&["log", "--no-merges", "--format=%s", &format!("--max-count={JUDGED}"), &range])?;
    Ok((log.lines().map(str::to_owned).collect(), note))
}

fn git(args: &[&str]) -> Result<String, String> {
    let output = Command::new("git").args(args).current_dir(host::workspace()).output();
    let output = output.map_err(|error| format!("cannot start git: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(message.lines().next().unwrap_or("git failed").to_owned())
}

/// Half a character is rounded down.
fn median(subjects: &[String]) -> Measure {
    let mut lengths: Vec<usize> = subjects.iter().map(|subject| subject.chars().count()).collect();
    lengths.sort_unstable();
    let half = lengths.len() / 2;
    let middle = lengths.get(half).copied().unwrap_or_default();
    let below = half.checked_sub(1).and_then(|below| lengths.get(below)).copied().unwrap_or(middle);
    let count = if lengths.len().is_multiple_of(2) { usize::midpoint(below, middle) } else { middle };
    Measure { count: float(count), places: subjects.to_vec(), note: None }
}

fn too_long(subjects: &[String]) -> Measure {
    Measure::of(subjects.iter().filter(|subject| subject.chars().count() > LONGEST).cloned().collect())
}

fn banned(subjects: &[String]) -> Measure {
    Measure::of(subjects.iter().filter(|subject| !banned_in(subject).is_empty()).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::voice::banned_phrases;

    fn lengths(lengths: &[usize]) -> Vec<String> {
        lengths.iter().map(|&length| "x".repeat(length)).collect()
    }

    #[test]
    fn takes_the_middle_length() {
        let count = |of: &[usize]| format!("{}", median(&lengths(of)).count);
        assert_eq!((count(&[]), count(&[9, 1, 2]), count(&[4, 1, 2, 9])), ("0".into(), "2".into(), "3".into()));
    }

    #[test]
    fn counts_a_subject_above_the_longest() {
        assert_eq!(too_long(&lengths(&[LONGEST, LONGEST + 1])).places, lengths(&[LONGEST + 1]));
    }

    #[test]
    fn counts_a_subject_with_a_banned_word() {
        let subjects: Vec<String> = banned_phrases().map(|phrase| format!("engine: {phrase}")).collect();
        assert_eq!(banned(&subjects).places, subjects);
        assert_eq!(banned(&["engine: report it".to_owned()]).places.len(), 0);
    }
}
