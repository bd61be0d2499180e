//! Rules on wording: plain technical English in comments, literals, pages and shipped assets. Quoted text is exempt
//! (`prose::unquoted`), which is also why the words below are written as code spans.

use super::prose::{unquoted, words};
use super::scan::{Kind, Prose};
use super::tree::Tree;
use super::{Measure, Rule, float};

/// Words that are not used; matched in any case, as whole words. In backticks: quoted words are exempt, as here.
const BANNED: &str = "`told`, `nobody`, `somebody`, `whoever`, `whom`, `anew`, `in vain`, `beside`";
const TELL: [&str; 3] = ["tell", "tells", "telling"];
const WHO: [&str; 2] = ["who", "whose"];
/// Densities are per so many words.
const PER: f64 = 1000.0;

const TELL_BAR: f64 = 0.5;
/// The highest value among eleven comparable projects.
const WHO_BAR: f64 = 1.7;

pub const RULES: [Rule; 5] = [
    Rule { name: "voice: no banned word", ceiling: 0.0, bar: 0.0, measure: banned },
    Rule {
        name: "voice: \"tell\" in 1,000 words of comments",
        ceiling: TELL_BAR,
        bar: TELL_BAR,
        measure: |tree| density(tree, Kind::Comment, &TELL),
    },
    Rule {
        name: "voice: \"tell\" in 1,000 words of pages",
        ceiling: TELL_BAR,
        bar: TELL_BAR,
        measure: |tree| density(tree, Kind::Page, &TELL),
    },
    Rule {
        name: "voice: \"who\" in 1,000 words of comments",
        ceiling: WHO_BAR,
        bar: WHO_BAR,
        measure: |tree| density(tree, Kind::Comment, &WHO),
    },
    Rule {
        name: "voice: \"who\" in 1,000 words of pages",
        ceiling: WHO_BAR,
        bar: WHO_BAR,
        measure: |tree| density(tree, Kind::Page, &WHO),
    },
];

/// The banned words and phrases, without their quotes.
pub fn banned_phrases() -> impl Iterator<Item = &'static str> {
    BANNED.split('`').skip(1).step_by(2)
}

/// Banned phrases in a text, with their lines counted from 0.
#[must_use]
pub fn banned_in(text: &str) -> Vec<(usize, &'static str)> {
    let text = unquoted(text).to_lowercase();
    let all: Vec<(usize, &str)> = words(&text).collect();
    let mut found = Vec::new();
    for phrase in banned_phrases() {
        let phrase_words: Vec<&str> = phrase.split(' ').collect();
        let hits = all
            .windows(phrase_words.len())
            .filter(|window| window.iter().map(|(_, word)| *word).eq(phrase_words.iter().copied()));
        found.extend(hits.filter_map(|window| window.first().map(|(line, _)| (*line, phrase))));
    }
    found.sort_unstable();
    found
}

fn banned(tree: &Tree) -> Measure {
    let mut places = Vec::new();
    for file in &tree.files {
        for Prose { line, text, .. } in &file.prose {
            places.extend(
                banned_in(text).iter().map(|(below, phrase)| format!("{}:{}: {phrase}", file.path, line + below)),
            );
        }
    }
    Measure::of(places)
}

fn density(tree: &Tree, kind: Kind, counted: &[&str]) -> Measure {
    let mut places = Vec::new();
    let mut total = 0;
    for file in &tree.files {
        for Prose { line, text, .. } in file.prose.iter().filter(|prose| prose.kind == kind) {
            for (below, word) in words(&unquoted(text)).filter(|(_, word)| word.chars().all(char::is_alphabetic)) {
                total += 1;
                if counted.iter().any(|counted| word.eq_ignore_ascii_case(counted)) {
                    places.push(format!("{}:{}: {word}", file.path, line + below));
                }
            }
        }
    }
    let count = if total == 0 { 0.0 } else { float(places.len()) * PER / float(total) };
    Measure { count, places, note: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, text: &str) -> Vec<String> {
        banned(&Tree::of(&[(path, text)])).places
    }

    #[test]
    fn counts_each_banned_phrase_in_comments_literals_pages_and_assets() {
        assert_eq!(banned_phrases().count(), 8);
        for phrase in banned_phrases() {
            assert_eq!(of("x.rs", &format!("fn f() {{}}\n// It is {phrase}.\n")), [format!("x.rs:2: {phrase}")]);
            assert_eq!(of("x.rs", &format!("fn f() {{ g(\"\\n{phrase}\") }}")).len(), 1);
            assert_eq!(of("x.py", &format!("# {phrase}\n")).len(), 1);
            assert_eq!(of("x.md", &format!("Is {}.", phrase.to_uppercase())).len(), 1);
            assert_eq!(of("gaia-monitor/assets/x.json", &format!("{{\"summary\": \"{phrase}\"}}")).len(), 1);
        }
    }

    #[test]
    fn ignores_banned_phrases_in_code_quotations_and_longer_words() {
        for phrase in banned_phrases() {
            let name = phrase.replace(' ', "_");
            assert_eq!(
                of("x.rs", &format!("fn {name}() {{ g(\"{{{name}}}\") }} // `{phrase}` and {name}_at")).len(),
                0
            );
            assert_eq!(of("x.md", &format!("```\n{phrase}\n```\n<!-- quotation -->\n| {phrase} |\n")).len(), 0);
        }
    }

    #[test]
    fn finds_a_phrase_that_continues_on_the_next_line() {
        let phrase = banned_phrases().find(|phrase| phrase.contains(' ')).unwrap();
        let broken = format!("// It is {}\n", phrase.replace(' ', "\n// "));
        assert_eq!(of("x.rs", &broken), [format!("x.rs:1: {phrase}")]);
    }

    #[test]
    fn measures_density_in_one_kind_of_prose_only() {
        let tree = Tree::of(&[("x.rs", "// Who? one two three\nfn f() { g(\"who\") }"), ("x.md", "whose `who` one")]);
        let exactly = |kind, expected: f64| (density(&tree, kind, &WHO).count - expected).abs() < f64::EPSILON;
        assert!(exactly(Kind::Comment, 250.0));
        assert!(exactly(Kind::Page, 500.0));
        assert!(exactly(Kind::Asset, 0.0));
    }
}
