//! What a case comes down to: cause, moment and the failing process.

use crate::engine::causes::exit::{self, Account};
use crate::engine::causes::packet_filter::{self, Filter};
use crate::engine::failures::table::{Break, Hindrance};
use crate::engine::incidents::case::Case;
use crate::engine::types::cause::{CaseKey, Lost};
use crate::engine::world::network::outages::OutageId;
use crate::engine::world::terminations::TerminationId;
use crate::model::ids::{ContainerId, Pid};
use crate::model::incident::{CauseKind, Confidence, How, MomentFact, Sender, Via};
use crate::model::time::Stamp;

use crate::engine::report::incident::Sheet;

#[derive(Clone, Debug)]
pub struct Verdict {
    pub kind: CauseKind,
    pub how: Option<How>,
    pub at: Stamp,
    pub fact: MomentFact,
    pub container: Option<ContainerId>,
    pub pid: Option<Pid>,
    pub comm: Option<String>,
    pub signal: Option<String>,
    pub exit_code: Option<i32>,
    pub sender: Option<Sender>,
    pub confidence: Confidence,
    pub deaths: u32,
    /// Worth telling even if it broke nothing.
    pub stands_alone: bool,
}

#[must_use]
pub fn of(sheet: &Sheet, case: &Case) -> Verdict {
    let verdict = match &case.key {
        CaseKey::Termination(id) => termination(sheet, case, *id),
        CaseKey::Workers(container, _) => workers(sheet, case, container.clone()),
        CaseKey::Paused(id, since) => paused(sheet, id, *since),
        CaseKey::Outage(id) => outage(sheet, case, *id),
        CaseKey::NotListening(id, _) => {
            Verdict { fact: MomentFact::Refused, ..blank(sheet, CauseKind::NotListening, Some(id), case) }
        }
        CaseKey::Backend(id, _) => backend(sheet, case, id),
        CaseKey::NameGone(lost, server) => name_gone(sheet, case, lost, server.as_ref()),
        CaseKey::Filtered(id, filter) => {
            hindered(sheet, case, id.as_ref(), kind_of(filter), MomentFact::PacketFiltered)
        }
        CaseKey::Backlog(id) => hindered(sheet, case, Some(id), CauseKind::BacklogOverflow, MomentFact::SynUnanswered),
        CaseKey::Process(id, pid, kind) => process(sheet, case, id.as_ref(), *pid, *kind),
        CaseKey::Client(id, pid) => Verdict {
            fact: MomentFact::ClientClose,
            pid: *pid,
            comm: pid.and_then(|pid| comm(sheet, pid)),
            ..blank(sheet, CauseKind::ClientCancelled, id.as_ref(), case)
        },
    };
    // Loss is never proof of anything, and takes certainty away; so does a connection whose framing was not followed.
    let by_links = matches!(case.key, CaseKey::Outage(_));
    let needed = |stage: &String| {
        let links = by_links && stage.starts_with("netlink.");
        links || stage.starts_with("ring.") || stage.starts_with("docker.")
    };
    let lost = case.losses.keys().any(needed);
    // A death is sure whatever a connection carried; what a living process did is read from its connections.
    // A dropped packet is sure however far the exchange had come.
    let by_a_filter = matches!(case.key, CaseKey::Filtered(..) | CaseKey::Backlog(_));
    let by_the_living =
        by_a_filter || matches!(case.key, CaseKey::Process(..) | CaseKey::Client(..) | CaseKey::NameGone(..));
    let doubts = |found: &Break| {
        (found.is_in_doubt() && !verdict.stands_alone && !by_a_filter) || (found.lossy && by_the_living)
    };
    let doubtful = sheet.breaks_of(case).any(doubts);
    let mut broken = sheet.breaks_of(case).filter(|found| found.hurts()).peekable();
    let opaque = broken.peek().is_some() && broken.all(|found| found.opaque && !found.is_in_doubt());
    // The kernel's own counter is no record that a full ring could lose.
    let docker_lost = case.losses.keys().any(|stage| stage.starts_with("docker."));
    let counted = || matches!(case.key, CaseKey::Backlog(_)) && !docker_lost && is_counted(sheet, case);
    let at_best = match (lost || doubtful, opaque) {
        (true, _) if counted() => Confidence::Likely,
        (true, _) => Confidence::Possible,
        (false, true) => Confidence::Likely,
        (false, false) => Confidence::Certain,
    };
    Verdict { confidence: verdict.confidence.min(at_best), ..verdict }
}

/// Did the kernel count packets at a full queue while one of its clients tried?
fn is_counted(sheet: &Sheet, case: &Case) -> bool {
    let counted = |found: &Break| packet_filter::counted(sheet.world, found);
    sheet.breaks_of(case).filter_map(counted).any(|counted| counted.overflows > 0)
}

fn blank(sheet: &Sheet, kind: CauseKind, container: Option<&ContainerId>, case: &Case) -> Verdict {
    let first = sheet.breaks_of(case).next();
    let info = container.and_then(|id| sheet.world.containers.get(id)).map(|container| &container.info);
    let pid = info.and_then(|info| info.pid);
    Verdict {
        kind,
        how: None,
        at: first.map_or(case.opened, |first| first.at()),
        fact: MomentFact::ClientError,
        container: container.cloned(),
        pid,
        comm: pid.and_then(|pid| comm(sheet, pid)),
        signal: None,
        exit_code: None,
        sender: None,
        confidence: Confidence::Certain,
        deaths: 0,
        stands_alone: false,
    }
}

fn comm(sheet: &Sheet, pid: Pid) -> Option<String> {
    sheet.world.processes.get(pid).map(|process| process.comm.clone())
}

fn termination(sheet: &Sheet, case: &Case, id: TerminationId) -> Verdict {
    let first = case.terminations.first().copied().unwrap_or(id);
    let Some(termination) = sheet.world.terminations.get(first) else {
        return blank(sheet, CauseKind::Unknown, None, case);
    };
    let account = exit::of_termination(sheet.world, termination);
    // What is not kept any more was a death of a crash loop.
    let died =
        |id: &&TerminationId| sheet.world.terminations.get(**id).is_none_or(|termination| termination.down().is_some());
    let down = case.terminations.iter().filter(died);
    let deaths = u32::try_from(down.count()).unwrap_or(u32::MAX);
    from_account(account, Some(termination.container.clone()), deaths)
}

fn workers(sheet: &Sheet, case: &Case, container: Option<ContainerId>) -> Verdict {
    let first = case.workers.first().and_then(|pid| exit::of_worker(sheet.world, *pid));
    let Some(account) = first else { return blank(sheet, CauseKind::Unknown, container.as_ref(), case) };
    let how = account.how;
    let deaths = u32::try_from(case.workers.len()).unwrap_or(u32::MAX);
    Verdict { how: Some(how), ..from_account(account, container, deaths) }
}

fn from_account(account: Account, container: Option<ContainerId>, deaths: u32) -> Verdict {
    let stands_alone = account.stands_alone();
    Verdict {
        kind: account.kind,
        how: None,
        at: account.at,
        fact: account.fact,
        container,
        pid: account.pid,
        comm: account.comm,
        signal: account.signal,
        exit_code: account.exit_code,
        sender: account.sender,
        confidence: account.confidence,
        deaths,
        stands_alone,
    }
}

fn paused(sheet: &Sheet, id: &ContainerId, since: Stamp) -> Verdict {
    let container = sheet.world.containers.get(id);
    let period = container.and_then(|container| container.pauses.iter().find(|period| period.since == since));
    let by_signal = period.is_some_and(|period| period.what.is_some());
    let pid = container.and_then(|container| container.info.pid);
    let process = pid.and_then(|pid| sheet.world.processes.get(pid));
    let stop = process.and_then(|process| process.signals.iter().find(|seen| seen.at == since));
    let sender = stop.filter(|_| by_signal).and_then(|seen| {
        let docker = exit::asked_by_docker(container, seen);
        exit::sender_of(sheet.world, seen, docker.then_some(Via::DockerKill))
    });
    Verdict {
        kind: CauseKind::ContainerPaused,
        how: None,
        at: since,
        fact: if by_signal { MomentFact::Signal } else { MomentFact::DockerPause },
        container: Some(id.clone()),
        pid,
        comm: process.map(|process| process.comm.clone()),
        signal: None,
        exit_code: None,
        sender,
        confidence: Confidence::Certain,
        deaths: 0,
        stands_alone: false,
    }
}

/// Docker's word makes it a disconnect; without it somebody else, or a fault, took the interface or the bridge down.
fn outage(sheet: &Sheet, case: &Case, id: OutageId) -> Verdict {
    let Some(outage) = sheet.world.interfaces.outages.get(id) else {
        return blank(sheet, CauseKind::Unknown, None, case);
    };
    let (kind, fact, at) = match (outage.docker, outage.removed) {
        (Some(_), Some(removed)) => (CauseKind::NetworkDisconnected, MomentFact::LinkRemoved, removed),
        (Some(told), None) => (CauseKind::NetworkDisconnected, MomentFact::DockerDisconnect, told),
        (None, _) => (CauseKind::LinkDown, MomentFact::LinkDown, outage.since()),
    };
    // It was down already when its namespace was read: when it went is not known.
    let confidence = if outage.found { Confidence::Likely } else { Confidence::Certain };
    Verdict { at, fact, confidence, ..blank(sheet, kind, outage.container.as_ref(), case) }
}

fn backend(sheet: &Sheet, case: &Case, id: &ContainerId) -> Verdict {
    let first = sheet.breaks_of(case).next();
    let leg = first.and_then(|found| found.route.proxy.as_ref()).and_then(|hop| hop.backend_leg);
    let refused = leg.and_then(|cookie| sheet.world.sockets.get(cookie)).and_then(|leg| leg.gone);
    let base = blank(sheet, CauseKind::BackendUnreachable, Some(id), case);
    Verdict { at: refused.unwrap_or(base.at), fact: MomentFact::Refused, ..base }
}

/// What broke is the answer of a server whose own look-up failed, or nothing but look-ups.
fn name_gone(sheet: &Sheet, case: &Case, lost: &Lost, server: Option<&ContainerId>) -> Verdict {
    let holder = match lost {
        Lost::Container(id) => Some(id),
        Lost::Name(_) => None,
    };
    let root = sheet.roots_of(case).next();
    let server = server.or(root.and_then(|root| root.client_container.as_ref()));
    let base = blank(sheet, CauseKind::DnsGone, server.or(holder), case);
    let failed = sheet.breaks_of(case).filter(|found| found.name.is_some()).chain(sheet.roots_of(case));
    let at = failed.map(Break::at).min().unwrap_or(base.at);
    let pid = root.map_or(base.pid, |root| root.client_pid);
    // That the one broke the other is told by their order.
    let confidence = if root.is_some() { Confidence::Likely } else { Confidence::Certain };
    Verdict { at, fact: MomentFact::DnsFailed, pid, comm: pid.and_then(|pid| comm(sheet, pid)), confidence, ..base }
}

fn kind_of(filter: &Filter) -> CauseKind {
    if filter.rejects { CauseKind::PacketRejected } else { CauseKind::PacketDropped }
}

/// The moment is the first packet that was kept away from any of the affected.
fn hindered(sheet: &Sheet, case: &Case, id: Option<&ContainerId>, kind: CauseKind, fact: MomentFact) -> Verdict {
    let base = blank(sheet, kind, id, case);
    let met = || sheet.breaks_of(case).filter_map(|found| found.met.as_ref());
    let first = met().map(|met| match met {
        Hindrance::Filter(met) => met.first,
        Hindrance::Queue { since, .. } => *since,
    });
    let seen = met().any(|met| match met {
        Hindrance::Filter(met) => met.filter.place.is_some(),
        Hindrance::Queue { seen, .. } => *seen,
    });
    let confidence = if seen { Confidence::Certain } else { Confidence::Likely };
    Verdict { at: first.min().unwrap_or(base.at), fact, confidence, ..base }
}

fn process(sheet: &Sheet, case: &Case, container: Option<&ContainerId>, pid: Option<Pid>, kind: CauseKind) -> Verdict {
    let base = blank(sheet, kind, container, case);
    let (fact, confidence) = match kind {
        CauseKind::AppClosed | CauseKind::AppAborted | CauseKind::KeepaliveRace => {
            (MomentFact::ServerClose, Confidence::Certain)
        }
        CauseKind::ServerSlow => (MomentFact::ClientClose, Confidence::Likely),
        CauseKind::ProtocolError => (MomentFact::Malformed, Confidence::Certain),
        CauseKind::OomKilled
        | CauseKind::ProcessCrashed
        | CauseKind::ProcessKilled
        | CauseKind::ProcessExited
        | CauseKind::WorkerDied
        | CauseKind::ContainerStopped
        | CauseKind::ContainerKilled
        | CauseKind::ContainerPaused
        | CauseKind::NetworkDisconnected
        | CauseKind::LinkDown
        | CauseKind::DnsGone
        | CauseKind::NotListening
        | CauseKind::BacklogOverflow
        | CauseKind::PacketDropped
        | CauseKind::PacketRejected
        | CauseKind::ClientCancelled
        | CauseKind::BackendUnreachable
        | CauseKind::Unknown => (MomentFact::ClientError, Confidence::Possible),
    };
    let first_close = sheet.breaks_of(case).filter_map(|found| {
        let end = sheet.world.sockets.get(found.route.server?)?;
        end.close.as_ref().map(|close| close.at)
    });
    let at = match fact {
        MomentFact::ServerClose => first_close.min().unwrap_or(base.at),
        _ => base.at,
    };
    let pid = pid.or(base.pid);
    Verdict { at, fact, confidence, pid, comm: pid.and_then(|pid| comm(sheet, pid)), ..base }
}
