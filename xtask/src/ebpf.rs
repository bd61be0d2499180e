//! `cargo xtask ebpf`: builds the probe object that the binary embeds, and records its inputs.
//!
//! Users never need it: the object is part of the repository. The build needs a Rust with a prebuilt core for BPF, which
//! Debian packages; a Rust of the user's is never replaced, removed or reconfigured.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

#[derive(clap::Args)]
pub struct Args {
    /// Build nothing; fail if the embedded object is not built from the current sources.
    #[arg(long)]
    check: bool,
    /// Build the object into this file, and leave the embedded one unchanged.
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    into: Option<PathBuf>,
}

const CRATE: &str = "gaia-monitor-ebpf";
const TARGET: &str = "bpfel-unknown-none";
const OBJECT: &str = "gaia-monitor/ebpf/gaia-monitor.bpf.o";
const RECORD: &str = "gaia-monitor/ebpf/gaia-monitor.bpf.toml";

/// Debian 12 (security) packages: a compiler with LLVM 22 and a core for BPF, and the libraries that bpf-linker links.
const PACKAGES: [&str; 6] =
    ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf", "llvm-22-dev", "zlib1g-dev", "libzstd-dev"];
/// Packages that own the same files as the first two: a Rust that the user installed.
const OTHER_RUST: [&str; 2] = ["rustc", "cargo"];
const RUSTC: &str = "/usr/bin/rustc";
const CARGO: &str = "/usr/bin/cargo";
const LLVM_BIN: &str = "/usr/lib/llvm-22/bin";
/// The LLVM of the linker must be at least the compiler's.
const LINKER_VERSION: &str = "0.13.0";
const LINKER_FEATURES: &str = "llvm-22";

/// Build settings outside the sources: part of the digest.
const RUSTFLAGS: [&str; 3] = ["-Cdebuginfo=2", "-Clinker=bpf-linker", "-Clink-arg=--btf"];
const PROFILE: [&str; 6] = [
    "profile.release.opt-level=3",
    "profile.release.debug=2",
    "profile.release.codegen-units=1",
    "profile.release.lto=false",
    "profile.release.strip=false",
    "profile.release.overflow-checks=false",
];
const STRIP: &str = "--strip-debug";

/// Contents of the record file next to the object.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// SHA-256 of the probe's sources, the locked versions of its crates, and the build flags.
    inputs: String,
    /// SHA-256 of the object.
    object: String,
    tools: BTreeMap<String, String>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let root = workspace_root()?;
    match args.into {
        Some(file) => build_into(&root, &file),
        None if args.check => check(&root),
        None => rebuild(&root),
    }
}

fn workspace_root() -> anyhow::Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(own.parent().context("xtask is a folder of the workspace")?.to_owned())
}

fn rebuild(root: &Path) -> anyhow::Result<()> {
    install_missing(root)?;
    let bytes = build(root)?;
    let record = Record { inputs: inputs(root)?, object: hex(&bytes), tools: tools(root)? };
    let text = format!("# Inputs of gaia-monitor.bpf.o. Written by `cargo xtask ebpf`.\n{}", toml::to_string(&record)?);
    fs::write(root.join(OBJECT), &bytes).context(OBJECT)?;
    fs::write(root.join(RECORD), text).context(RECORD)?;
    eprintln!("{OBJECT}: {} bytes", bytes.len());
    Ok(())
}

fn build_into(root: &Path, file: &Path) -> anyhow::Result<()> {
    install_missing(root)?;
    let bytes = build(root)?;
    fs::write(file, &bytes).with_context(|| file.display().to_string())?;
    eprintln!("{}: {} bytes", file.display(), bytes.len());
    Ok(())
}

fn check(root: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(root.join(RECORD)).context(RECORD)?;
    let record: Record = toml::from_str(&text).context(RECORD)?;
    let object = fs::read(root.join(OBJECT)).context(OBJECT)?;
    ensure!(
        record.inputs == inputs(root)?,
        "{OBJECT} does not match the probe's sources, crates or flags: run `cargo xtask ebpf` and commit the result"
    );
    ensure!(
        record.object == hex(&object),
        "{OBJECT} is not the object recorded in {RECORD}: run `cargo xtask ebpf` and commit the result"
    );
    let absent = missing(root);
    if !absent.is_empty() {
        eprintln!(
            "{OBJECT} is current by digest; bytes not compared, because these are not installed: {}",
            absent.join(", ")
        );
        return Ok(());
    }
    let installed = tools(root)?;
    if installed != record.tools {
        eprintln!(
            "{OBJECT} is current by digest; bytes not compared, because it was built by {:?} and {installed:?} is installed",
            record.tools
        );
        return Ok(());
    }
    ensure!(
        build(root)? == object,
        "a build with the recorded tools differs from {OBJECT}: run `cargo xtask ebpf` and commit the result"
    );
    eprintln!("{OBJECT} is current: a build with the same tools has the same bytes");
    Ok(())
}

/// Digest of all inputs that can change the object.
fn inputs(root: &Path) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    let mut take = |name: &str, content: &[u8]| {
        // The lengths separate adjacent fields.
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    };
    let home = root.join(CRATE);
    let mut files = BTreeSet::from([home.join("Cargo.toml")]);
    walk(&home.join("src"), &mut files)?;
    for file in &files {
        let name = file.strip_prefix(root)?.to_string_lossy();
        take(&name, &fs::read(file).with_context(|| file.display().to_string())?);
    }
    for entry in locked(root)? {
        take("lock", entry.as_bytes());
    }
    for flag in RUSTFLAGS.iter().chain(&PROFILE).chain([&STRIP, &TARGET]) {
        take("flag", flag.as_bytes());
    }
    Ok(hex_of(&hash.finalize()))
}

fn walk(folder: &Path, files: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else {
            files.insert(path);
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// Name, version and checksum of the probe's crates, from the lock file; crates of user space are excluded.
fn locked(root: &Path) -> anyhow::Result<BTreeSet<String>> {
    let text = fs::read_to_string(root.join("Cargo.lock")).context("Cargo.lock")?;
    let lock: Lock = toml::from_str(&text).context("Cargo.lock")?;
    let mut open = vec!["aya-ebpf".to_owned()];
    let mut seen = BTreeSet::new();
    let mut entries = BTreeSet::new();
    while let Some(wanted) = open.pop() {
        if !seen.insert(wanted.clone()) {
            continue;
        }
        // `name`, or `name version` where several are locked.
        let (name, version) = wanted.split_once(' ').map_or((wanted.as_str(), None), |(n, v)| (n, Some(v)));
        let fits = |package: &&Package| package.name == name && version.is_none_or(|v| package.version == v);
        let package = lock.package.iter().find(fits).with_context(|| format!("Cargo.lock has no {wanted}"))?;
        let checksum = package.checksum.as_deref().unwrap_or_default();
        entries.insert(format!("{} {} {checksum}", package.name, package.version));
        open.extend(package.dependencies.iter().cloned());
    }
    Ok(entries)
}

/// Builds and strips the object; the bytes do not depend on the folder.
fn build(root: &Path) -> anyhow::Result<Vec<u8>> {
    let target_dir = root.join("target/ebpf/build");
    let cargo_home = cargo_home()?;
    let cargo = |verb: &str| {
        let mut command = Command::new(CARGO);
        command.current_dir(root).env("RUSTC", RUSTC).env("PATH", search_path(root)).arg(verb).arg("--locked");
        // RUSTC_BOOTSTRAP allows aya-ebpf's inline assembly. The caller's toolchain must not affect the build.
        command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_HOME", &cargo_home);
        for leak in ["RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTUP_TOOLCHAIN"]
        {
            command.env_remove(leak);
        }
        command
    };
    must(cargo("fetch").arg("--quiet"))?;

    let mut flags: Vec<String> = RUSTFLAGS.map(str::to_owned).to_vec();
    flags.push(format!("--remap-path-prefix={}=/gaia-monitor", root.display()));
    // Line information contains the paths of the crates, which depend on CARGO_HOME and on the registry mirror.
    let registry = cargo_home.join("registry/src");
    for entry in fs::read_dir(&registry).with_context(|| registry.display().to_string())? {
        flags.push(format!("--remap-path-prefix={}=/crates", entry?.path().display()));
    }
    let mut command = cargo("build");
    command.args(["--quiet", "--release", "--target", TARGET, "--package", CRATE, "--bin", CRATE, "--target-dir"]);
    command.arg(&target_dir).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    for setting in PROFILE {
        command.args(["--config", setting]);
    }
    must(&mut command)?;

    let built = target_dir.join(TARGET).join("release").join(CRATE);
    let stripped = target_dir.join("gaia-monitor.bpf.o");
    must(Command::new(objcopy()).arg(STRIP).arg(&built).arg(&stripped))?;
    fs::read(&stripped).with_context(|| stripped.display().to_string())
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    Ok(PathBuf::from(env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo"))
}

fn linker(root: &Path) -> PathBuf {
    // Inside target/, so that a bpf-linker that the user installed for another LLVM is not replaced.
    root.join("target/ebpf/tools/bin/bpf-linker")
}

fn objcopy() -> PathBuf {
    Path::new(LLVM_BIN).join("llvm-objcopy")
}

fn search_path(root: &Path) -> OsString {
    let own = [linker(root).parent().map(Path::to_owned).unwrap_or_default(), LLVM_BIN.into(), "/usr/bin".into()];
    let inherited = env::var_os("PATH").unwrap_or_default();
    // Only a path that contains a colon cannot be joined; fall back to the inherited value.
    env::join_paths(own.into_iter().chain(env::split_paths(&inherited))).unwrap_or(inherited)
}

fn tools(root: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let version = |program: &Path| -> anyhow::Result<String> {
        let output = Command::new(program).arg("--version").output().with_context(|| program.display().to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.contains(|c: char| c.is_ascii_digit())).unwrap_or_default();
        Ok(line.trim().to_owned())
    };
    Ok(BTreeMap::from([
        ("rustc".to_owned(), version(Path::new(RUSTC))?),
        ("bpf-linker".to_owned(), version(&linker(root))?),
        ("llvm-objcopy".to_owned(), version(&objcopy())?),
    ]))
}

/// Names of the requirements that are not installed.
fn missing(root: &Path) -> Vec<&'static str> {
    let mut absent: Vec<&str> = PACKAGES.into_iter().filter(|package| !is_installed(package)).collect();
    if !linker(root).exists() {
        absent.push("bpf-linker");
    }
    absent
}

fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]).output();
    query.is_ok_and(|output| output.stdout == b"installed")
}

fn install_missing(root: &Path) -> anyhow::Result<()> {
    let absent = missing(root);
    let packages: Vec<&str> = absent.iter().copied().filter(|name| PACKAGES.contains(name)).collect();
    if !packages.is_empty() {
        let all = packages.join(" ");
        if let Some(own) = OTHER_RUST.into_iter().find(|package| is_installed(package)) {
            bail!(
                "the installed package {own} conflicts with {all} and is not replaced: use another machine or a container"
            );
        }
        ensure!(is_root()?, "missing: {all} (Debian packages); run `cargo xtask ebpf` as root once, or install them");
        must(Command::new("apt-get").args(["update", "-qq"]))?;
        let mut install = Command::new("apt-get");
        install.env("DEBIAN_FRONTEND", "noninteractive");
        // --no-remove: fail rather than remove a package.
        install.args(["install", "-qq", "--yes", "--no-remove", "--no-install-recommends"]).args(&packages);
        must(&mut install)?;
    }
    if absent.contains(&"bpf-linker") {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| CARGO.into());
        let mut install = Command::new(cargo);
        install.args(["install", "bpf-linker", "--locked", "--quiet", "--version"]).arg(format!("={LINKER_VERSION}"));
        install.args(["--no-default-features", "--features", LINKER_FEATURES, "--root"]);
        install.arg(root.join("target/ebpf/tools")).current_dir(root);
        let inherited = env::var_os("PATH").unwrap_or_default();
        let llvm_first = env::join_paths([PathBuf::from(LLVM_BIN)].into_iter().chain(env::split_paths(&inherited)))?;
        must(install.env("PATH", llvm_first))?;
    }
    Ok(())
}

fn is_root() -> anyhow::Result<bool> {
    let output = Command::new("id").arg("-u").output().context("id -u")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

fn must(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} exited with {status}");
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    hex_of(&Sha256::digest(bytes))
}

fn hex_of(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
