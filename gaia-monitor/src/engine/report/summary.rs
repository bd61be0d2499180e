//! The one sentence for a person.

use crate::engine::incidents::case::Case;
use crate::engine::types::cause::CaseKey;
use crate::engine::world::containers::Container;
use crate::engine::world::network::interfaces::Fault;
use crate::model::incident::{CauseKind, How, Subject, Via};

use crate::engine::report::incident::Sheet;
use crate::engine::report::packets;
use crate::engine::report::verdict::Verdict;

pub fn summary(sheet: &Sheet, case: &Case, verdict: &Verdict, subject: &Subject) -> String {
    let name = subject.container.as_deref().unwrap_or("a process outside every container");
    let process = process(verdict);
    let what = match verdict.kind {
        CauseKind::OomKilled => {
            format!("{name}: {process} was killed by the kernel's OOM killer{}", limit(sheet, verdict))
        }
        CauseKind::ProcessCrashed => {
            format!("{name}: {process} crashed with {}{}", status(verdict), after(sheet, case))
        }
        CauseKind::ProcessKilled => format!("{name}: {process} was ended by {}{}", status(verdict), by(verdict)),
        CauseKind::ProcessExited => {
            format!("{name}: {process} exited by itself with {}{}", status(verdict), after(sheet, case))
        }
        CauseKind::WorkerDied => {
            let how = match verdict.how {
                Some(How::OomKilled) => "was killed by the kernel's OOM killer".to_owned(),
                Some(How::ProcessCrashed) => format!("crashed with {}", status(verdict)),
                Some(How::ProcessKilled) => format!("was ended by {}{}", status(verdict), by(verdict)),
                Some(How::ProcessExited) | None => format!("exited by itself with {}", status(verdict)),
            };
            format!("{name}: worker {process} {how}{}, the container lives on", after(sheet, case))
        }
        CauseKind::ContainerStopped if verdict.deaths == 0 => {
            format!("{name}: Docker is stopping it, {process} still runs")
        }
        CauseKind::ContainerStopped => {
            format!("{name}: stopped by docker stop, {process} ended with {}", status(verdict))
        }
        CauseKind::ContainerKilled => {
            format!("{name}: killed by docker kill, {process} ended with {}", status(verdict))
        }
        CauseKind::ContainerPaused => format!("{name}: paused, its processes stand still"),
        CauseKind::NetworkDisconnected | CauseKind::LinkDown => outage(sheet, case, name),
        CauseKind::DnsGone => name_gone(sheet, case, subject),
        CauseKind::NotListening => {
            let when = if listened_before(sheet, case) { "any more" } else { "yet" };
            format!("{name}: runs and does not listen on {} {when}", port(sheet, case))
        }
        CauseKind::BacklogOverflow => {
            format!(
                "{name}: its queue of new connections on {} is full, and the kernel drops their SYNs",
                port(sheet, case)
            )
        }
        CauseKind::PacketDropped | CauseKind::PacketRejected => format!("{name}: {}", packets::summary(sheet, case)),
        CauseKind::AppClosed => format!("{name}: {process} is alive and closed the connection with an answer owed"),
        CauseKind::AppAborted => format!("{name}: {process} is alive and reset the connection with an answer owed"),
        CauseKind::KeepaliveRace => {
            format!("{name}: {process} closed an idle connection while the client was sending its next request on it")
        }
        CauseKind::ClientCancelled => format!("{name}: the client left before the answer"),
        CauseKind::BackendUnreachable => {
            format!("{name}: docker-proxy accepted for it, and nothing listens on {} behind", port(sheet, case))
        }
        CauseKind::ServerSlow => {
            format!("{name}: {process} is alive and gave no answer until the client's patience ended")
        }
        CauseKind::ProtocolError => format!("{name}: {process} sent what no HTTP parser accepts"),
        CauseKind::Unknown => format!("{name}: what broke the connection cannot be shown"),
    };
    if verdict.deaths > 1 { format!("{what}; {} times in all", verdict.deaths) } else { what }
}

fn outage(sheet: &Sheet, case: &Case, name: &str) -> String {
    let CaseKey::Outage(id) = case.key else { return format!("{name}: cut off") };
    let Some(outage) = sheet.world.interfaces.outages.get(id) else { return format!("{name}: cut off") };
    let network = outage.network.as_ref().map_or_else(String::new, |network| format!(" {network}"));
    if outage.docker.is_some() {
        return format!("{name}: taken off its network{network}");
    }
    let (what, link) = (fault(outage.fault), &outage.name);
    match outage.container {
        Some(_) => format!("{name}: its network link {link} {what}, and Docker was not asked"),
        None => format!("the bridge {link} {what}, and with it the way between the containers behind it"),
    }
}

fn fault(fault: Fault) -> &'static str {
    match fault {
        Fault::Down => "went down",
        Fault::NoCarrier => "lost its carrier",
        Fault::OffBridge => "was taken off its bridge",
        Fault::Removed => "was removed",
    }
}

fn name_gone(sheet: &Sheet, case: &Case, subject: &Subject) -> String {
    let names = sheet.names_of(case).into_iter().collect::<Vec<_>>().join(", ");
    match (sheet.roots_of(case).next(), &subject.container) {
        (Some(root), Some(server)) => {
            let errno = root.entry.client_error.errno.as_deref().unwrap_or("no answer");
            format!("{server}: its own look-up of {names} failed ({errno}), and the answer that it owed broke")
        }
        (_, Some(holder)) => {
            format!("{holder}: the name service does not answer for {names}, and nothing was seen to remove it")
        }
        (_, None) => format!("{names}: no container of this host has the name, and the name service does not know it"),
    }
}

/// What had failed a server that then died by itself.
fn after(sheet: &Sheet, case: &Case) -> String {
    // Told before, where that incident is closed and gone.
    let is_told = case.because.is_some() || sheet.behind(case).is_some();
    let root = sheet.roots_of(case).next().filter(|_| is_told);
    match root.map(|root| (&root.name, &root.entry.server.container)) {
        None => String::new(),
        Some((Some(name), _)) => format!(", after its own look-up of {name} had failed"),
        Some((None, Some(server))) => format!(", after its own connection to {server} had broken"),
        Some((None, None)) => ", after a connection of its own had broken".to_owned(),
    }
}

fn process(verdict: &Verdict) -> String {
    match (&verdict.comm, verdict.pid) {
        (Some(comm), Some(pid)) => format!("{comm} (pid {pid})"),
        (None, Some(pid)) => format!("pid {pid}"),
        (_, None) => "its process".to_owned(),
    }
}

fn status(verdict: &Verdict) -> String {
    match (&verdict.signal, verdict.exit_code) {
        (Some(signal), _) => signal.clone(),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

fn by(verdict: &Verdict) -> String {
    let Some(sender) = &verdict.sender else { return String::new() };
    let comm = sender.comm.as_deref().unwrap_or("an unknown process");
    let pid = sender.pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
    let place = sender.container.as_ref().map_or(" on the host".to_owned(), |name| format!(" in {name}"));
    let order = match sender.via {
        Some(Via::DockerKill) => ", by docker kill",
        Some(Via::DockerStop) => ", by docker stop",
        None => "",
    };
    format!(", sent by {comm}{pid}{place}{order}")
}

fn limit(sheet: &Sheet, verdict: &Verdict) -> String {
    let container = verdict.container.as_ref().and_then(|id| sheet.world.containers.get(id));
    match container.and_then(|container: &Container| container.info.memory_limit) {
        Some(bytes) => format!(" (memory limit {} MiB)", bytes >> 20),
        None => String::new(),
    }
}

/// Has the closed port been open since the container's last start?
fn listened_before(sheet: &Sheet, case: &Case) -> bool {
    let CaseKey::NotListening(id, port) = &case.key else { return false };
    let Some(container) = sheet.world.containers.get(id) else { return false };
    let closed = container.listeners_closed.filter(|_| container.ports.contains_key(port));
    closed.is_some_and(|closed| {
        closed <= case.opened && container.started_before(closed) == container.started_before(case.opened)
    })
}

fn port(sheet: &Sheet, case: &Case) -> String {
    let port = sheet.breaks_of(case).next().map(|found| found.route.address.port());
    port.map_or_else(|| "its port".to_owned(), |port| format!("port {port}"))
}
