//! The repository's text files as the rules see them, read and scanned once. Build output and recordings are left out.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::scan::{self, Kind, Prose, Scanned};

/// Product sources, to which the rules on structure apply.
pub const PRODUCT: &str = "gaia-monitor/src/";
/// Files that the program ships.
const ASSETS: &str = "gaia-monitor/assets/";

/// One text file.
#[derive(Debug)]
pub struct File {
    /// Relative to the repository.
    pub path: String,
    pub text: String,
    /// Rust and Python only: without comments, and with empty literals.
    pub code: String,
    pub prose: Vec<Prose>,
}

impl File {
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        let Scanned { code, prose, .. } = match extension(path) {
            "rs" => scan::rust(text),
            "py" => scan::python(text),
            "md" => Scanned::whole(Kind::Page, text),
            _ if path.starts_with(ASSETS) => Scanned::whole(Kind::Asset, text),
            _ => scan::hash_comments(text),
        };
        Self { path: path.to_owned(), text: text.to_owned(), code, prose }
    }

    #[must_use]
    pub fn is_rust(&self) -> bool {
        extension(&self.path) == "rs"
    }

    #[must_use]
    pub fn is_page(&self) -> bool {
        extension(&self.path) == "md"
    }

    #[must_use]
    pub fn is_source(&self) -> bool {
        self.is_rust() || extension(&self.path) == "py"
    }

    /// A file of nothing but unit tests.
    #[must_use]
    pub fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs")
            || self.path.ends_with("_tests.rs")
            || self.path.ends_with("test_fixtures.rs")
            || self.path.contains("/tests/")
    }

    /// A product source that is no test.
    #[must_use]
    pub fn is_product(&self) -> bool {
        self.is_rust() && self.path.starts_with(PRODUCT) && !self.is_test()
    }

    /// The code before an inline module of tests, which ends a file.
    #[must_use]
    pub fn product_code(&self) -> &str {
        let inline = self.code.match_indices("#[cfg(test)]").find(|(at, marker)| {
            let rest = self.code.get(at + marker.len()..).unwrap_or_default().trim_start();
            let rest = rest.trim_start_matches("pub ").trim_start_matches("mod ");
            rest.split_once('{').is_some_and(|(name, _)| name.trim().chars().all(|c| c == '_' || c.is_alphanumeric()))
        });
        inline.and_then(|(at, _)| self.code.get(..at)).unwrap_or(&self.code)
    }

    /// The last part of the path.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

fn extension(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

/// All files, ordered by path.
#[derive(Debug, Default)]
pub struct Tree {
    pub files: Vec<File>,
}

impl Tree {
    /// Reads the repository.
    ///
    /// # Errors
    /// When a folder or a file cannot be read.
    pub fn read(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut open = vec![root.to_owned()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
                let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
                let shown = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                if path.is_symlink() || shown == ".git" || path.file_name().is_some_and(|name| name == "target") {
                    continue;
                }
                if path.is_dir() {
                    open.push(path);
                } else if is_read(&shown) {
                    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {shown}"))?;
                    files.push(File::new(&shown, &text));
                }
            }
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(Self { files })
    }

    #[must_use]
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Product sources without tests.
    pub fn product(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_product())
    }

    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| File::new(path, text)).collect() }
    }
}

fn is_read(path: &str) -> bool {
    path.starts_with(ASSETS)
        || path.starts_with(".ci/")
        || matches!(extension(path), "rs" | "py" | "md" | "toml" | "yml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_an_inline_test_module_out_of_the_product_code() {
        let file = File::new("gaia-monitor/src/x.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n");
        assert_eq!(file.product_code(), "fn a() {}\n");
    }

    #[test]
    fn keeps_code_that_follows_a_declared_test_module() {
        let file = File::new("gaia-monitor/src/x.rs", "#[cfg(test)]\nmod tests;\nfn a() {}\n");
        assert!(file.product_code().contains("fn a()"));
    }

    #[test]
    fn sorts_files_into_product_test_and_page() {
        let is_product = |path| File::new(path, "").is_product();
        assert!(is_product("gaia-monitor/src/engine/mod.rs"));
        assert!(!is_product("gaia-monitor/src/engine/tests.rs"));
        assert!(!is_product("gaia-monitor/src/sources/netstat_tests.rs"));
        assert!(!is_product("xtask/src/main.rs"));
        assert!(File::new("README.md", "").is_page());
    }
}
