//! Whose doing a broken connection was. A pure query to the world, asked anew whenever a fact comes that may
//! change the answer.

use std::net::IpAddr;

use crate::model::ids::{ContainerId, Pid};
use crate::model::incident::{CauseKind, Phase};
use crate::model::time::{Nanos, Stamp};

use crate::engine::causes::packet_filter::{self, DropEvidence};
use crate::engine::failures::table::{Break, BreakId, Breaks, Symptom};
use crate::engine::types::cause::Lost;
use crate::engine::world::World;
use crate::engine::world::network::outages::OutageId;
use crate::engine::world::network::reachability::Unanswered;
use crate::engine::world::tcp::endpoint::{Close, Endpoint};
use crate::engine::world::terminations::TerminationId;

/// How long the exit of a process that closed while dying is waited for: up to Linux 6.15 it is told after the
/// sockets have closed, 214 ms for a process of 3 GB.
const EXIT_FOLLOWS: Nanos = Nanos::from_millis(250);

/// Broken connections that are searched for the root of a chain, the latest first.
const CHAIN_REACH: usize = 1_024;

/// What a broken connection is put down to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blame {
    Termination(TerminationId),
    /// A process that served, and was not its container's first, died.
    Worker(Pid),
    Paused(ContainerId, Stamp),
    /// The way between client and server was cut: an interface or a bridge was down or gone.
    Outage(OutageId),
    /// The container runs and its port is closed.
    NotListening(ContainerId, u16),
    /// docker-proxy accepted, and nothing listens behind it.
    Backend(ContainerId, u16),
    /// A name is gone, and no event of a container says why.
    NameGone(Lost),
    /// A packet filter, or the kernel, kept its packets away. Without a container the server is outside this host.
    Filtered(Option<ContainerId>, Box<DropEvidence>),
    /// The server's queue was full: since when this connect tried, and whether its packet was seen to meet it.
    Backlog(ContainerId, Stamp, bool),
    /// A living process, by cause.
    Process(Option<ContainerId>, Option<Pid>, CauseKind),
    /// The client's own process or will.
    Client(Option<ContainerId>, Option<Pid>),
    /// What broke the server's own connection to another container; false: other causes broke others of them, too.
    Chain(BreakId, bool),
    /// The server's own look-up failed.
    OwnLookUp(BreakId),
    /// The decisive fact may still come.
    Wait(Pid, Stamp),
    Nothing,
}

/// The verdict on one broken connection, with the reason in words.
#[must_use]
pub fn judge(world: &World, breaks: &Breaks, case: &Break, now: Stamp) -> (Blame, String) {
    let at = case.at();
    match case.symptom {
        Symptom::Cancelled => {
            let reason = "the client left first, with an answer owed".to_owned();
            (Blame::Client(case.client_container.clone(), case.client_pid), reason)
        }
        Symptom::Died => of_client_death(world, case),
        Symptom::Refused | Symptom::Unreachable | Symptom::SynUnanswered => connect(world, case, now),
        Symptom::NameRefused | Symptom::NameUnanswered => look_up(world, case, at),
        Symptom::Silence => silence(world, breaks, case, at),
        Symptom::Fin | Symptom::Reset | Symptom::ResetAfterFin | Symptom::TimedOut | Symptom::Malformed => {
            cut(world, breaks, case, now)
        }
    }
}

fn of_client_death(world: &World, case: &Break) -> (Blame, String) {
    let Some(pid) = case.client_pid else { return (Blame::Nothing, "an unknown client died".to_owned()) };
    let termination = case.client_container.as_ref().and_then(|id| world.terminations.current(id, case.at()));
    let reason = format!("the client's own process {pid} died with the answer owed");
    match termination {
        Some(termination) => (Blame::Termination(termination.id), reason),
        None => (Blame::Client(case.client_container.clone(), Some(pid)), reason),
    }
}

/// A container event that explains what one met at this container's address.
fn container_event(world: &World, id: &ContainerId, at: Stamp) -> Option<(Blame, String)> {
    let container = world.containers.get(id)?;
    let name = &container.info.name;
    if let Some(termination) = world.terminations.current(id, at) {
        return Some((Blame::Termination(termination.id), format!("{name} was going down, or down")));
    }
    let period = container.paused_at(at)?;
    Some((Blame::Paused(id.clone(), period.since), format!("{name} stood still")))
}

/// The way between client and server was cut, at either end or between.
fn cut_off(world: &World, case: &Break) -> Option<(Blame, String)> {
    let received = world.sockets.get(case.route.client).and_then(|end| end.last_received);
    let asked = Unanswered { begun: case.begun, at: case.at(), received };
    let client = case.client_container.clone().zip(case.entry.client.ip);
    outage(world, case, client, asked)
}

fn outage(
    world: &World,
    case: &Break,
    client: Option<(ContainerId, IpAddr)>,
    asked: Unanswered,
) -> Option<(Blame, String)> {
    let server = case.route.container.clone().map(|id| (id, case.route.address.ip()));
    let ends: Vec<_> = server.into_iter().chain(client).collect();
    let outage = world.outage_between(&ends, asked)?;
    Some((Blame::Outage(outage.id), format!("the way was cut at {}", outage.name)))
}

fn look_up(world: &World, case: &Break, at: Stamp) -> (Blame, String) {
    let name = case.name.as_deref().unwrap_or_default();
    let Some(id) = &case.route.container else {
        let reason = format!("no container of this host ever had the name {name}, which an environment names");
        return (Blame::NameGone(Lost::Name(name.to_owned())), reason);
    };
    let holder = world.containers.get(id).map_or(id.short(), |container| container.info.name.as_str());
    if let Some(termination) = world.terminations.current(id, at) {
        return (
            Blame::Termination(termination.id),
            format!("{holder}, which had the name {name}, was going down, or down"),
        );
    }
    let cut_off = case.client_container.as_ref().and_then(|client| world.cut_off(name, id, client, at));
    if let Some(outage) = cut_off {
        let who = outage.container.as_ref().and_then(|id| world.containers.get(id));
        let cut = who.map_or(outage.name.as_str(), |container| container.info.name.as_str());
        return (Blame::Outage(outage.id), format!("{cut} was off the network on which {name} is known"));
    }
    let reason = format!("the name {name} of {holder} was not answered, and no event of a container says why");
    (Blame::NameGone(Lost::Container(id.clone())), reason)
}

fn connect(world: &World, case: &Break, now: Stamp) -> (Blame, String) {
    let at = case.at();
    let unanswered = case.symptom != Symptom::Refused;
    let Some(id) = &case.route.container else {
        let nothing = || (Blame::Nothing, "the address belongs to no container of this host".to_owned());
        let cut = cut_off(world, case).filter(|_| unanswered);
        return cut.or_else(|| filtered(world, case)).unwrap_or_else(nothing);
    };
    let cut = || cut_off(world, case).filter(|_| unanswered);
    if let Some(found) = container_event(world, id, at).or_else(cut).or_else(|| filtered(world, case)) {
        return found;
    }
    if case.symptom == Symptom::Refused {
        let port = case.route.address.port();
        let orphan = world.containers.get(id).and_then(|container| container.orphaned_by(port, at));
        if let Some(pid) = orphan {
            if world.processes.get(pid).is_some_and(|process| process.exit.is_some()) {
                return (Blame::Worker(pid), format!("the port closed when process {pid} died"));
            }
            let deadline = case.seen.plus(EXIT_FOLLOWS);
            if now < deadline {
                return (Blame::Wait(pid, deadline), format!("process {pid} is dying, its exit is not told yet"));
            }
            return unknown(Some(id.clone()), "the port closed with a dying process whose exit was not seen");
        }
        return (Blame::NotListening(id.clone(), port), "the container runs and its port is closed".to_owned());
    }
    if case.symptom == Symptom::SynUnanswered
        && let Some(found) = full_queue(world, case, id)
    {
        return found;
    }
    let reason = "nothing answered at the address, and nothing seen says why".to_owned();
    (Blame::Process(Some(id.clone()), None, CauseKind::Unknown), reason)
}

/// What kept its packets away, as a verdict.
fn filtered(world: &World, case: &Break) -> Option<(Blame, String)> {
    let met = packet_filter::filter(world, case)?;
    let verb = if met.filter.rejects { "refused" } else { "dropped" };
    let reason = match &met.filter.place {
        Some((_, reason)) => format!("its packets were {verb} on the way ({reason})"),
        None => "it was refused, and no socket and no closed port had done it".to_owned(),
    };
    let subject = case.route.container.clone().or_else(|| case.client_container.clone());
    Some((Blame::Filtered(subject, Box::new(met)), reason))
}

fn full_queue(world: &World, case: &Break, id: &ContainerId) -> Option<(Blame, String)> {
    let (since, seen) = packet_filter::full_queue(world, case)?;
    Some((Blame::Backlog(id.clone(), since, seen), "the queue of new connections was full".to_owned()))
}

fn silence(world: &World, breaks: &Breaks, case: &Break, at: Stamp) -> (Blame, String) {
    let Some(id) = &case.route.container else {
        let slow = || (Blame::Nothing, "a server outside this host was slow".to_owned());
        return cut_off(world, case).or_else(|| filtered(world, case)).unwrap_or_else(slow);
    };
    // What began during the silence explains it, too: the instant of leaving is only its end.
    if let Some(found) = container_event(world, id, at).or_else(|| cut_off(world, case)) {
        return found;
    }
    let container = world.containers.get(id);
    let during = |since: Stamp, until: Option<Stamp>| since <= at && until.is_none_or(|until| until > case.begun);
    if let Some(period) = container.and_then(|c| c.pauses.iter().rev().find(|s| during(s.since, s.until))) {
        return (Blame::Paused(id.clone(), period.since), "it stood still meanwhile".to_owned());
    }
    if let Some(found) = filtered(world, case).or_else(|| full_queue(world, case, id)) {
        return found;
    }
    let pid = server(world, case).and_then(|end| end.owner.as_ref()).map(|task| task.pid);
    if let Some(found) = upstream(breaks, case, pid, at) {
        return found;
    }
    let reason = "client and server lived, and the server was silent".to_owned();
    (Blame::Process(Some(id.clone()), pid, CauseKind::ServerSlow), reason)
}

fn server<'a>(world: &'a World, case: &Break) -> Option<&'a Endpoint> {
    case.route.server.and_then(|cookie| world.sockets.get(cookie))
}

fn cut(world: &World, breaks: &Breaks, case: &Break, now: Stamp) -> (Blame, String) {
    let at = case.at();
    let container = case.route.container.clone();
    if let Some(hop) = &case.route.proxy {
        let leg = hop.backend_leg.and_then(|cookie| world.sockets.get(cookie));
        if leg.is_none_or(|leg| leg.established.is_none()) {
            let Some(id) = container else { return (Blame::Nothing, "a proxy of no known container".to_owned()) };
            let met = leg.map_or(at, |leg| leg.gone.unwrap_or(leg.opened));
            let asked = Unanswered { begun: leg.map_or(met, |leg| leg.opened), at: met, received: None };
            let cut = || outage(world, case, None, asked).or_else(|| filtered(world, case));
            let found = container_event(world, &id, met).or_else(cut);
            return found.or_else(|| full_queue(world, case, &id)).unwrap_or_else(|| {
                let port = case.route.address.port();
                (Blame::Backend(id.clone(), port), "docker-proxy accepted, and nothing listened behind it".to_owned())
            });
        }
    }
    let event = || {
        let cut = || cut_off(world, case).filter(|_| case.symptom == Symptom::TimedOut);
        container.as_ref().and_then(|id| container_event(world, id, at)).or_else(cut)
    };
    let Some(end) = server(world, case) else {
        return match event().or_else(|| filtered(world, case)) {
            Some(found) => found,
            None if container.is_none() && asked_in_vain(world, case) => {
                unknown(None, "a server outside this host gave no byte of the answer that it owed")
            }
            None if container.is_none() => (Blame::Nothing, "the server is outside this host".to_owned()),
            None => unknown(container, "the server's end of the connection was not seen"),
        };
    };
    let pid = end.owner.as_ref().map(|task| task.pid);
    if case.symptom == Symptom::Malformed {
        let kind = CauseKind::ProtocolError;
        return (Blame::Process(container, pid, kind), "the answer broke the framing of HTTP/1.x".to_owned());
    }
    match &end.close {
        Some(close) if close.task.exiting => by_dying(world, case, close, now),
        Some(close) => by_living(world, breaks, case, end, close),
        None => {
            if let Some(found) = event().or_else(|| filtered(world, case)) {
                return found;
            }
            unknown(container, "the client's end got it, and the server's end had not closed")
        }
    }
}

/// Plain HTTP was asked for, and nothing has come since: an answer was owed, wherever the server is.
fn asked_in_vain(world: &World, case: &Break) -> bool {
    let Some(end) = world.sockets.get(case.route.client) else { return false };
    let silent = end.http.begun_at.is_some_and(|asked| end.last_received.is_none_or(|received| received < asked));
    !end.http.opaque && silent
}

fn by_dying(world: &World, case: &Break, close: &Close, now: Stamp) -> (Blame, String) {
    let pid = close.task.pid;
    let process = world.processes.get(pid);
    if process.is_some_and(|process| process.entered) {
        return (Blame::Nothing, "the server's process had entered through exec or a health check".to_owned());
    }
    let container = world.container_of(pid).or_else(|| case.route.container.clone());
    // Not the instant of the close: a big process closes long after its exit, and its successor may run by then.
    let termination = container.as_ref().and_then(|id| {
        world.terminations.of_container(id).rev().find(|termination| {
            let mine = termination.pid == Some(pid) || termination.root == Some(pid);
            mine || (termination.since() <= close.at && termination.recovered.is_none_or(|over| over > close.at))
        })
    });
    if let Some(termination) = termination {
        return (Blame::Termination(termination.id), format!("process {pid} closed the connection while it died"));
    }
    if process.is_some_and(|process| process.exit.is_some()) {
        return (Blame::Worker(pid), format!("process {pid} closed the connection while it died; its container lives"));
    }
    let deadline = case.seen.plus(EXIT_FOLLOWS);
    if now < deadline {
        return (Blame::Wait(pid, deadline), format!("process {pid} is dying, its exit is not told yet"));
    }
    unknown(case.route.container.clone(), "the server's process closed while it died, and its exit was not seen")
}

fn by_living(world: &World, breaks: &Breaks, case: &Break, end: &Endpoint, close: &Close) -> (Blame, String) {
    let container = case.route.container.clone();
    let pid = Some(close.task.pid);
    let asked = container.as_ref().and_then(|id| world.terminations.current(id, close.at));
    if let Some(termination) = asked {
        return (Blame::Termination(termination.id), "the server closed while its container was going down".to_owned());
    }
    if raced(case, end, close) {
        let kind = CauseKind::KeepaliveRace;
        return (
            Blame::Process(container, pid, kind),
            "the server closed the idle connection before it read the request".to_owned(),
        );
    }
    if let Some(found) = upstream(breaks, case, pid, close.at) {
        return found;
    }
    let kind = if close.reset { CauseKind::AppAborted } else { CauseKind::AppClosed };
    let verb = if close.reset { "reset" } else { "closed" };
    (Blame::Process(container, pid, kind), format!("process {} lived and {verb} the connection", close.task.pid))
}

/// The server closed what was idle to it: an exchange was complete, and of the next request it had read nothing.
fn raced(case: &Break, end: &Endpoint, close: &Close) -> bool {
    if end.http.complete == 0 {
        return false;
    }
    if close.at <= case.begun {
        return true;
    }
    let unanswered = end.http.begun == end.http.complete;
    let untouched = match close.last_read {
        Some(read) => read < case.begun,
        // Without the last read's time unread bytes may be all of the request or its tail; of an upload, most likely the tail.
        None => case.entry.client_error.phase != Phase::Sending,
    };
    unanswered && close.unread > 0 && untouched
}

/// A chain: between the request's first byte and the cut, a connection of the same process to another container broke, or
/// a look-up of it failed. Of several, the latest is the nearest to the cut; whether all of them have one cause is said
/// beside it.
fn upstream(breaks: &Breaks, case: &Break, server: Option<Pid>, until: Stamp) -> Option<(Blame, String)> {
    let mut roots = own_failures(breaks, case, server?, until);
    let root = roots.next()?;
    let alone = roots.all(|other| other.case == root.case);
    Some(match &root.name {
        Some(name) => (Blame::OwnLookUp(root.id), format!("the server's own look-up of {name} had failed before")),
        None => {
            let reason = "the server's own connection to another container had broken before";
            (Blame::Chain(root.id, alone), reason.to_owned())
        }
    })
}

/// What had failed a server that then died over the request by itself: why it died, if it did so by itself.
#[must_use]
pub fn failed_before_its_end(breaks: &Breaks, case: &Break) -> Option<BreakId> {
    let server = case.entry.server.pid?;
    own_failures(breaks, case, server, case.at()).map(|root| root.id).next()
}

/// What broke of a server's own, to another container, between the request's first byte and `until`. The latest comes first.
fn own_failures<'a>(breaks: &'a Breaks, case: &'a Break, server: Pid, until: Stamp) -> impl Iterator<Item = &'a Break> {
    breaks.latest().take(CHAIN_REACH).filter(move |root| {
        let meanwhile = root.at() >= case.begun && root.at() <= until;
        let broke_its_own = root.id != case.id && root.client_pid == Some(server) && root.hurts();
        broke_its_own && meanwhile && root.case.is_some() && root.route.container != case.route.container
    })
}

fn unknown(container: Option<ContainerId>, reason: &str) -> (Blame, String) {
    (Blame::Process(container, None, CauseKind::Unknown), reason.to_owned())
}
