//! Runs a program and keeps its output, so that every failure can quote it.
//!
//! Programs get a process group of their own: Ctrl-C reaches this process alone, which then ends them cleanly
//! instead of leaving half a container.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::cleanup;

/// How often a running program's supervisor looks for Ctrl-C.
const INTERRUPT_POLL: Duration = Duration::from_millis(50);
/// An error quotes at most so many of the last characters that a program wrote to standard error.
const QUOTED: usize = 2_000;

/// What a program printed.
#[derive(Clone, Debug, Default)]
pub struct Printed {
    pub stdout: String,
    pub stderr: String,
}

/// What Ctrl-C means for a program that is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnInterrupt {
    /// End it and return an error.
    End,
    /// Let it finish: it is itself part of cleaning up.
    Finish,
}

/// Runs a program to its end and returns what it printed.
///
/// # Errors
/// When it cannot be started, was interrupted, or failed; the error names the command and quotes standard error.
pub fn run(command: &mut Command, on_interrupt: OnInterrupt) -> Result<Printed> {
    let shown = shown(command);
    let (status, printed) = run_any(command, on_interrupt)?;
    if !status.success() {
        bail!("`{shown}` failed ({status}): {}", last_of(printed.stderr.trim()));
    }
    Ok(printed)
}

/// Runs a program to its end, whatever that is.
///
/// # Errors
/// When it cannot be started or was interrupted.
pub fn run_any(command: &mut Command, on_interrupt: OnInterrupt) -> Result<(ExitStatus, Printed)> {
    if on_interrupt == OnInterrupt::End {
        cleanup::check_interrupt()?;
    }
    let shown = shown(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let (done, ends) = mpsc::channel();
    let stdout = drain(child.stdout.take(), done.clone());
    let stderr = drain(child.stderr.take(), done);
    // Both readers hold a sender; the channel closes when both pipes are at their end.
    while ends.recv_timeout(INTERRUPT_POLL) != Err(mpsc::RecvTimeoutError::Disconnected) {
        if on_interrupt == OnInterrupt::End
            && let Err(interrupted) = cleanup::check_interrupt()
        {
            end(&mut child);
            return Err(interrupted).with_context(|| format!("while `{shown}` was running"));
        }
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{shown}`"))?;
    Ok((status, Printed { stdout: joined(stdout), stderr: joined(stderr) }))
}

/// The command line as a person would type it, cut where it is long.
#[must_use]
pub fn shown(command: &Command) -> String {
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_string_lossy()).collect();
    let line = words.join(" ").replace('\n', " ");
    if line.chars().count() > 160 { line.chars().take(160).chain("…".chars()).collect() } else { line }
}

fn drain<R: Read + Send + 'static>(pipe: Option<R>, done: mpsc::Sender<()>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A broken pipe ends the text; the exit status shows the rest.
            let _ = pipe.read_to_end(&mut bytes);
        }
        drop(done);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn joined(reader: thread::JoinHandle<String>) -> String {
    reader.join().unwrap_or_default()
}

/// Asks the whole group to end, and sees to it.
fn end(child: &mut Child) {
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let _ = killpg(group, Signal::SIGTERM);
    let ended = crate::wait::quietly(Duration::from_secs(10), || matches!(child.try_wait(), Ok(Some(_)) | Err(_)));
    if !ended {
        let _ = killpg(group, Signal::SIGKILL);
        let _ = child.wait();
    }
}

fn last_of(text: &str) -> String {
    let skip = text.chars().count().saturating_sub(QUOTED);
    text.chars().skip(skip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_standard_error_when_a_program_fails() {
        let error =
            run(Command::new("sh").args(["-c", "echo no such thing >&2; exit 7"]), OnInterrupt::End).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no such thing") && text.contains("exit status: 7"), "{text}");
    }

    #[test]
    fn keeps_both_streams_apart() {
        let printed = run(Command::new("sh").args(["-c", "echo out; echo err >&2"]), OnInterrupt::End).unwrap();
        assert_eq!((printed.stdout.as_str(), printed.stderr.as_str()), ("out\n", "err\n"));
    }
}
