//! Rules on names that are used twice: public types of the product, files of the engine.

use std::collections::BTreeMap;

use super::tree::{PRODUCT, Tree};
use super::{Measure, Rule};

/// A few names are the best one in two places, such as `Row` or `Error`.
const TYPES_BAR: f64 = 5.0;

pub const RULES: [Rule; 2] = [
    Rule { name: "names: public types defined twice", ceiling: TYPES_BAR, bar: TYPES_BAR, measure: types },
    Rule { name: "names: files of one name in the engine", ceiling: 0.0, bar: 0.0, measure: files },
];

const KEYWORDS: [&str; 5] = ["struct", "enum", "trait", "type", "union"];

fn types(tree: &Tree) -> Measure {
    let mut defined: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in tree.product() {
        let path = file.path.strip_prefix(PRODUCT).unwrap_or(&file.path);
        for name in file.product_code().lines().filter_map(public_type) {
            defined.entry(name).or_default().push(path);
        }
    }
    twice(defined)
}

/// The name of a type that is visible outside its module.
fn public_type(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = if rest.starts_with('(') { rest.split_once(')')?.1 } else { rest };
    let (keyword, rest) = rest.strip_prefix(' ')?.split_once(' ')?;
    let name = rest.split(|c: char| c != '_' && !c.is_alphanumeric()).next()?;
    KEYWORDS.contains(&keyword).then_some(name)
}

fn files(tree: &Tree) -> Measure {
    let engine = format!("{PRODUCT}engine/");
    let mut named: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in tree.product().filter(|file| file.path.starts_with(&engine) && file.name() != "mod.rs") {
        named.entry(file.name()).or_default().push(file.path.strip_prefix(PRODUCT).unwrap_or(&file.path));
    }
    twice(named)
}

fn twice(places: BTreeMap<&str, Vec<&str>>) -> Measure {
    let twice = places.into_iter().filter(|(_, places)| places.len() > 1);
    Measure::of(twice.map(|(name, places)| format!("{name}: {}", places.join(", "))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_a_public_type_that_is_defined_twice() {
        let tree = Tree::of(&[
            ("gaia-monitor/src/a.rs", "pub struct Exit;\nstruct Own;\npub fn f() {}\n"),
            ("gaia-monitor/src/b/mod.rs", "    pub(super) enum Exit {}\nstruct Own;\npub type Other = u8;\n"),
            ("gaia-monitor/src/b/tests.rs", "pub struct Other;\n"),
            ("tests/src/lib.rs", "pub struct Other;\n"),
        ]);
        assert_eq!(types(&tree).places, ["Exit: a.rs, b/mod.rs"]);
    }

    #[test]
    fn counts_files_of_one_name_in_the_engine_only() {
        let paths = ["engine/a/x.rs", "engine/b/x.rs", "engine/a/mod.rs", "engine/mod.rs", "engine/a/tests.rs"];
        let others = ["engine/tests.rs", "sources/y.rs", "engine/y.rs"];
        let all: Vec<String> = paths.iter().chain(&others).map(|path| format!("{PRODUCT}{path}")).collect();
        let files: Vec<(&str, &str)> = all.iter().map(|path| (path.as_str(), "")).collect();
        assert_eq!(super::files(&Tree::of(&files)).places, ["x.rs: engine/a/x.rs, engine/b/x.rs"]);
    }
}
