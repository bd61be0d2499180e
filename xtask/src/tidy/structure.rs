//! Rules on the structure of the product: one place for each cause, one direction of dependencies.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{File, PRODUCT, Tree};
use super::{Measure, Rule, float};

/// A cause is named where it is defined and where it is judged.
const FILES_PER_CAUSE: usize = 2;
/// Causes that may be named in more files, with the reason.
const CAUSES_ELSEWHERE: [(&str, &str); 1] = [("Unknown", "the absence of a cause, which outputs treat apart")];
/// Modules that must not depend on the engine.
const BELOW_ENGINE: [&str; 5] = ["sources", "config", "recording", "story", "explain"];
/// The terminal output by its present and by its coming name.
const TERMINAL: [&str; 2] = ["crate::sinks::terminal", "crate::output::terminal"];
/// Modules that may use the terminal output.
const ABOVE_TERMINAL: [&str; 4] = ["sinks", "output", "cmd", "serve"];

pub const RULES: [Rule; 5] = [
    Rule { name: "structure: causes named in more than two files", ceiling: 0.0, bar: 0.0, measure: causes },
    Rule { name: "structure: uses of the engine below it", ceiling: 0.0, bar: 0.0, measure: engine_uses },
    Rule {
        name: "structure: uses of the terminal output outside outputs and commands",
        ceiling: 0.0,
        bar: 0.0,
        measure: terminal_uses,
    },
    Rule { name: "structure: files with `impl Engine`", ceiling: 3.0, bar: 3.0, measure: engine_impls },
    Rule { name: "structure: parameters `case` of another type", ceiling: 0.0, bar: 0.0, measure: cases },
];

fn causes(tree: &Tree) -> Measure {
    let mut files_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for file in tree.product() {
        for (_, rest) in occurrences(file.product_code(), "CauseKind::") {
            let variant = identifier(rest);
            if variant.starts_with(char::is_uppercase) {
                files_of.entry(variant).or_default().insert(short(file));
            }
        }
    }
    let is_exempt = |variant: &str| CAUSES_ELSEWHERE.iter().any(|(exempt, _)| *exempt == variant);
    let spread = files_of.iter().filter(|(variant, files)| files.len() > FILES_PER_CAUSE && !is_exempt(variant));
    let shown = |files: &BTreeSet<&str>| files.iter().copied().collect::<Vec<_>>().join(", ");
    Measure::of(spread.map(|(variant, files)| format!("{variant}: {} ({})", files.len(), shown(files))).collect())
}

fn engine_uses(tree: &Tree) -> Measure {
    uses(tree, |module| BELOW_ENGINE.contains(&module), &["crate::engine"])
}

fn terminal_uses(tree: &Tree) -> Measure {
    uses(tree, |module| !ABOVE_TERMINAL.contains(&module), &TERMINAL)
}

/// Places, tests included, where these modules name one of these paths, as an import or in full.
fn uses(tree: &Tree, of: impl Fn(&str) -> bool, paths: &[&str]) -> Measure {
    let mut places = Vec::new();
    let files = tree.files.iter().filter(|file| file.is_rust() && file.path.starts_with(PRODUCT));
    for file in files.filter(|file| of(module(file))) {
        for (line, named) in named_paths(&file.code) {
            if paths.iter().any(|path| is_at_or_below(&named, path)) {
                places.push(format!("{}:{line}: {named}", file.path));
            }
        }
    }
    Measure::of(places)
}

fn is_at_or_below(named: &str, path: &str) -> bool {
    named.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Paths that begin at the crate, with their lines; groups in braces are expanded.
fn named_paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, rest) in occurrences(code, "crate::") {
        let line = line_of(code, at);
        found.extend(expanded("crate::", rest).into_iter().map(|path| (line, path)));
    }
    found
}

/// `prefix` with the path that follows, once for each member of its group.
fn expanded(prefix: &str, rest: &str) -> Vec<String> {
    let rest = rest.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        let members = split_top(balanced(group, '{', '}'));
        return members.into_iter().flat_map(|member| expanded(prefix, member)).collect();
    }
    let name = identifier(rest);
    let path = format!("{prefix}{name}");
    match rest.get(name.len()..).and_then(|after| after.strip_prefix("::")) {
        Some(after) if after.trim_start().starts_with(|c: char| c == '{' || c == '_' || c.is_alphabetic()) => {
            expanded(&format!("{path}::"), after)
        }
        _ => vec![path],
    }
}

fn engine_impls(tree: &Tree) -> Measure {
    let is_impl = |rest: &str| {
        let rest = if rest.starts_with('<') { rest.split_once('>').map_or("", |(_, rest)| rest) } else { rest };
        identifier(rest.trim_start()) == "Engine"
    };
    let with = tree.product().filter(|file| occurrences(file.product_code(), "impl").any(|(_, rest)| is_impl(rest)));
    Measure::of(with.map(|file| file.path.clone()).collect())
}

fn cases(tree: &Tree) -> Measure {
    let mut places = Vec::new();
    let files = tree.files.iter().filter(|file| file.is_rust() && file.path.starts_with(PRODUCT));
    for file in files {
        for (at, rest) in occurrences(&file.code, "fn ") {
            let Some((_, list)) = rest.split_once('(') else { continue };
            for parameter in split_top(balanced(list, '(', ')')) {
                if let Some((name, of)) = parameter.split_once(':')
                    && name.trim().trim_start_matches("mut ") == "case"
                    && !of.split(|c: char| c != '_' && !c.is_alphanumeric()).any(|word| word == "Case")
                {
                    places.push(format!("{}:{}: case:{of}", file.path, line_of(&file.code, at)));
                }
            }
        }
    }
    Measure { count: float(places.len()), places, note: None }
}

/// The file without the folder that all product sources share.
fn short(file: &File) -> &str {
    file.path.strip_prefix(PRODUCT).unwrap_or(&file.path)
}

/// The top-level module to which a product source belongs.
fn module(file: &File) -> &str {
    let path = short(file);
    path.split_once('/').map_or(path.trim_end_matches(".rs"), |(first, _)| first)
}

/// Positions of a text that does not continue a longer name, each with what follows it.
fn occurrences<'a>(code: &'a str, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    code.match_indices(text).filter_map(move |(at, _)| {
        let before = code.get(..at)?.chars().next_back();
        let continues = before.is_some_and(|c| c == '_' || c == ':' || c.is_alphanumeric());
        (!continues).then_some((at, code.get(at + text.len()..)?))
    })
}

fn identifier(text: &str) -> &str {
    text.split(|c: char| c != '_' && !c.is_alphanumeric()).next().unwrap_or_default()
}

fn line_of(code: &str, at: usize) -> usize {
    code.get(..at).unwrap_or_default().matches('\n').count() + 1
}

/// The text up to the bracket that closes one that is open before it.
fn balanced(text: &str, open: char, close: char) -> &str {
    let mut depth = 1_usize;
    for (at, c) in text.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return text.get(..at).unwrap_or(text);
            }
        }
    }
    text
}

/// Parts between commas that are in no bracket.
fn split_top(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let parts = text.split(|c| {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' | '>' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(files: &[(&str, &str)]) -> Tree {
        Tree { files: files.iter().map(|(path, text)| File::new(&format!("{PRODUCT}{path}"), text)).collect() }
    }

    #[test]
    fn counts_a_cause_in_a_third_file() {
        let named = "fn f() -> CauseKind { CauseKind::OomKilled }";
        assert_eq!(causes(&product(&[("a.rs", named), ("b.rs", named)])).places.len(), 0);
        let tree = product(&[("a.rs", named), ("b.rs", named), ("c/mod.rs", named)]);
        assert_eq!(causes(&tree).places, ["OomKilled: 3 (a.rs, b.rs, c/mod.rs)"]);
    }

    #[test]
    fn ignores_causes_in_tests_comments_and_exceptions() {
        let named = "// CauseKind::LinkDown\nfn f() { g(CauseKind::Unknown, CauseKind::all()) }";
        let test = "fn f() { CauseKind::LinkDown }";
        assert_eq!(
            causes(&product(&[("a.rs", named), ("b.rs", named), ("c.rs", named), ("tests.rs", test)])).places.len(),
            0
        );
        let inline = format!("#[cfg(test)]\nmod tests {{ {test} }}");
        assert_eq!(causes(&product(&[("a.rs", &inline), ("b.rs", &inline), ("c.rs", &inline)])).places.len(), 0);
    }

    #[test]
    fn counts_uses_of_the_engine_below_it() {
        let text =
            "use crate::engine::Settings;\nuse crate::{engine, model::Event};\nfn f() { crate::engine::scope::g() }";
        let places = engine_uses(&product(&[("story/mod.rs", text)])).places;
        assert_eq!(places.len(), 3, "{places:?}");
        assert_eq!(
            places.first().map(String::as_str),
            Some("gaia-monitor/src/story/mod.rs:1: crate::engine::Settings")
        );
        assert_eq!(engine_uses(&product(&[("cmd/run.rs", text), ("cmd/explain.rs", text)])).places.len(), 0);
        let others = "use crate::engine_room::A;\nuse crate::{model, recording::engine};\n// use crate::engine;";
        assert_eq!(engine_uses(&product(&[("config.rs", others)])).places.len(), 0);
    }

    #[test]
    fn counts_uses_of_the_terminal_output_outside_outputs_and_commands() {
        let text = "use crate::sinks::{lane, terminal::{text, style}};\nuse crate::output::terminal;";
        assert_eq!(terminal_uses(&product(&[("story/mod.rs", text)])).places.len(), 3);
        assert_eq!(terminal_uses(&product(&[("serve/mod.rs", text), ("sinks/json.rs", text)])).places.len(), 0);
    }

    #[test]
    fn counts_files_that_implement_the_engine_itself() {
        let tree = product(&[
            ("a.rs", "impl Engine {}"),
            ("b.rs", "impl<'a> Engine<'a> {}"),
            ("c.rs", "impl Clone for Engine {}\nimpl EngineRoom {}\nfn f(x: impl Engine2) {}"),
        ]);
        assert_eq!(engine_impls(&tree).places, ["gaia-monitor/src/a.rs", "gaia-monitor/src/b.rs"]);
    }

    #[test]
    fn counts_parameters_named_case_of_another_type() {
        let text = "fn f(\n    world: &World,\n    case: &Break,\n) {}\n\
                    fn g(case: &mut super::Case, case: Option<&Case>) {}\n\
                    struct S { case: CaseId }\nfn h(mut case: CaseId) {}";
        let places = cases(&product(&[("a.rs", text)])).places;
        assert_eq!(places, ["gaia-monitor/src/a.rs:1: case: &Break", "gaia-monitor/src/a.rs:7: case: CaseId"]);
    }
}
