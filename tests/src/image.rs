//! The one image of the demo and the live suites, made on this host and never pulled: a Debian with Python 3.11 and
//! the wheels of `image/requirements.txt`.
//!
//! Root file system by mmdebstrap from the mirror that this host's apt already uses, wheels by pip on the host (inside
//! a container the host's package settings and certificates would be missing), both in one `docker import`. A tag that
//! carries the recipe's digest makes a second run instant and an old recipe visible.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::command::{OnInterrupt, run};
use crate::docker;
use crate::host::{self, Need};

/// Label on every image that the harness makes; its value is the recipe's digest.
pub const IMAGE_LABEL: &str = "gaia-monitor.image";

const REPOSITORY: &str = "gaia-monitor-stack";
/// The newest Debian whose Python the wheels of `requirements.txt` are for.
const SUITE: &str = "bookworm";
const PYTHON: &str = "3.11";
const PACKAGES: &str = "python3,ca-certificates";
/// Debian's own folder for what its Python imports besides Debian's packages.
const SITE: &str = "/usr/local/lib/python3.11/dist-packages";
/// Raise it when the steps below change what the image holds.
const RECIPE: u32 = 1;
const REQUIREMENTS: &str = include_str!("../image/requirements.txt");

/// Used where this host is no Debian.
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian/";

/// An image that exists on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    tag: String,
}

impl Image {
    /// The image, made now if this host does not have it.
    ///
    /// # Errors
    /// When a tool is missing and may not be installed, a download fails, or Docker refuses.
    pub fn ensure(progress: &mut dyn FnMut(&str)) -> Result<Self> {
        let digest = digest();
        let image = Self { tag: format!("{REPOSITORY}:{digest}") };
        if image.exists()? {
            return Ok(image);
        }
        let folder = host::target_dir().join("stack-image");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let _one_at_a_time = lock(&folder.join("lock"))?;
        if image.exists()? {
            return Ok(image);
        }
        host::ensure(&[Need::Mmdebstrap, Need::DebianKeyring, Need::Pip], progress)?;
        let built = image.build(&folder, &digest, progress);
        // Half a gigabyte that is no longer needed, whether it worked or not.
        let _ = fs::remove_dir_all(folder.join("site"));
        let _ = fs::remove_file(folder.join("root.tar"));
        built.context("cannot make the container image")?;
        Ok(image)
    }

    /// Its name for `docker run`.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Removes every image that the harness ever made on this host; returns how many.
    ///
    /// # Errors
    /// When Docker refuses, for instance because a container still uses one.
    pub fn clean() -> Result<usize> {
        let listed = docker::docker(["images", "--quiet", "--filter", &format!("label={IMAGE_LABEL}")])?;
        let ids: Vec<&str> = listed.split_whitespace().collect();
        if !ids.is_empty() {
            docker::docker(["rmi", "--force"].iter().chain(&ids))?;
        }
        Ok(ids.len())
    }

    fn exists(&self) -> Result<bool> {
        Ok(!docker::docker(["images", "--quiet", &self.tag])?.trim().is_empty())
    }

    fn build(&self, folder: &Path, digest: &str, progress: &mut dyn FnMut(&str)) -> Result<()> {
        let site = folder.join("site");
        let root = folder.join("root.tar");
        progress("fetching Python wheels (httpx, uvicorn, fastapi, requests, gunicorn)");
        fetch_wheels(folder, &site)?;
        progress("building a Debian root file system with mmdebstrap");
        debootstrap(&site, &root)?;
        progress("importing it into Docker");
        let root = root.to_string_lossy();
        let label = format!("LABEL {IMAGE_LABEL}={digest}");
        let env = "ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8";
        docker::docker(["import", "--change", &label, "--change", env, &root, &self.tag])?;
        Ok(())
    }
}

fn digest() -> String {
    let recipe = format!("{RECIPE}\n{SUITE}\n{PACKAGES}\n{}\n{REQUIREMENTS}", std::env::consts::ARCH);
    Sha256::digest(recipe.as_bytes()).iter().take(6).fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Installs the wheels into `site`, for the image's Python whatever the host's is.
fn fetch_wheels(folder: &Path, site: &Path) -> Result<()> {
    if site.exists() {
        fs::remove_dir_all(site).with_context(|| format!("cannot remove {}", site.display()))?;
    }
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS).with_context(|| format!("cannot write {}", requirements.display()))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps"])
        .args(["--require-hashes", "--only-binary=:all:", "--implementation=cp", "--python-version", PYTHON])
        .args(["--abi=cp311", "--abi=abi3", "--abi=none"]);
    for platform in ["manylinux2014", "manylinux_2_17", "manylinux_2_28"] {
        pip.arg(format!("--platform={platform}_{}", std::env::consts::ARCH));
    }
    pip.arg("--target").arg(site).arg("--requirement").arg(&requirements);
    run(&mut pip, OnInterrupt::End)?;
    // Console scripts name the host's interpreter; `python3 -m` is the way inside.
    let scripts = site.join("bin");
    if scripts.exists() {
        fs::remove_dir_all(&scripts).with_context(|| format!("cannot remove {}", scripts.display()))?;
    }
    Ok(())
}

fn debootstrap(site: &Path, root: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--quiet", "--variant=apt", "--include", PACKAGES])
        .args(["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"])
        .args(["--dpkgopt=path-exclude=/usr/share/locale/*"])
        .arg(format!("--customize-hook=sync-in {} {SITE}", quoted(site)))
        // The host's users are not the image's, and compiled files make every start of a service half a second shorter.
        .arg(format!("--customize-hook=chroot \"$1\" chown -R root:root {SITE}"))
        .arg(format!("--customize-hook=chroot \"$1\" python3 -m compileall -q {SITE} /usr/lib/python{PYTHON}"));
    if let Some(proxy) = apt_proxy() {
        command.arg(format!("--aptopt=Acquire::http::Proxy {proxy:?};"));
    }
    command.arg(SUITE).arg(root);
    for line in source_lines(&apt_targets()) {
        command.arg(line);
    }
    run(&mut command, OnInterrupt::End)?;
    Ok(())
}

/// For the shell that runs mmdebstrap's hooks.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

/// One line for each source of this host's apt: label, component, uri.
fn apt_targets() -> String {
    let format = "$(LABEL)|$(COMPONENT)|$(REPO_URI)";
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", format, "Created-By: Packages"]);
    // A host without apt uses the default mirror.
    run(&mut command, OnInterrupt::End).map(|printed| printed.stdout).unwrap_or_default()
}

/// The sources of the image: this host's mirrors of Debian, whatever suite the host itself follows.
fn source_lines(targets: &str) -> Vec<String> {
    let mirror = |label: &str| {
        targets.lines().find_map(|line| {
            let mut fields = line.splitn(3, '|');
            let (here, component, uri) = (fields.next()?, fields.next()?, fields.next()?);
            (here == label && component == "main" && uri.starts_with("http")).then_some(uri)
        })
    };
    let mut lines = vec![format!("deb {} {SUITE} main", mirror("Debian").unwrap_or(DEFAULT_MIRROR))];
    if let Some(security) = mirror("Debian-Security") {
        lines.push(format!("deb {security} {SUITE}-security main"));
    }
    lines
}

fn apt_proxy() -> Option<String> {
    let printed =
        run(Command::new("apt-config").args(["dump", "--format", "%v", "Acquire::http::Proxy"]), OnInterrupt::End);
    printed.ok().map(|printed| printed.stdout.trim().to_owned()).filter(|proxy| !proxy.is_empty())
}

/// Checks that the pinned wheels are pinned by hash, so that the image never depends on what an index serves today.
///
/// # Errors
/// With the first requirement that has no hash.
pub fn check_requirements() -> Result<()> {
    let joined = REQUIREMENTS.replace("\\\n", " ");
    for line in joined.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if !line.contains("==") || !line.contains("--hash=sha256:") {
            bail!("requirement without version or hash: {line}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_pinned_by_hash() {
        check_requirements().unwrap();
    }

    #[test]
    fn uses_the_hosts_mirror_for_any_suite_of_the_host() {
        let targets = "Google|main|https://packages.example/apt/\nDebian|contrib|http://m/debian/\n\
                       Debian|main|http://m/debian/\nDebian-Security|main|http://m/security/\n";
        assert_eq!(
            source_lines(targets),
            ["deb http://m/debian/ bookworm main", "deb http://m/security/ bookworm-security main"]
        );
    }

    #[test]
    fn uses_the_default_mirror_when_the_host_is_not_debian() {
        assert_eq!(source_lines("Ubuntu|main|http://u/\n"), ["deb http://deb.debian.org/debian/ bookworm main"]);
    }
}
