//! What the host needs besides Docker, and how it is installed: packages, as root or after a question at a terminal; or
//! unpacked into the target folder, where an installed one would start a service.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{OnInterrupt, run};

/// Something that the host must have, and the Debian package that brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Builds the image's root file system.
    Mmdebstrap,
    /// Debian's archive keys; mmdebstrap verifies with them.
    DebianKeyring,
    /// Fetches the image's wheels.
    Pip,
    /// The independent witness of the live suite.
    Bpftrace,
    /// Lists what is loaded in the kernel.
    Bpftool,
    /// Packet filters in the live suite.
    Nft,
    /// Judges the unit that is shipped.
    SystemdAnalyze,
    /// Reads the Compose file that is shipped.
    DockerCompose,
    /// Network interfaces in the live suite.
    Iproute,
    /// Judges and tries the alert rules that are shipped. Installed it would serve on this host from then on.
    Prometheus,
}

impl Need {
    /// The Debian package.
    #[must_use]
    pub const fn package(self) -> &'static str {
        match self {
            Self::Mmdebstrap => "mmdebstrap",
            Self::DebianKeyring => "debian-archive-keyring",
            Self::Pip => "python3-pip",
            Self::Bpftrace => "bpftrace",
            Self::Bpftool => "bpftool",
            Self::Nft => "nftables",
            Self::SystemdAnalyze => "systemd",
            Self::DockerCompose => "docker-compose",
            Self::Iproute => "iproute2",
            Self::Prometheus => "prometheus",
        }
    }

    /// Is its package only unpacked?
    const fn is_unpacked(self) -> bool {
        matches!(self, Self::Prometheus)
    }

    /// Is it there?
    #[must_use]
    pub fn is_met(self) -> bool {
        match self {
            Self::Mmdebstrap | Self::Bpftrace | Self::Bpftool | Self::DockerCompose => {
                in_path(self.package()).is_some()
            }
            Self::SystemdAnalyze => in_path("systemd-analyze").is_some(),
            Self::Nft => in_path("nft").is_some(),
            Self::Iproute => in_path("ip").is_some(),
            Self::Prometheus => ["prometheus", "promtool"].iter().all(|name| self.program(name).is_some()),
            Self::DebianKeyring => Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists(),
            Self::Pip => run(Command::new("python3").args(["-m", "pip", "--version"]), OnInterrupt::End).is_ok(),
        }
    }

    /// One of its programs, as the host has it or from the unpacked package.
    #[must_use]
    pub fn program(self, name: &str) -> Option<PathBuf> {
        in_path(name).or_else(|| Some(unpacked(self.package()).join("usr/bin").join(name)).filter(|file| file.exists()))
    }
}

/// Ensures that all of `needs` are met: installs as root without a terminal, asks once at a terminal. What is only
/// unpacked needs no leave.
///
/// # Errors
/// One line that names the packages, when they may not or cannot be installed.
pub fn ensure(needs: &[Need], progress: &mut dyn FnMut(&str)) -> Result<()> {
    let missing: Vec<Need> = needs.iter().filter(|need| !need.is_met()).copied().collect();
    let (to_unpack, to_install): (Vec<Need>, Vec<Need>) = missing.into_iter().partition(|need| need.is_unpacked());
    install(&to_install.iter().map(|need| need.package()).collect::<Vec<_>>(), progress)?;
    to_unpack.iter().try_for_each(|need| unpack(need.package(), progress))
}

fn install(missing: &[&str], progress: &mut dyn FnMut(&str)) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    let advice = format!("missing on this host: {packages} (install: sudo apt-get install {packages})");
    let root = nix::unistd::geteuid().is_root();
    if in_path("apt-get").is_none() {
        bail!("{advice}");
    }
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        if !agreed(&packages)? {
            bail!("{advice}");
        }
    } else if !root {
        bail!("{advice}");
    }
    progress(&format!("installing {packages}"));
    // The lists may be old or absent on a fresh machine. One broken third-party source must not stop the rest, so
    // only the installation itself decides.
    let updated = run(&mut apt(root, &["update"]), OnInterrupt::End);
    let install = ["install", "--yes", "--no-install-recommends"];
    let args: Vec<&str> = install.iter().chain(missing).copied().collect();
    match (run(&mut apt(root, &args), OnInterrupt::End), updated) {
        (Ok(_), _) => Ok(()),
        (Err(error), Ok(_)) => Err(error).context(advice),
        (Err(error), Err(update)) => Err(error.context(format!("{update:#}"))).context(advice),
    }
}

fn unpacked(package: &str) -> PathBuf {
    target_dir().join("unpacked").join(package)
}

/// A package's files without what its installation does: nothing is started, nothing stays on the host.
fn unpack(package: &str, progress: &mut dyn FnMut(&str)) -> Result<()> {
    progress(&format!("unpacking {package}"));
    let advice = || format!("missing on this host: {package} (install: sudo apt-get install {package})");
    let place = unpacked(package);
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
    let download = || run(Command::new("apt-get").args(["download", package]).current_dir(&place), OnInterrupt::End);
    if let Err(first) = download() {
        // The lists are old or absent, most likely.
        let update = run(&mut apt(nix::unistd::geteuid().is_root(), &["update"]), OnInterrupt::End);
        update.and_then(|_| download()).context(first).with_context(advice)?;
    }
    for entry in fs::read_dir(&place)? {
        let archive = entry?.path();
        if archive.extension().is_some_and(|end| end == "deb") {
            run(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&place), OnInterrupt::End)?;
        }
    }
    Ok(())
}

fn apt(root: bool, args: &[&str]) -> Command {
    let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
    if !root {
        // No password prompt could be answered here: programs of the harness have no terminal for their input.
        command.args(["--non-interactive", "apt-get"]);
    }
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn agreed(packages: &str) -> Result<bool> {
    let mut stderr = std::io::stderr();
    write!(stderr, "This needs {packages}. Install by apt-get? [Y/n] ").and_then(|()| stderr.flush())?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}

/// The first executable of that name in `PATH`, or where administrators' programs live.
#[must_use]
pub fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| fs::metadata(file).is_ok_and(|data| data.is_file()))
}

/// The workspace's folder.
#[must_use]
pub fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// Where builds and the harness's own files go.
#[must_use]
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => workspace().join(folder),
        None => workspace().join("target"),
    }
}
