//! Subject of a matrix: commit, kernel and binary, and the versions of all components.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use gaia_monitor_tests::command::{OnInterrupt, run};
use gaia_monitor_tests::docker;
use gaia_monitor_tests::host;
use gaia_monitor_tests::image::Image;
use sha2::{Digest, Sha256};

/// The kernel and the build that the runs measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub kernel: String,
    /// Abbreviated; with `-dirty` if the tree differs from it, `unknown` outside a checkout.
    pub commit: String,
    /// The first bytes of the binary's SHA-256: a dirty tree has many binaries.
    pub digest: String,
}

impl Subject {
    /// # Errors
    /// When the binary cannot be read.
    pub fn of(binary: &Path) -> Result<Self> {
        let bytes = std::fs::read(binary).with_context(|| format!("reading {}", binary.display()))?;
        let digest = Sha256::digest(bytes).iter().take(4).fold(String::new(), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let mut git = Command::new("git");
        git.args(["describe", "--always", "--exclude=*", "--dirty", "--abbrev=12"]).current_dir(host::workspace());
        let commit =
            run(&mut git, OnInterrupt::End).map_or("unknown".to_owned(), |output| output.stdout.trim().to_owned());
        Ok(Self { kernel: kernel()?, commit, digest })
    }
}

fn kernel() -> Result<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel's release")?;
    Ok(release.trim().to_owned())
}

/// Name and version of every component of a run.
///
/// # Errors
/// When Docker is unreachable or the image is missing a package.
pub fn versions() -> Result<Vec<(String, String)>> {
    let image = Image::ensure(&mut |step| eprintln!("{step}"))?;
    let code = "import importlib.metadata as m, platform\n\
                print('Python', platform.python_version())\n\
                for name in ('httpx', 'httpcore', 'h11', 'anyio', 'uvicorn', 'httptools', 'uvloop', 'requests', 'urllib3', 'gunicorn'):\n\
                \x20   print(name, m.version(name))";
    let output = docker::docker(["run", "--rm", "--network", "none", image.tag(), "python3", "-c", code])?;
    let inside = output.lines().filter_map(|line| line.split_once(' '));
    let witness = run(Command::new("bpftrace").arg("--version"), OnInterrupt::End)?.stdout;
    let witness = witness.trim().trim_start_matches("bpftrace ").to_owned();
    let own = [("Docker Engine", docker::version()?), ("bpftrace (the witness)", witness)];
    let own = own.into_iter().map(|(name, version)| (name.to_owned(), version));
    Ok(own.chain(inside.map(|(name, version)| (name.to_owned(), version.to_owned()))).collect())
}
