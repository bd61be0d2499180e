//! Rules on single files: length, header, lint attributes.

use super::tree::{File, Tree};
use super::{Measure, Rule};

/// A longer source file is to be split.
const LONGEST: usize = 500;

pub const RULES: [Rule; 3] = [
    Rule { name: "files: at most 500 lines in a source file", ceiling: 0.0, bar: 0.0, measure: too_long },
    Rule { name: "files: a source file begins with a header", ceiling: 0.0, bar: 0.0, measure: without_header },
    Rule { name: "files: lints are expected with a reason, never allowed", ceiling: 0.0, bar: 0.0, measure: allowed },
];

fn too_long(tree: &Tree) -> Measure {
    let sources = tree.files.iter().filter(|file| file.is_source());
    let long = sources.map(|file| (file, file.text.lines().count())).filter(|(_, lines)| *lines > LONGEST);
    Measure::of(long.map(|(file, lines)| format!("{}: {lines} lines", file.path)).collect())
}

fn without_header(tree: &Tree) -> Measure {
    let bare = tree.files.iter().filter(|file| file.is_source() && !has_header(file));
    Measure::of(bare.map(|file| file.path.clone()).collect())
}

fn has_header(file: &File) -> bool {
    let text =
        if file.text.starts_with("#!/") { file.text.split_once('\n').map_or("", |(_, rest)| rest) } else { &file.text };
    if file.is_rust() { text.starts_with("//!") } else { text.starts_with("\"\"\"") || text.starts_with("# ") }
}

fn allowed(tree: &Tree) -> Measure {
    let mut places = Vec::new();
    for file in tree.files.iter().filter(|file| file.is_rust()) {
        for (index, line) in file.code.lines().map(str::trim_start).enumerate() {
            if (line.starts_with("#[") || line.starts_with("#![")) && line.contains("allow(") {
                places.push(format!("{}:{}: {line}", file.path, index + 1));
            }
        }
    }
    Measure::of(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(measure: fn(&Tree) -> Measure, text: &str) -> Vec<String> {
        measure(&Tree::of(&[("x.rs", text)])).places
    }

    #[test]
    fn counts_a_bare_allow_but_no_expect_and_no_comment() {
        let bare = "fn f() {}\n    #[allow(dead_code)]\n";
        assert_eq!(places(allowed, bare), ["x.rs:2: #[allow(dead_code)]"]);
        assert_eq!(places(allowed, "#[expect(dead_code, reason = \"x\")]\n// #[allow(x)]\n").len(), 0);
    }

    #[test]
    fn counts_a_file_without_a_header() {
        assert_eq!(places(without_header, "use std;\n"), ["x.rs"]);
        assert_eq!(places(without_header, "//! Head.\n").len(), 0);
        let python = Tree::of(&[("a.py", "#!/usr/bin/python3\n\"\"\"Head.\"\"\"\n"), ("b.py", "import os\n")]);
        assert_eq!(without_header(&python).places, ["b.py"]);
    }

    #[test]
    fn counts_a_file_above_the_longest() {
        assert_eq!(places(too_long, &"x\n".repeat(LONGEST + 1)), ["x.rs: 501 lines"]);
        assert_eq!(places(too_long, &"x\n".repeat(LONGEST)).len(), 0);
    }
}
