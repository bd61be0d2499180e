//! Stored recordings of live cases: `recordings/GROUP/NAME.jsonl.zst`, each with the lines that its replay prints
//! (`NAME.expected.jsonl`). A group is a folder of `scenarios`; `live_cases.map` assigns the recording of
//! a live case to one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const RECORDING: &str = ".jsonl.zst";
const EXPECTED: &str = ".expected.jsonl";
/// Recordings are written once and read often.
const LEVEL: i32 = 19;

/// Where they are.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings")
}

/// The recording `GROUP/NAME`.
#[must_use]
pub fn recording(name: &str) -> PathBuf {
    folder().join(format!("{name}{RECORDING}"))
}

/// The expectation of `GROUP/NAME`.
#[must_use]
pub fn expectation(name: &str) -> PathBuf {
    folder().join(format!("{name}{EXPECTED}"))
}

/// Names `GROUP/NAME` of all recordings, and of all expectations, in order.
///
/// # Errors
/// When a folder cannot be read.
pub fn names() -> Result<(Vec<String>, Vec<String>)> {
    let (mut recordings, mut expectations) = (Vec::new(), Vec::new());
    let mut open = vec![folder()];
    while let Some(place) = open.pop() {
        for entry in fs::read_dir(&place).with_context(|| format!("cannot read {}", place.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(folder())?.display().to_string();
            if let Some(name) = name.strip_suffix(RECORDING) {
                recordings.push(name.to_owned());
            } else if let Some(name) = name.strip_suffix(EXPECTED) {
                expectations.push(name.to_owned());
            }
        }
    }
    recordings.sort();
    expectations.sort();
    Ok((recordings, expectations))
}

/// The scenarios of each live case: `CASE GROUP/SCENARIO.txt …` a line. A case may have several lines.
///
/// # Errors
/// When the map cannot be read.
pub fn map() -> Result<BTreeMap<String, Vec<String>>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/live_cases.map");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split(' ').map(str::to_owned);
        let live_case = words.next().with_context(|| format!("{line}: no live case"))?;
        map.entry(live_case).or_default().extend(words);
    }
    Ok(map)
}

/// The name `GROUP/NAME` of a live case's recording: in the group of its first scenario.
///
/// # Errors
/// When the map does not name the live case.
pub fn name_of(live_case: &str) -> Result<String> {
    let map = map()?;
    let group = map.get(live_case).and_then(|scenarios| scenarios.first()).and_then(|path| path.split('/').next());
    let group = group.with_context(|| format!("scenarios/live_cases.map names no scenario of {live_case}"))?;
    Ok(format!("{group}/{live_case}"))
}

/// Where the recording of a live case belongs in `folder`.
///
/// # Errors
/// When the map does not name the live case.
pub fn place(folder: &Path, live_case: &str) -> Result<PathBuf> {
    Ok(folder.join(format!("{}{RECORDING}", name_of(live_case)?)))
}

/// Stores a plain recording in compressed form.
///
/// # Errors
/// When one of the files cannot be read or written.
pub fn store(from: &Path, to: &Path) -> Result<()> {
    let text = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if let Some(place) = to.parent() {
        fs::create_dir_all(place).with_context(|| format!("cannot create {}", place.display()))?;
    }
    let frame = zstd::bulk::compress(&text, LEVEL).context("cannot compress a recording")?;
    fs::write(to, frame).with_context(|| format!("cannot write {}", to.display()))
}

/// The lines of a stored recording.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn text(path: &Path) -> Result<String> {
    let file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let bytes = zstd::decode_all(file).with_context(|| format!("cannot decompress {}", path.display()))?;
    String::from_utf8(bytes).with_context(|| format!("{} is not text", path.display()))
}
