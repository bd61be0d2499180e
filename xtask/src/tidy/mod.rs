//! `cargo xtask tidy`: house rules that no compiler checks. `cargo test` enforces them, too.
//!
//! Each rule counts its violations and has two numbers: the ceiling, which the count must not exceed, and the bar, which
//! is the aim. A ceiling above its bar is the count at the time when the rule was added: lower it together with the
//! count, and never raise it.

mod commits;
mod docs;
mod files;
mod names;
mod prose;
mod scan;
mod structure;
mod tree;
mod voice;

use anyhow::{Result, ensure};
use gaia_monitor_tests::host;

use tree::Tree;

/// Places shown of a rule that fails; `--places` shows all of them.
const SHOWN: usize = 20;
/// Two decimals are printed, so differences below that do not count.
const PRECISION: f64 = 0.005;

#[derive(clap::Args)]
pub struct Args {
    /// Also list every place that is counted by the rules with this text in their name.
    #[arg(long, value_name = "TEXT")]
    places: Option<String>,
}

/// A rule over the whole repository.
#[derive(Clone, Copy)]
pub struct Rule {
    pub name: &'static str,
    /// The largest count that passes.
    pub ceiling: f64,
    /// The largest count that the finished design allows.
    pub bar: f64,
    pub measure: fn(&Tree) -> Measure,
}

/// The outcome of a rule.
#[derive(Debug, Default)]
pub struct Measure {
    pub count: f64,
    /// `file:line: what`, or without a line.
    pub places: Vec<String>,
    /// What the rule could not check.
    pub note: Option<String>,
}

impl Measure {
    /// One violation for each place.
    #[must_use]
    pub fn of(places: Vec<String>) -> Self {
        Self { count: float(places.len()), places, note: None }
    }
}

/// Counts are far below the 2^32 up to which this is exact.
#[must_use]
pub fn float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

fn rules() -> Vec<Rule> {
    [files::RULES.as_slice(), &voice::RULES, &commits::RULES, &structure::RULES, &names::RULES, &docs::RULES].concat()
}

/// Checks every rule and prints its count, ceiling and bar.
///
/// # Errors
/// When the repository cannot be read or a count exceeds its ceiling.
pub fn run(args: &Args) -> Result<()> {
    let tree = Tree::read(&host::workspace())?;
    println!("{:<7} {:>8} {:>8} {:>8}  rule", "", "count", "ceiling", "bar");
    let mut failures = Vec::new();
    let mut notes = Vec::new();
    for rule in rules() {
        let Measure { count, places, note } = (rule.measure)(&tree);
        let holds = holds(&rule, count);
        let state = if holds { "ok" } else { "FAILED" };
        println!("{state:<7} {:>8} {:>8} {:>8}  {}", figure(count), figure(rule.ceiling), figure(rule.bar), rule.name);
        if !holds {
            failures.push(failure(&rule, count, &places));
        } else if count < rule.ceiling - PRECISION && rule.ceiling > rule.bar {
            notes.push(format!("lower the ceiling of \"{}\" to {}", rule.name, figure(count.max(rule.bar))));
        }
        if args.places.as_ref().is_some_and(|text| rule.name.contains(text.as_str())) {
            places.iter().for_each(|place| println!("  {place}"));
        }
        notes.extend(note);
    }
    notes.iter().for_each(|note| println!("note: {note}"));
    ensure!(failures.is_empty(), "{} rule(s) failed:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

fn holds(rule: &Rule, count: f64) -> bool {
    count < rule.ceiling + PRECISION
}

fn failure(rule: &Rule, count: f64, places: &[String]) -> String {
    let mut text = format!("{}: {} exceeds {}", rule.name, figure(count), figure(rule.ceiling));
    for place in places.iter().take(SHOWN) {
        text.push_str("\n  ");
        text.push_str(place);
    }
    let hidden = places.len().saturating_sub(SHOWN);
    if hidden > 0 {
        text.push_str(&format!("\n  and {hidden} more: cargo xtask tidy --places \"{}\"", rule.name));
    }
    text
}

fn figure(count: f64) -> String {
    if count.fract() == 0.0 { format!("{count:.0}") } else { format!("{count:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_holds_in_this_repository() {
        let tree = Tree::read(&host::workspace()).unwrap();
        assert!(tree.product().count() > 0, "no product source found");
        let measured = rules().into_iter().map(|rule| (rule, (rule.measure)(&tree)));
        let failed = measured.filter(|(rule, measure)| !holds(rule, measure.count));
        let failures: Vec<String> = failed.map(|(rule, found)| failure(&rule, found.count, &found.places)).collect();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    #[test]
    fn every_ceiling_is_at_least_its_bar() {
        for rule in rules() {
            assert!(rule.ceiling >= rule.bar, "{}", rule.name);
        }
    }

    #[test]
    fn fails_above_the_ceiling_only_and_names_the_places() {
        let rule = Rule { name: "x", ceiling: 1.0, bar: 0.0, measure: |_| Measure::default() };
        assert!(holds(&rule, 1.0) && !holds(&rule, 2.0));
        let places: Vec<String> = (0..=SHOWN).map(|at| format!("f:{at}")).collect();
        let text = failure(&rule, 21.0, &places);
        assert!(text.starts_with("x: 21 exceeds 1\n  f:0\n"), "{text}");
        assert!(text.ends_with("and 1 more: cargo xtask tidy --places \"x\""), "{text}");
    }
}
