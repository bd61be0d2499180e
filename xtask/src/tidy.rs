//! `cargo xtask tidy`: house rules that no compiler checks, each one a test as well, so that `cargo test` enforces them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use gaia_monitor_tests::host;

/// A source file longer than this wants to be two.
const LONGEST: usize = 500;

/// A rule: its name, and the complaints about one file.
struct Rule {
    name: &'static str,
    applies: fn(&Path) -> bool,
    complaints: fn(&Path, &str) -> Vec<String>,
}

const RULES: [Rule; 4] = [
    Rule { name: "a source file has at most 500 lines", applies: is_source, complaints: too_long },
    Rule { name: "a Rust file opens with what it is", applies: is_rust, complaints: no_header },
    Rule { name: "lints are expected with a reason, never allowed", applies: is_rust, complaints: allows },
    Rule { name: "links in documents lead somewhere", applies: is_document, complaints: dead_links },
];

/// Checks every rule on every file.
///
/// # Errors
/// With all complaints.
pub fn run() -> Result<()> {
    let root = host::workspace();
    let mut complaints = Vec::new();
    let files = files(&root)?;
    for rule in &RULES {
        let found = check(rule, &root, &files)?;
        eprintln!("{} {}", if found.is_empty() { "ok    " } else { "FAILED" }, rule.name);
        complaints.extend(found);
    }
    ensure!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    Ok(())
}

fn check(rule: &Rule, root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| (rule.applies)(file)) {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let shown = file.strip_prefix(root).unwrap_or(file).display().to_string();
        complaints.extend((rule.complaints)(file, &text).into_iter().map(|complaint| format!("{shown}: {complaint}")));
    }
    Ok(complaints)
}

/// Every file of the repository; not what builds leave behind.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_symlink() || name == "target" || name == ".git" {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn has_ending(file: &Path, ending: &str) -> bool {
    file.extension().is_some_and(|end| end == ending)
}

fn is_rust(file: &Path) -> bool {
    has_ending(file, "rs")
}

fn is_source(file: &Path) -> bool {
    is_rust(file) || has_ending(file, "py")
}

fn is_document(file: &Path) -> bool {
    has_ending(file, "md")
}

fn too_long(_: &Path, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines > LONGEST { vec![format!("{lines} lines")] } else { Vec::new() }
}

fn no_header(_: &Path, text: &str) -> Vec<String> {
    if text.starts_with("//!") { Vec::new() } else { vec!["does not begin with `//!`".to_owned()] }
}

fn allows(_: &Path, text: &str) -> Vec<String> {
    let is_allow = |line: &&str| line.starts_with("#[") || line.starts_with("#![");
    let lines = text.lines().map(str::trim_start).enumerate();
    lines
        .filter(|(_, line)| is_allow(line) && line.contains("allow("))
        .map(|(index, line)| format!("line {}: {line}", index + 1))
        .collect()
}

/// Relative links of Markdown; addresses elsewhere and anchors within the page are not followed.
fn dead_links(file: &Path, text: &str) -> Vec<String> {
    let folder = file.parent().unwrap_or(file);
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    targets
        .filter(|target| !target.contains("://") && !target.starts_with('#') && !target.starts_with("mailto:"))
        .map(|target| target.split('#').next().unwrap_or(target))
        .filter(|target| !folder.join(target).exists())
        .map(|target| format!("dead link {target}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_holds_in_this_repository() {
        let root = host::workspace();
        let files = files(&root).unwrap();
        assert!(files.iter().any(|file| is_rust(file)), "no source found below {}", root.display());
        let complaints: Vec<String> = RULES.iter().flat_map(|rule| check(rule, &root, &files).unwrap()).collect();
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }

    #[test]
    fn a_bare_allow_is_seen_and_an_expect_is_not() {
        let here = Path::new("x.rs");
        let bare = format!("fn f() {{}}\n    #[{}(dead_code)]\n", "allow");
        assert_eq!(allows(here, &bare), [format!("line 2: #[{}(dead_code)]", "allow")]);
        assert_eq!(allows(here, "#[expect(dead_code, reason = \"x\")]\n").len(), 0);
    }

    #[test]
    fn a_dead_link_is_seen_and_one_to_elsewhere_is_not() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("page.md");
        assert_eq!(
            dead_links(&page, "[a](nowhere.md#part) [b](https://x.example/y) [c](Cargo.toml) [d](#here)"),
            ["dead link nowhere.md"]
        );
    }

    #[test]
    fn a_file_without_a_header_and_a_long_one_are_seen() {
        let here = Path::new("x.rs");
        assert_eq!(no_header(here, "use std;\n").len(), 1);
        assert_eq!(too_long(here, &"x\n".repeat(LONGEST + 1)).len(), 1);
        assert_eq!(too_long(here, &"x\n".repeat(LONGEST)).len(), 0);
    }
}
