//! The independent witness of the live suite: bpftrace, attached to the kernel's own tracepoints, records exits, socket
//! states, resets and signals. The monitor's lines are compared with its records.
//!
//! It must never share code, probe or clock with the monitor: the offset between the kernel's clock and the wall clock is
//! measured here a second time. One witness serves a whole test process and ends with it, even by SIGKILL.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::time::{ClockId, clock_gettime};

use crate::host::{self, Need};

mod script;

use script::{Line, parse, program};

/// bpftrace compiles and attaches in about a second here; a loaded machine takes longer.
const ATTACH_LIMIT: Duration = Duration::from_secs(60);
const TRACEFS: &str = "/sys/kernel/tracing";

/// An instant of the wall clock, in nanoseconds since the Unix epoch.
pub type WallNanos = i64;

/// TCP states by their kernel numbers (include/net/tcp_states.h).
pub mod tcp_state {
    pub const ESTABLISHED: u8 = 1;
    pub const SYN_SENT: u8 = 2;
    pub const FIN_WAIT1: u8 = 4;
    pub const CLOSE: u8 = 7;
    pub const LISTEN: u8 = 10;
}

/// One thing that the kernel did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub at: WallNanos,
    pub fact: Fact,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The last thread of a process has exited. `status` as `wait` would give it.
    Exit { pid: u32, status: ExitStatus, comm: String },
    /// A TCP socket left `old` for `new`; addresses as the socket has them.
    State { old: u8, new: u8, local: SocketAddr, remote: SocketAddr },
    /// A reset left this host for `to`; without a socket for a closed port.
    ResetSent { from: SocketAddr, to: SocketAddr },
    /// A socket received a reset.
    ResetReceived { local: SocketAddr, remote: SocketAddr },
    /// A signal was generated; `ignored` when it can have no effect.
    Signal { signal: u32, target: u32, ignored: bool, sender: u32, comm: String },
    /// The kernel chose a process to free its memory.
    OomVictim { pid: u32 },
    /// A packet filter threw a TCP packet over IPv4 away.
    Filtered { from: SocketAddr, to: SocketAddr },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    Code(i32),
    Signal(u32),
}

/// Numbers of signal(7) on x86 and ARM.
impl ExitStatus {
    pub const SIGABRT: Self = Self::Signal(6);
    pub const SIGFPE: Self = Self::Signal(8);
    pub const SIGKILL: Self = Self::Signal(9);
    pub const SIGSEGV: Self = Self::Signal(11);
    pub const SIGXFSZ: Self = Self::Signal(25);
}

/// The running witness and all that it has seen since its start.
pub struct Witness {
    records: Mutex<Vec<Record>>,
    news: Condvar,
}

impl Witness {
    /// The witness of this test process, attached. Errors name what is missing.
    pub fn get() -> Result<&'static Witness> {
        static SHARED: OnceLock<std::result::Result<&'static Witness, String>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start().map_err(|error| format!("{error:#}"))).clone().map_err(anyhow::Error::msg)
    }

    fn start() -> Result<&'static Witness> {
        ensure!(nix::unistd::geteuid().is_root(), "the live suite needs root: run it with sudo");
        host::ensure(&[Need::Bpftrace], &mut |line| eprintln!("{line}"))?;
        mount_tracefs()?;
        let program = program()?;
        let mut child = spawn(&program)?;
        let out = child.stdout.take().context("bpftrace has no standard output")?;
        // The pipe to the shell's standard input stays open as long as this process runs; see `spawn`.
        std::mem::forget(child.stdin.take());
        let witness: &'static Witness =
            Box::leak(Box::new(Witness { records: Mutex::new(Vec::new()), news: Condvar::new() }));
        let (attached, when) = mpsc::channel();
        std::thread::Builder::new().name("witness".to_owned()).spawn(move || {
            let mut clock = ClockId::CLOCK_BOOTTIME;
            for line in BufReader::new(out).lines().map_while(std::result::Result::ok) {
                match parse(&line) {
                    Ok(Line::Ready(at)) => {
                        let found = kernel_clock(at);
                        clock = *found.as_ref().unwrap_or(&clock);
                        let _gone = attached.send(found);
                    }
                    Ok(Line::Record(at, fact)) => {
                        witness.lock().push(Record { at: at.saturating_add(wall_minus(clock)), fact });
                        witness.news.notify_all();
                    }
                    Ok(Line::Other) => {}
                    Err(error) => eprintln!("the witness cannot read {line:?}: {error:#}"),
                }
            }
            drop(child);
        })?;
        match when.recv_timeout(ATTACH_LIMIT) {
            Ok(found) => found.map(|_| witness),
            Err(RecvTimeoutError::Timeout) => bail!("bpftrace did not attach within {ATTACH_LIMIT:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("bpftrace ended before it attached; its own message is above"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All records at or after `since`, in the order in which they were written.
    pub fn since(&self, since: WallNanos) -> Vec<Record> {
        self.lock().iter().filter(|record| record.at >= since).cloned().collect()
    }

    /// The first record at or after `since` that `wanted` accepts, waiting for it at most `limit`.
    pub fn wait(
        &self,
        since: WallNanos,
        limit: Duration,
        wanted: impl Fn(&Fact) -> bool,
        what: &str,
    ) -> Result<Record> {
        let deadline = Instant::now() + limit;
        let mut records = self.lock();
        loop {
            if let Some(found) = records.iter().find(|record| record.at >= since && wanted(&record.fact)) {
                return Ok(found.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "the witness saw no {what} within {limit:?}");
            records = self.news.wait_timeout(records, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// When the process `pid` (of the host) ended, and how.
    pub fn exit_of(&self, pid: u32, since: WallNanos, limit: Duration) -> Result<(WallNanos, ExitStatus)> {
        let wanted = |fact: &Fact| matches!(fact, Fact::Exit { pid: exited, .. } if *exited == pid);
        let record = self.wait(since, limit, wanted, &format!("exit of process {pid}"))?;
        match record.fact {
            Fact::Exit { status, .. } => Ok((record.at, status)),
            other => bail!("asked for an exit, got {other:?}"),
        }
    }
}

/// Now, by the wall clock.
#[must_use]
pub fn now() -> WallNanos {
    read(ClockId::CLOCK_REALTIME)
}

/// Nanoseconds on a clock that every Linux has; 0 could only mean a kernel without it.
fn read(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec().saturating_mul(1_000_000_000).saturating_add(time.tv_nsec()))
}

/// bpftrace's `nsecs` is the boot clock where the kernel offers it and the monotonic clock elsewhere; they differ by the
/// time that the machine has slept. `ready` was taken a moment ago, so the nearer one is the right one.
fn kernel_clock(ready: i64) -> Result<ClockId> {
    let distance = |clock| (read(clock) - ready).abs();
    let clock = if distance(ClockId::CLOCK_BOOTTIME) <= distance(ClockId::CLOCK_MONOTONIC) {
        ClockId::CLOCK_BOOTTIME
    } else {
        ClockId::CLOCK_MONOTONIC
    };
    ensure!(distance(clock) < 30_000_000_000, "bpftrace's clock is none that this suite knows");
    Ok(clock)
}

/// Wall clock minus `clock`, from the tightest of a few readings.
fn wall_minus(clock: ClockId) -> i64 {
    (0..5)
        .map(|_| {
            let before = read(clock);
            let wall = now();
            let after = read(clock);
            (after - before, wall - before - (after - before) / 2)
        })
        .min()
        .map_or(0, |(_, offset)| offset)
}

fn mount_tracefs() -> Result<()> {
    if Path::new(TRACEFS).join("events").exists() {
        return Ok(());
    }
    let status = Command::new("mount").args(["-t", "tracefs", "tracefs", TRACEFS]).status().context("running mount")?;
    ensure!(status.success(), "the live suite needs tracefs: mount -t tracefs tracefs {TRACEFS} failed");
    Ok(())
}

/// Runs bpftrace under a shell that waits for the end of its own standard input: it comes when this test process ends,
/// also by SIGKILL, and the witness ends with it.
fn spawn(program: &str) -> Result<Child> {
    Command::new("sh")
        .args([
            "-c",
            r#"exec 3<&0; bpftrace -B line -e "$1" 3<&- </dev/null & cat <&3 >/dev/null; kill $!"#,
            "sh",
            program,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("starting bpftrace")
}
