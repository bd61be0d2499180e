//! Rules on pages: links lead somewhere, the glossary is complete, the scenarios are linked.

use std::collections::BTreeSet;
use std::path::Path;

use gaia_monitor_tests::host;

use super::prose::words;
use super::tree::{PRODUCT, Tree};
use super::{Measure, Rule};

const GLOSSARY: &str = "gaia-monitor/docs/glossary.md";
const SCENARIOS: &str = "tests/scenarios/README.md";
/// Pages that lead a newcomer to the scenarios.
const ENTRIES: [&str; 2] = ["README.md", "gaia-monitor/docs/architecture.md"];

/// Module names that need no entry: terms of networking, of the kernel and of Docker, and plain words of programming.
const TERMS: &str = "\
assets cgroup cgroups cli clock cmd completions config connections container containers cpu daemon decode decoder \
dns docker ebpf endpoint endpoints engine error event events exit fd fds files filter filters format health host hosts http \
httpx ids interfaces inventory journal json limits links load logs lookup lookups metrics model netlink netns \
netstat network networks output packets pipeline privileges process processes procfs queries queue reader replay \
routes rules run scheduling scope serve settings signal sockdiag socket sockets sources stats stderr stream style \
summary tables tcp terminal text time timer timers values watch words worker writer";

pub const RULES: [Rule; 3] = [
    Rule { name: "docs: links lead somewhere", ceiling: 0.0, bar: 0.0, measure: dead_links },
    Rule { name: "docs: the glossary has every module name", ceiling: 0.0, bar: 0.0, measure: glossary },
    Rule { name: "docs: entry pages link the scenarios", ceiling: 0.0, bar: 0.0, measure: entries },
];

/// Targets of relative links; addresses and anchors within the page are left out.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let all = text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    all.filter(|target| !target.contains("://") && !target.starts_with('#') && !target.starts_with("mailto:"))
        .map(|target| target.split('#').next().unwrap_or(target))
}

fn dead_links(tree: &Tree) -> Measure {
    let root = host::workspace();
    let mut places = Vec::new();
    for page in tree.files.iter().filter(|file| file.is_page()) {
        let folder = root.join(&page.path).parent().map(Path::to_owned).unwrap_or_default();
        let dead = targets(&page.text).filter(|target| !folder.join(target).exists());
        places.extend(dead.map(|target| format!("{}: {target}", page.path)));
    }
    Measure::of(places)
}

fn glossary(tree: &Tree) -> Measure {
    let text = tree.file(GLOSSARY).map(|file| file.text.to_lowercase()).unwrap_or_default();
    let explained: BTreeSet<&str> = words(&text).map(|(_, word)| word).chain(TERMS.split_whitespace()).collect();
    let missing = modules(tree).into_iter().filter(|name| !explained.contains(name)).map(str::to_owned).collect();
    let note = text.is_empty().then(|| format!("{GLOSSARY} does not exist yet"));
    Measure { note, ..Measure::of(missing) }
}

/// Names of product modules: of files, and of folders.
fn modules(tree: &Tree) -> BTreeSet<&str> {
    let paths = tree.product().filter_map(|file| file.path.strip_prefix(PRODUCT)?.strip_suffix(".rs"));
    paths.flat_map(|path| path.split('/')).filter(|name| !["mod", "lib", "main"].contains(name)).collect()
}

fn entries(tree: &Tree) -> Measure {
    let is_linked = |page: &str| {
        let folder = Path::new(page).parent().unwrap_or(Path::new(""));
        let resolve = |target: &str| normal(&folder.join(target));
        tree.file(page).is_some_and(|file| targets(&file.text).any(|target| resolve(target) == SCENARIOS))
    };
    let missing = ENTRIES.into_iter().filter(|page| !is_linked(page));
    Measure::of(missing.map(|page| format!("{page}: no link to {SCENARIOS}")).collect())
}

/// The path without `..`.
fn normal(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()) {
        match part.as_str() {
            "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_a_dead_link_but_no_address_and_no_anchor() {
        let page = "[a](nowhere.md#part) [b](https://x.example/y) [c](Cargo.toml) [d](#here) [e](README.md#here)";
        assert_eq!(dead_links(&Tree::of(&[("page.md", page)])).places, ["page.md: nowhere.md"]);
    }

    #[test]
    fn counts_modules_that_the_glossary_does_not_name() {
        let files = [("gaia-monitor/src/engine/world/tcp.rs", ""), ("gaia-monitor/src/engine/world/tests.rs", "")];
        assert_eq!(glossary(&Tree::of(&files)).places, ["world"]);
        let page = (GLOSSARY, "**World**: what is known of the host.");
        assert_eq!(glossary(&Tree::of(&[files[0], page])).places.len(), 0);
        assert_eq!(glossary(&Tree::of(&[files[0], (GLOSSARY, "worlds")])).places, ["world"]);
    }

    #[test]
    fn counts_entry_pages_without_a_link_to_the_scenarios() {
        let readme = ("README.md", "[scenarios](tests/scenarios/README.md#format)");
        assert_eq!(entries(&Tree::of(&[readme])).count.to_bits(), 1.0_f64.to_bits());
        let architecture = ("gaia-monitor/docs/architecture.md", "[scenarios](../../tests/scenarios/README.md)");
        assert_eq!(entries(&Tree::of(&[readme, architecture])).places.len(), 0);
    }
}
