//! Timeline entries from enrichment: log lines, memory use, core files.

use std::collections::BTreeSet;

use crate::engine::causes::resource_limit;
use crate::engine::incidents::case::Case;
use crate::engine::report::core_file::{self, Dead};
use crate::engine::world::logs::Line;
use crate::engine::world::processes::Process;
use crate::model::event::{ExitStatus, LogStream, MemoryUse};
use crate::model::ids::ContainerId;
use crate::model::incident::TimelineSource;
use crate::model::time::{Nanos, Stamp};
use crate::wire::log_line::{CRASH_LINES, begins_crash};

use crate::engine::context::Context;
use crate::engine::report::timeline::TimelineLine;
use crate::engine::types::verdict::Verdict;

/// Log lines of the subject up to this long before its end belong to the incident.
const LEAD: Nanos = Nanos::from_secs(10);
/// Log lines of the subject up to this long after its end belong to the incident.
const TAIL: Nanos = Nanos::from_secs(1);
/// Docker stamps a line when it reads it, so the last line before an exit may have a later time stamp.
const STAMP_DELAY: Nanos = Nanos::from_millis(200);

/// The log lines of the subject that the incident contains, at most `most`: first those of a crash message, then those
/// nearest before an end, then those nearest after one.
pub fn of_subject(ctx: Context, case: &Case, verdict: &Verdict, most: usize) -> BTreeSet<Line> {
    let Some(container) = &verdict.container else { return BTreeSet::new() };
    let ends: Vec<Stamp> = {
        let deaths = case.terminations.iter().filter_map(|id| ctx.world.terminations.get(*id)?.down());
        let mut ends: Vec<Stamp> = deaths.chain([verdict.at]).collect();
        ends.extend(ctx.failures_of(case).last().map(|failure| failure.at()));
        ends
    };
    let mut ranked: BTreeSet<(Rank, Line)> = BTreeSet::new();
    let mut seen: BTreeSet<Line> = case.log.clone();
    let starts = ctx.world.containers.get(container).map(|container| &container.starts);
    for end in &ends {
        // Lines logged after a restart belong to the next run.
        let next = starts.into_iter().flatten().copied().find(|start| start > end);
        let until = next.map_or(end.plus(TAIL), |next| end.plus(TAIL).min(next));
        seen.extend(ctx.world.logs.between(container, end.minus(LEAD), until).cloned());
    }
    let crash = crash_lines(&seen);
    for line in seen {
        let distance = ends.iter().map(|end| line.at.since(*end).0.abs()).min().unwrap_or(i64::MAX);
        let before_end = ends.iter().any(|end| line.at <= end.plus(STAMP_DELAY));
        let rank = match (crash.contains(&line), before_end) {
            (true, _) => Rank(0, line.at.0),
            (false, true) => Rank(1, distance),
            (false, false) => Rank(2, distance),
        };
        ranked.insert((rank, line));
    }
    ranked.into_iter().take(most).map(|(_, line)| line).collect()
}

/// By kind; within a crash message the first lines, otherwise the nearest lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u8, i64);

/// The lines that begin a crash message, and those that follow on the same stream.
fn crash_lines(lines: &BTreeSet<Line>) -> BTreeSet<Line> {
    let mut crash = BTreeSet::new();
    let mut left = [0_usize; 3];
    for line in lines {
        let [stdout, stderr, console] = &mut left;
        let left = match line.stream {
            LogStream::Stdout => stdout,
            LogStream::Stderr => stderr,
            LogStream::Console => console,
        };
        if begins_crash(&line.text) {
            *left = CRASH_LINES;
        } else if *left == 0 {
            continue;
        } else {
            *left -= 1;
        }
        crash.insert(line.clone());
    }
    crash
}

/// The log lines of a case: those of the subject, and those of clients that are matched to its failures.
pub fn log(ctx: Context, case: &Case, container: Option<&ContainerId>, most: usize, lines: &mut Vec<TimelineLine>) {
    let subject = container.and_then(|id| ctx.world.containers.get(id));
    let subject = subject.map_or("its process", |container| container.info.name.as_str());
    for line in &case.log {
        let stream = match line.stream {
            LogStream::Stdout => "stdout",
            LogStream::Stderr => "stderr",
            LogStream::Console => "console",
        };
        lines.push(TimelineLine::new(line.at, TimelineSource::Log, format!("{subject} {stream}: {}", line.text)));
    }
    let named = ctx.failures_of(case).flat_map(|failure| failure.log.iter().map(move |line| (failure, line)));
    for (failure, (line, name)) in named.take(most) {
        let client = failure.entry.client.container.as_deref().unwrap_or("host");
        lines.push(TimelineLine::new(line.at, TimelineSource::Log, format!("{client} logged {name}: {}", line.text)));
    }
}

/// The memory use of the container of an OOM victim.
pub fn memory(process: &Process, lines: &mut Vec<TimelineLine>) {
    if let (Some(at), Some(memory)) = (process.oom, &process.memory) {
        lines.push(TimelineLine::new(at, TimelineSource::Process, in_use(memory)));
    }
}

fn in_use(memory: &MemoryUse) -> String {
    let when_read =
        || memory.in_use.map(|bytes| format!("{} in use when it was read immediately afterwards", amount(bytes)));
    match (memory.limit, memory.peak) {
        (Some(limit), Some(peak)) if resource_limit::is_full(memory) => {
            format!("memory limit {}, in use {} when the OOM killer ran", amount(limit), amount(peak))
        }
        (Some(limit), Some(peak)) => {
            let now = when_read().map_or_else(String::new, |now| format!("{now}, "));
            let peak = amount(peak);
            format!("memory limit {} not reached: {now}peak {peak}; memory ran out above it", amount(limit))
        }
        (Some(limit), None) => {
            let now = when_read().map_or_else(String::new, |now| format!(", {now}"));
            format!("memory limit {}{now}", amount(limit))
        }
        (None, peak) => {
            let peak = peak.map_or_else(String::new, |peak| format!(", peak {}", amount(peak)));
            let now = when_read().map_or_else(String::new, |now| format!(", {now}"));
            format!("no memory limit of its own{now}{peak}: memory ran out above it")
        }
    }
}

fn amount(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        // A limit of 96 MiB is full at 95.99 MiB, so round instead of truncating.
        1_048_576.. => format!("{} MiB", (bytes + (1 << 19)) >> 20),
    }
}

/// The location of the core file of a process.
pub fn core(process: &Process, container: Option<&str>, lines: &mut Vec<TimelineLine>) {
    let Some(exit) = &process.exit else { return };
    if let (ExitStatus::Signal { signal, core: true }, Some(dump)) = (&exit.status, &process.core) {
        let dead =
            Dead { pid: process.pid.0, ns_pid: process.ns_pid, comm: &process.comm, signal, at: exit.at, container };
        let text = format!("core dumped: {}", core_file::place(dump, dead));
        lines.push(TimelineLine::new(exit.at, TimelineSource::Process, text));
    }
}
