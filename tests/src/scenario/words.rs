//! One line of a scenario, cut into words, `key=value` pairs and a `@label`. `"…"` keeps blanks in a word.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use gaia_monitor::model::time::Nanos;

#[derive(Clone, Debug, Default)]
pub struct Words {
    plain: std::collections::VecDeque<String>,
    /// A key may occur more than once.
    pairs: BTreeMap<String, Vec<String>>,
    pub label: Option<String>,
}

impl Words {
    pub fn of(line: &str) -> Self {
        let mut words = Self::default();
        for word in split(line) {
            match (word.strip_prefix('@'), word.split_once('=')) {
                (Some(label), _) => words.label = Some(label.to_owned()),
                (None, Some((key, value))) if key.chars().all(|c| c.is_ascii_lowercase() || c == '_') => {
                    words.pairs.entry(key.to_owned()).or_default().push(value.to_owned());
                }
                (None, _) => words.plain.push_back(word),
            }
        }
        words
    }

    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.pairs.is_empty()
    }

    pub fn first(&self) -> Option<&str> {
        self.plain.front().map(String::as_str)
    }

    /// The next plain word.
    pub fn next(&mut self, what: &str) -> Result<String> {
        self.plain.pop_front().with_context(|| format!("{what} is missing"))
    }

    /// The next plain word, if there is one.
    pub fn maybe(&mut self) -> Option<String> {
        self.plain.pop_front()
    }

    /// Removes a plain word, wherever it is.
    pub fn flag(&mut self, word: &str) -> bool {
        let before = self.plain.len();
        self.plain.retain(|other| other != word);
        self.plain.len() < before
    }

    /// Takes the word after `word` out, with it.
    pub fn after(&mut self, word: &str) -> Option<String> {
        let at = self.plain.iter().position(|other| other == word)?;
        self.plain.remove(at);
        self.plain.remove(at)
    }

    pub fn value(&mut self, key: &str) -> Option<String> {
        self.pairs.remove(key).and_then(|values| values.into_iter().next_back())
    }

    pub fn values(&mut self, key: &str) -> Vec<String> {
        self.pairs.remove(key).unwrap_or_default()
    }

    pub fn number(&mut self, key: &str) -> Result<Option<u64>> {
        self.value(key).map(|text| text.parse().with_context(|| format!("{key}={text} is no number"))).transpose()
    }

    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().flat_map(|(key, values)| values.iter().map(move |value| (key.as_str(), value.as_str())))
    }

    /// Nothing may be left: a misspelt word must be an error.
    pub fn end(self) -> Result<()> {
        if !self.is_empty() {
            bail!("not understood: {:?} {:?}", self.plain, self.pairs);
        }
        Ok(())
    }
}

fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted && word.is_empty() => break,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// `5s`, `20ms`, `300us`, `7ns`, `2h`.
pub fn span(text: &str) -> Result<Nanos> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').context("a span ends with its unit")?;
    let (number, unit) = text.split_at(digits);
    let nanos = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => bail!("{unit} is no unit of time"),
    };
    let number: f64 = number.parse().with_context(|| format!("{text} is no span"))?;
    #[expect(clippy::cast_possible_truncation, reason = "spans of a scenario are far below 2^53 ns")]
    let nanos = (number * nanos).round() as i64;
    Ok(Nanos(nanos))
}
