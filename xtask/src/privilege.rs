//! Becoming root for what needs it: the probe and other containers' namespaces. Building never does.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use gaia_monitor_tests::{docker, host};

/// What a build or a Docker client is told by its environment; sudo would drop it.
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

/// `command ARGS` as root: itself for root, by sudo otherwise, with the environment that builds need and `extra`.
///
/// # Errors
/// When this is not root and there is no sudo.
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

/// `sudo -- env NAME=VALUE…`: what goes before a command.
///
/// # Errors
/// When there is no sudo.
pub fn prefix() -> Result<Vec<OsString>> {
    if host::in_path("sudo").is_none() {
        bail!("this needs root: run it as root, or install sudo");
    }
    let kept = KEPT.iter().filter_map(|name| Some(pair(name, &std::env::var_os(name)?)));
    Ok(["sudo", "--", "env"].into_iter().map(OsString::from).chain(kept).collect())
}

/// Replaces this process by itself as root. Returns at once for root.
///
/// # Errors
/// When that fails.
pub fn become_root(extra: &[(&str, OsString)]) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    let own = std::env::current_exe().context("cannot find the own program")?;
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut elevated = as_root(own.as_os_str(), &args, extra)?;
    eprintln!("the probe needs root: asking sudo");
    Err(elevated.exec()).context("cannot become root")
}

/// Does Docker answer root? For others this is also where sudo asks for the password, once and before the work.
///
/// # Errors
/// With what to do.
pub fn check_docker() -> Result<()> {
    if is_root() {
        return docker::version().map(|_| ());
    }
    let status = as_root(OsStr::new("docker"), &["version".into()], &[])?
        .stdout(Stdio::null())
        .status()
        .context("cannot start sudo")?;
    ensure!(status.success(), "sudo or Docker refused, see above");
    Ok(())
}

fn pair(name: &str, value: &OsStr) -> OsString {
    let mut pair = OsString::from(name);
    pair.push("=");
    pair.push(value);
    pair
}
