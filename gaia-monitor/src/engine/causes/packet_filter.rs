//! What kept a client's packets from their server, or the answer from the client: a packet filter, the kernel, a full queue.
//!
//! A dropped packet alone breaks nothing, TCP sends it again: it counts only where nothing got through afterwards. What
//! says so: the client got no new byte since, its own bytes stayed unacknowledged, or the last packet that was sent again
//! was dropped as well. A refusal is a filter's if the kernel sent none in its own name.

use crate::model::event::{Hook, TcpState, Unreachable};
use crate::model::ids::NetnsId;
use crate::model::time::{Nanos, Stamp};

use crate::engine::failures::table::{Break, Hindrance, Symptom};
use crate::engine::world::World;
use crate::engine::world::network::drops::{Counted, Dropped};
use crate::engine::world::tcp::endpoint::Endpoint;

/// A packet that is sent again and dropped on the spot is dropped before it is told as sent again.
const ON_THE_SPOT: Nanos = Nanos(200_000);
/// A filter's own reset and the packet that it answers are microseconds apart; a loaded machine takes its time.
const ANSWERS_WITHIN: Nanos = Nanos::from_millis(100);

/// What makes two of them one event: the same place does the same for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Filter {
    /// It answered, instead of dropping in silence.
    pub rejects: bool,
    /// `None`: only its answer was seen.
    pub place: Option<(NetnsId, String)>,
}

/// What one broken connection met.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DropEvidence {
    pub filter: Filter,
    pub hook: Option<Hook>,
    /// With which ICMP error it answered.
    pub icmp: Option<Unreachable>,
    /// The first packet of the connection that it took.
    pub first: Stamp,
}

/// What a filter, or the kernel, did to a connection that broke for its client.
#[must_use]
pub fn filter(world: &World, case: &Break) -> Option<DropEvidence> {
    let client = world.sockets.get(case.route.client)?;
    let leg = case.route.proxy.as_ref().and_then(|hop| hop.backend_leg).and_then(|cookie| world.sockets.get(cookie));
    let ends = || std::iter::once(client).chain(leg);
    match case.symptom {
        Symptom::Refused | Symptom::Unreachable => refused(world, case, client),
        Symptom::SynUnanswered => {
            let packets = world.dropped_of(client, case.route.container.as_ref(), case.at());
            met(world, case, client, (packets.last()?, false), &packets)
        }
        Symptom::Silence | Symptom::TimedOut => ends().find_map(|end| silent(world, case, end)),
        Symptom::Fin | Symptom::Reset | Symptom::ResetAfterFin => match leg.filter(|leg| leg.established.is_none()) {
            Some(leg) => refused(world, case, leg),
            None => ends().find_map(|end| reset(world, case, end)),
        },
        Symptom::Malformed | Symptom::NameRefused | Symptom::NameUnanswered | Symptom::Cancelled | Symptom::Died => {
            None
        }
    }
}

/// When a full queue had dropped the handshake: the instant of its SYN, and whether its own packet was seen there.
#[must_use]
pub fn full_queue(world: &World, case: &Break) -> Option<(Stamp, bool)> {
    // Its server's end exists only once the handshake is over.
    let end = connecting(world, case).filter(|end| end.peer.is_none())?;
    let seen = world.overflowed(end, case.route.container.as_ref(), case.at())?;
    Some((end.opened, seen))
}

/// What the kernel itself had counted of dropped handshakes, one of which may have been this one.
#[must_use]
pub fn counted(world: &World, case: &Break) -> Option<Counted> {
    let met_it = matches!(case.met, Some(Hindrance::Queue { .. })) || case.symptom == Symptom::SynUnanswered;
    let end = connecting(world, case).filter(|_| met_it)?;
    world.counted_of(end, case.route.container.as_ref(), case.at())
}

/// The end that sends the SYN to the container: docker-proxy's, where there is one.
fn connecting<'a>(world: &'a World, case: &Break) -> Option<&'a Endpoint> {
    let client = world.sockets.get(case.route.client)?;
    let leg = case.route.proxy.as_ref().and_then(|hop| hop.backend_leg).and_then(|cookie| world.sockets.get(cookie));
    Some(leg.unwrap_or(client))
}

/// A connect that was refused: by a filter unless the kernel did it in its own name, for a closed port.
fn refused(world: &World, case: &Break, end: &Endpoint) -> Option<DropEvidence> {
    let cookie = end.socket.cookie;
    if world.sockets.hit_closed_port(cookie) {
        return None;
    }
    let container = case.route.container.as_ref();
    let packets = world.dropped_of(end, container, case.at());
    if let Some(last) = packets.last() {
        // A connect that nobody answered ends by the kernel's own patience.
        let answered = end.errno.as_deref() != Some("ETIMEDOUT");
        return met(world, case, end, (last, answered), &packets);
    }
    let port = case.route.address.port();
    let listens = container.and_then(|id| world.containers.get(id)).is_some_and(|c| c.listening.contains_key(&port));
    let by_reset = end.errno.as_deref() == Some("ECONNREFUSED");
    (listens && by_reset).then(|| unseen(case))
}

/// A reset that reached one of the ends, and that the other one did not send.
fn reset(world: &World, case: &Break, end: &Endpoint) -> Option<DropEvidence> {
    let server = world.sockets.peer(end.socket.cookie)?;
    let packets = world.dropped_of(end, case.route.container.as_ref(), case.at());
    let near = |at: Stamp| {
        let near = |dropped: &&&Dropped| dropped.is_filters() && at.since(dropped.at).0.abs() <= ANSWERS_WITHIN.0;
        packets.iter().rev().find(near).copied()
    };
    // The server is told first where its own packets are the ones that are refused.
    if let Some((at, _)) = server.rst_in.filter(|_| end.rst_out.is_none() && end.close.is_none())
        && let Some(dropped) = near(at)
    {
        return met(world, case, end, (dropped, true), &packets);
    }
    let (at, _) = end.rst_in?;
    let sent = server.close.is_some() || server.rst_out.is_some() || world.sockets.hit_closed_port(end.socket.cookie);
    if sent {
        return None;
    }
    match near(at) {
        Some(dropped) => met(world, case, end, (dropped, true), &packets),
        None => (server.gone.is_none() && server.state == TcpState::Established).then(|| unseen(case)),
    }
}

/// A connection on which nothing came any more: did a drop see to it?
fn silent(world: &World, case: &Break, end: &Endpoint) -> Option<DropEvidence> {
    let packets = world.dropped_of(end, case.route.container.as_ref(), case.at());
    let last = packets.last()?;
    if end.established.is_none() {
        return met(world, case, end, (last, false), &packets);
    }
    let peer = world.sockets.peer(end.socket.cookie);
    let to_client = |dropped: &&&Dropped| dropped.destination == end.socket.local;
    let answer = packets.iter().rev().find(|dropped| to_client(dropped) && dropped.payload).copied();
    let asked = packets.iter().rev().find(|dropped| !to_client(dropped)).copied();
    let nothing_since = |dropped: &Dropped| end.last_received.is_none_or(|received| received < dropped.at);
    // The sender's last attempt, where there was another one, went the same way. What it tried when the client had given up
    // says nothing: the filter may have been lifted by then.
    let same_way = |last: Stamp, dropped: &Dropped| last.minus(ON_THE_SPOT) <= dropped.at || last > case.at();
    let last_try = |sender: Option<&Endpoint>, dropped: &Dropped| {
        sender.and_then(|sender| sender.retransmits).is_none_or(|again| same_way(again.last, dropped))
    };
    let lost_answer = answer.filter(|dropped| nothing_since(dropped) && last_try(peer, dropped));
    let sent = packets.iter().rev().find(|dropped| !to_client(dropped) && dropped.payload).copied();
    let lost_bytes = sent.filter(|dropped| end.is_unacknowledged(dropped.at));
    let lost_bytes = lost_bytes.or((end.unacknowledged > 0).then_some(*last));
    // Acknowledgements that do not arrive: the server sends again what the client has long had.
    let lost_word = asked.filter(|dropped| {
        let again = peer.and_then(|peer| peer.retransmits);
        let unheard = again.is_some_and(|again| {
            packets.first().is_some_and(|first| again.last > first.at) && same_way(again.last, dropped)
        });
        let unsent = end.close.is_none() && dropped.payload && last_try(Some(end), dropped);
        unheard || unsent
    });
    let dropped = lost_answer.or(lost_bytes).or(lost_word)?;
    met(world, case, end, (dropped, was_reset(world, end)), &packets)
}

/// `answered`: the client, or its server, was told.
fn met(
    world: &World,
    case: &Break,
    end: &Endpoint,
    (deciding, answered): (&Dropped, bool),
    packets: &[&Dropped],
) -> Option<DropEvidence> {
    let alike = |dropped: &&&Dropped| dropped.netns == deciding.netns && dropped.reason == deciding.reason;
    // What was dropped and came through in the end, before this request, was another matter.
    let since = if case.symptom == Symptom::Silence { case.begun } else { end.opened };
    let first = packets.iter().filter(alike).find(|dropped| dropped.at >= since);
    let refused = world.refused_of(end, case.route.container.as_ref(), case.at());
    let icmp = refused.iter().find(|refused| refused.netns == deciding.netns).map(|refused| refused.code);
    Some(DropEvidence {
        filter: Filter {
            rejects: deciding.is_filters() && (answered || icmp.is_some()),
            place: Some((deciding.netns, deciding.reason.clone())),
        },
        hook: Some(deciding.hook),
        icmp,
        first: first.map_or(deciding.at, |dropped| dropped.at),
    })
}

/// Did the server's end get a reset that its client did not send?
fn was_reset(world: &World, end: &Endpoint) -> bool {
    let Some((at, _)) = world.sockets.peer(end.socket.cookie).and_then(|server| server.rst_in) else { return false };
    end.rst_out.is_none() && end.close.as_ref().is_none_or(|close| close.at > at)
}

/// Only the answer was seen.
fn unseen(case: &Break) -> DropEvidence {
    DropEvidence { filter: Filter { rejects: true, place: None }, hook: None, icmp: None, first: case.at() }
}
