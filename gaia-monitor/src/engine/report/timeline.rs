//! The timeline: everything that the world holds about a case, ordered by time.

use std::collections::BTreeSet;

use crate::engine::causes::crash_place::{self, hexadecimal};
use crate::engine::failures::table::Failure;
use crate::engine::incidents::case::Case;
use crate::engine::types::cause::CaseKey;
use crate::engine::world::containers::Container;
use crate::engine::world::processes::Process;
use crate::engine::world::tcp::endpoint::Endpoint;
use crate::engine::world::terminations::Recorded;
use crate::model::event::{CrashSite, DockerAction, ExitStatus, ModuleOffset, ResourceLimit};
use crate::model::ids::{ContainerId, Cookie, Pid};
use crate::model::incident::{CounterKey, CounterKind, Detail, HttpxClass, TimelineEntry, TimelineSource, name_of};
use crate::model::time::{Nanos, Stamp, Utc};

use crate::engine::context::Context;
use crate::engine::report::{log_lines, name_history, packets};
use crate::engine::types::evidence::Evidence;
use crate::engine::types::verdict::Verdict;

const FIRST: usize = 150;
const LAST: usize = 50;
/// Docker events so long before the case may belong to it: the request that began it.
const LEAD: Nanos = Nanos::from_secs(2);
/// Failures with every step; of further ones only the client-side error is reported.
const IN_FULL: usize = 20;
/// Processes that are named as holders of one connection.
const HEIRS: usize = 3;
/// Interface events, the first ones.
const NOTES: usize = 50;

/// An entry before it has an offset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimelineLine {
    at: Stamp,
    source: TimelineSource,
    text: String,
    counter: Option<CounterKey>,
}

impl TimelineLine {
    pub fn new(at: Stamp, source: TimelineSource, text: String) -> Self {
        Self { at, source, text, counter: None }
    }

    /// An entry whose text counts up: a later revision replaces it.
    pub fn counting(self, socket: Cookie, kind: CounterKind) -> Self {
        Self { counter: Some(CounterKey { socket, kind }), ..self }
    }
}

pub fn of(ctx: Context, case: &Case, verdict: &Verdict) -> (Vec<TimelineEntry>, u64) {
    let mut lines: Vec<TimelineLine> = Vec::new();
    let from = verdict.at.min(case.opened).minus(LEAD);
    let container = verdict.container.as_ref().and_then(|id| ctx.world.containers.get(id));
    if let Some(container) = container {
        docker(container, from, &mut lines);
    }
    for pid in pids(ctx, case, verdict) {
        if let Some(found) = ctx.world.processes.get(pid) {
            process(found, from, &mut lines);
            log_lines::memory(found, &mut lines);
            log_lines::core(found, container.map(|container| container.info.name.as_str()), &mut lines);
        }
    }
    log_lines::log(ctx, case, verdict.container.as_ref(), ctx.settings.logs.lines, &mut lines);
    if let Some(container) = container {
        let name = &container.info.name;
        for termination in case.terminations.iter().filter_map(|id| ctx.world.terminations.get(*id)) {
            lines.extend(termination.recorded.map(|recorded| recorded_end(name, recorded)));
            let listens = |at| TimelineLine::new(at, TimelineSource::Tcp, format!("{name} listens again"));
            lines.extend(termination.recovered.map(listens));
        }
    }
    for (index, found) in ctx.entries_of(case).enumerate() {
        if index < IN_FULL {
            steps(ctx, found, &mut lines);
        }
        lines.push(got(found));
    }
    links(ctx, case, verdict, from, &mut lines);
    for root in ctx.earlier_failures_of(case).take(IN_FULL) {
        lines.push(got(root));
    }
    name_history::lines(ctx, case, verdict, from, &mut lines);
    name_history::shared(ctx, case, &mut lines);
    for (stage, (at, count)) in &case.losses {
        lines.push(TimelineLine::new(*at, TimelineSource::Monitor, loss_text(stage, *count)));
    }
    lines.sort();
    lines.dedup_by(|one, other| (one.at, one.source, &one.text) == (other.at, other.source, &other.text));
    cut(lines, verdict.at)
}

fn loss_text(stage: &str, count: u64) -> String {
    let lost = format!("{count} events lost at {stage}");
    // The stream ends with the engine, or with its connection.
    if stage == "docker.events" { format!("the Docker engine's event stream was interrupted: {lost}") } else { lost }
}

/// Events of the interfaces of the containers concerned.
fn links(ctx: Context, case: &Case, verdict: &Verdict, from: Stamp, lines: &mut Vec<TimelineLine>) {
    let ends = ctx.entries_of(case).take(IN_FULL);
    let ends = ends.flat_map(|found| [found.client_container.clone(), found.route.container.clone()]);
    let concerned: BTreeSet<ContainerId> = ends.flatten().chain(verdict.container.clone()).collect();
    let outage = if let CaseKey::Outage(id) = case.key { ctx.world.interfaces.outages.get(id) } else { None };
    let place = outage.and_then(|outage| outage.place);
    for note in ctx.world.interfaces.notes(&concerned, place, from).take(NOTES) {
        let whose = note.container.as_ref().and_then(|id| ctx.world.containers.get(id));
        let whose = whose.map_or_else(String::new, |container| format!("{}: ", container.info.name));
        lines.push(TimelineLine::new(note.at, TimelineSource::Link, format!("{whose}{}", note.text)));
    }
}

fn cut(mut lines: Vec<TimelineLine>, moment: Stamp) -> (Vec<TimelineEntry>, u64) {
    let left_out = lines.len().saturating_sub(FIRST + LAST);
    if left_out > 0 {
        lines.drain(FIRST..FIRST + left_out);
    }
    let entries = lines.into_iter().map(|TimelineLine { at, source, text, counter }| TimelineEntry {
        at: Utc(at),
        offset_ns: at.since(moment),
        source,
        text,
        counter,
    });
    (entries.collect(), left_out as u64)
}

fn pids(ctx: Context, case: &Case, verdict: &Verdict) -> Vec<Pid> {
    let terminations = case.terminations.iter().filter_map(|id| ctx.world.terminations.get(*id));
    let ended = terminations.flat_map(|termination| [termination.pid, termination.root]).flatten();
    let mut pids: Vec<Pid> = ended.chain(case.workers.iter().copied()).chain(verdict.pid).collect();
    pids.sort();
    pids.dedup();
    pids
}

fn docker(container: &Container, from: Stamp, lines: &mut Vec<TimelineLine>) {
    let name = &container.info.name;
    for event in container.events_since(from) {
        let text = match &event.action {
            DockerAction::Create => format!("{name} created"),
            DockerAction::Start => format!("{name} started"),
            DockerAction::Die { exit_code: Some(code) } => format!("{name} exited, code {code} (die)"),
            DockerAction::Die { exit_code: None } => format!("{name} exited (die)"),
            DockerAction::Oom => format!("{name}: out of memory"),
            DockerAction::Kill { signal } => format!("Docker sent {signal} to {name}"),
            DockerAction::Stop => format!("{name} stopped"),
            DockerAction::Pause => format!("{name} paused"),
            DockerAction::Unpause => format!("{name} unpaused"),
            DockerAction::HealthStatus { status } => format!("{name} health: {status}"),
            DockerAction::Restart => format!("{name} restarted"),
            DockerAction::Rename { old_name } => format!("{old_name} renamed to {name}"),
            DockerAction::Destroy => format!("{name} removed"),
            DockerAction::NetworkConnect { network } => format!("{name} joined the network {network}"),
            DockerAction::NetworkDisconnect { network } => format!("{name} left the network {network}"),
        };
        lines.push(TimelineLine::new(event.at, TimelineSource::Docker, text));
    }
}

fn recorded_end(name: &str, recorded: Recorded) -> TimelineLine {
    let code = recorded.exit_code.map_or_else(String::new, |code| format!(", code {code}"));
    let memory = if recorded.end.oom_killed { ", out of memory" } else { "" };
    let text = format!("{name} had ended before the monitor started{code}{memory} (Docker's record)");
    TimelineLine::new(recorded.end.at, TimelineSource::Docker, text)
}

fn process(process: &Process, from: Stamp, lines: &mut Vec<TimelineLine>) {
    let who = format!("{} (pid {})", process.comm, process.pid);
    for seen in process.signals.iter().filter(|seen| seen.at >= from) {
        let by = match &seen.sender {
            None => " from the kernel".to_owned(),
            Some(sender) if sender.pid == process.pid => " raised by the process itself".to_owned(),
            Some(sender) => format!(" from {} (pid {})", sender.comm, sender.pid),
        };
        let how = if seen.delivered { "" } else { ", ignored or already pending" };
        let limit = match seen.limit {
            Some(ResourceLimit::Cpu) => ", its limit of CPU time is reached",
            Some(ResourceLimit::FileSize) => ", its limit of file size is reached",
            None => "",
        };
        let text = format!("{} to {who}{by}{how}{limit}", seen.signal);
        lines.push(TimelineLine::new(seen.at, TimelineSource::Process, text));
    }
    if let Some((at, site)) = process.crash.as_ref().filter(|(at, _)| *at >= from) {
        lines.push(TimelineLine::new(*at, TimelineSource::Process, crash(&who, site)));
    }
    if let Some(at) = process.oom {
        lines.push(TimelineLine::new(at, TimelineSource::Process, format!("{who} was chosen by the OOM killer")));
    }
    if let Some(exit) = &process.exit {
        let text = match &exit.status {
            ExitStatus::Code { code } => format!("{who} exited with code {code}"),
            ExitStatus::Signal { signal, core: false } => format!("{who} was terminated by {signal}"),
            ExitStatus::Signal { signal, core: true } => format!("{who} was terminated by {signal}, core dumped"),
        };
        lines.push(TimelineLine::new(exit.at, TimelineSource::Process, text));
    }
}

fn crash(who: &str, site: &CrashSite) -> String {
    let offset = |place: &ModuleOffset| format!("{}+{}", place.file, hexadecimal(place.offset));
    let place = site.module.as_ref().map_or_else(|| "an unknown module".to_owned(), offset);
    let place = match crash_place::module(site).filter(|named| Some(*named) != site.module.as_ref()) {
        Some(caller) => format!("{place}, called from {}", offset(caller)),
        None => place,
    };
    let address = site.address.map_or_else(String::new, |address| format!(", address {}", hexadecimal(address)));
    format!("{} is fatal for {who}: thread {}, in {place}{address}", site.signal, site.thread)
}

fn steps(ctx: Context, found: &Failure, lines: &mut Vec<TimelineLine>) {
    let client = caller(found, found.route.client_port(ctx.world));
    let server = found.entry.server.container.clone().unwrap_or_else(|| found.route.address.to_string());
    let end = ctx.world.sockets.get(found.route.client);
    if let Some(begun) = end.and_then(|end| end.http.begun_at) {
        lines.push(TimelineLine::new(begun, TimelineSource::Http, format!("{client} began its request to {server}")));
    }
    packets::steps(ctx, found, &client, &server, lines);
    let Some(end) = found.route.server.and_then(|cookie| ctx.world.sockets.get(cookie)) else { return };
    if let (Some(begun), Some(status)) = (end.http.begun_at, end.http.status) {
        lines.push(TimelineLine::new(
            begun,
            TimelineSource::Http,
            format!("{server} began its response to {client}, status {status}"),
        ));
    }
    outlived(ctx, found, end, (&server, &client), lines);
    closing(ctx, (&server, &client), end, lines);
}

/// The processes that kept a connection open whose own process was dead.
fn outlived(
    ctx: Context,
    found: &Failure,
    end: &Endpoint,
    (server, client): (&str, &str),
    lines: &mut Vec<TimelineLine>,
) {
    let Evidence::Worker { pid, .. } = found.evidence else { return };
    let dead = ctx.world.processes.get(pid);
    let Some(died) = dead.and_then(|dead| dead.doomed()).filter(|_| end.established.is_some()) else { return };
    let closer = end.close.as_ref().map(|close| (&close.task.comm, close.task.pid));
    if closer.is_some_and(|(_, closer)| closer == pid) || end.owner.as_ref().is_none_or(|owner| owner.pid != pid) {
        return;
    }
    let heirs = ctx.world.processes.heirs(pid, died).take(HEIRS).map(|heir| (&heir.comm, heir.pid));
    let names: Vec<String> =
        closer.into_iter().chain(heirs).map(|(comm, pid)| format!("{comm} (pid {pid})")).take(HEIRS).collect();
    let by = if names.is_empty() { "another process".to_owned() } else { names.join(", ") };
    let text = format!("{server}: the connection of {client} outlived pid {pid}, kept open by {by}");
    lines.push(TimelineLine::new(died, TimelineSource::Process, text));
}

fn closing(ctx: Context, (server, client): (&str, &str), end: &Endpoint, lines: &mut Vec<TimelineLine>) {
    let Some(close) = &end.close else { return };
    let packet = if close.reset { "RST" } else { "FIN" };
    let ended = ctx.world.processes.get(close.task.pid).is_some_and(|process| process.doomed().is_some());
    let state = match (close.task.exiting, ended) {
        (true, _) => ", dying",
        (false, true) => ", not yet exiting",
        (false, false) => ", alive",
    };
    let unread = if close.unread > 0 { format!(", {} bytes unread", close.unread) } else { String::new() };
    let text = format!("{server}: pid {}{state}, closed the connection of {client} ({packet}{unread})", close.task.pid);
    lines.push(TimelineLine::new(close.at, TimelineSource::Tcp, text));
}

fn got(found: &Failure) -> TimelineLine {
    let client = caller(found, None);
    let server = found.entry.server.container.clone().unwrap_or_else(|| found.route.address.to_string());
    let error = &found.entry.client_error;
    let at = found.at();
    if error.httpx == HttpxClass::None {
        return TimelineLine::new(at, TimelineSource::Tcp, format!("{client} cancelled its request to {server}"));
    }
    let detail = error.detail.as_ref().map_or_else(String::new, |detail: &Detail| format!(", {}", name_of(detail)));
    let errno = error.errno.as_ref().map_or_else(String::new, |errno| format!(", {errno}"));
    let class = name_of(&error.httpx);
    if let Some(name) = &found.name {
        let process = found.entry.client.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        let text = format!("{client}{process} failed to resolve {name}{errno}: {class}");
        return TimelineLine::new(at, TimelineSource::Dns, text);
    }
    TimelineLine::new(at, TimelineSource::Tcp, format!("{client} received {class} from {server}{detail}{errno}"))
}

/// The client: its container, `host`, or its address if it is on another host.
fn caller(found: &Failure, port: Option<u16>) -> String {
    let client = &found.entry.client;
    let name = match (&client.container, client.ip) {
        (Some(container), _) => container.clone(),
        (None, Some(ip)) if found.route.client.is_outside() => ip.to_string(),
        (None, _) => "host".to_owned(),
    };
    port.map_or_else(|| name.clone(), |port| format!("{name}:{port}"))
}
