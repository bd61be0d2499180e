//! Elevation to root by sudo, for the probe and the namespaces of containers. Builds run as the invoking user.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use gaia_monitor_tests::{docker, host};

/// Environment of builds and Docker clients, which sudo would drop.
const KEPT: [&str; 10] = [
    "PATH",
    "HOME",
    "CARGO",
    "CARGO_HOME",
    "CARGO_TARGET_DIR",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "DOCKER_HOST",
    "TERM",
    "CI",
];

#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A command that runs as root, by sudo if necessary, with the environment of builds and `extra`.
///
/// # Errors
/// When the process is not root and sudo is not installed.
pub fn as_root(program: &OsStr, args: &[OsString], extra: &[(&str, OsString)]) -> Result<Command> {
    let mut command = if is_root() {
        Command::new(program)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(prefix()?.into_iter().skip(1));
        for (name, value) in extra {
            sudo.arg(pair(name, value));
        }
        sudo.arg(program);
        sudo
    };
    command.args(args).envs(extra.iter().map(|(name, value)| (name, value)));
    Ok(command)
}

/// `sudo -- env NAME=VALUE…`, the prefix of an elevated command.
///
/// # Errors
/// When sudo is not installed.
pub fn prefix() -> Result<Vec<OsString>> {
    if host::in_path("sudo").is_none() {
        bail!("root is required: run as root, or install sudo");
    }
    let kept = KEPT.iter().filter_map(|name| Some(pair(name, &std::env::var_os(name)?)));
    Ok(["sudo", "--", "env"].into_iter().map(OsString::from).chain(kept).collect())
}

/// Restarts this process as root. Returns immediately if it is root already.
///
/// # Errors
/// When sudo is missing or cannot be started.
pub fn become_root(extra: &[(&str, OsString)]) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    let own = std::env::current_exe().context("cannot find the path of this program")?;
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut elevated = as_root(own.as_os_str(), &args, extra)?;
    eprintln!("the probe needs root: running sudo");
    Err(elevated.exec()).context("cannot become root")
}

/// Checks that root can reach Docker. sudo asks for the password here, once and before the work.
///
/// # Errors
/// When sudo or Docker refuses.
pub fn check_docker() -> Result<()> {
    if is_root() {
        return docker::version().map(|_| ());
    }
    let status = as_root(OsStr::new("docker"), &["version".into()], &[])?
        .stdout(Stdio::null())
        .status()
        .context("cannot start sudo")?;
    ensure!(status.success(), "sudo or Docker failed, see above");
    Ok(())
}

fn pair(name: &str, value: &OsStr) -> OsString {
    let mut pair = OsString::from(name);
    pair.push("=");
    pair.push(value);
    pair
}
