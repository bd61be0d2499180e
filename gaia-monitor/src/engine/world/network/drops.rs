//! Packets that did not arrive: which were dropped or refused on the way, by connection, and which met a full queue.
//!
//! A packet names its ends by address, and on a published port each side knows another address of the other one: what was
//! dropped is found by the client's own address, which both sides agree on.
//!
//! Bound: [`PAIRS`] pairs of addresses, the longest known go first; [`FIRST`] and [`LAST`] packets of each, what lies
//! between is counted only; [`OVERFLOWS`] packets that met a full queue, and as many readings of the kernel's counters of
//! such packets. Beyond them a timeout is put down to silence.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use crate::model::event::{Handshake, Hook, IcmpSent, ListenCounts, ListenOverflow, PacketDropped, Unreachable};
use crate::model::ids::{ContainerId, NetnsId};
use crate::model::time::{Nanos, Stamp};

use crate::engine::world::World;
use crate::engine::world::tcp::endpoint::Endpoint;

const PAIRS: usize = 8_192;
const FIRST: usize = 16;
const LAST: usize = 16;
const REFUSALS: usize = 8;
const OVERFLOWS: usize = 4_096;
/// How long after its effect a drop may be told: a refusal leaves before the packet that it answers is thrown away.
const AFTERWARDS: Nanos = Nanos::from_millis(10);
/// A client that asks for the error of its connect at once gets it, and closes. One that waits is told by the kernel when it
/// sends the SYN again, a second later at the earliest.
const TOLD_SOFTLY: Nanos = Nanos::from_millis(500);

/// A packet that was thrown away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub at: Stamp,
    pub netns: NetnsId,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub reason: String,
    pub hook: Hook,
    pub syn: bool,
    pub payload: bool,
}

impl Dropped {
    /// A filter's doing, which somebody has set up; otherwise the kernel's own.
    #[must_use]
    pub fn is_filters(&self) -> bool {
        is_filter(&self.reason)
    }
}

/// Reasons that mean a filter of any kind.
#[must_use]
pub fn is_filter(reason: &str) -> bool {
    matches!(
        reason,
        "NETFILTER_DROP"
            | "SOCKET_FILTER"
            | "BPF_CGROUP_EGRESS"
            | "TC_EGRESS"
            | "TC_INGRESS"
            | "XDP"
            | "SECURITY_HOOK"
            | "XFRM_POLICY"
    )
}

/// A packet that was answered with an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub at: Stamp,
    pub netns: NetnsId,
    pub code: Unreachable,
}

/// The lower address first.
type Pair = (SocketAddr, SocketAddr);

#[derive(Debug, Default)]
struct Trace {
    first: Vec<Dropped>,
    last: VecDeque<Dropped>,
    refused: VecDeque<Refused>,
}

impl Trace {
    fn packets(&self) -> impl Iterator<Item = &Dropped> {
        self.first.iter().chain(&self.last)
    }
}

#[derive(Debug, Default)]
pub struct Drops {
    traces: BTreeMap<Pair, Trace>,
    /// Each pair by both its addresses.
    ends: BTreeSet<(SocketAddr, Pair)>,
    order: VecDeque<Pair>,
    overflows: VecDeque<(Stamp, ListenOverflow)>,
    counts: VecDeque<(Stamp, ListenCounts)>,
}

/// What the kernel had counted of dropped handshakes in a namespace while somebody tried to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// When that was last read.
    pub at: Stamp,
    pub netns: NetnsId,
    pub overflows: u64,
    pub drops: u64,
}

impl Drops {
    pub(in crate::engine::world) fn dropped(&mut self, at: Stamp, fact: &PacketDropped) {
        let dropped = Dropped {
            at,
            netns: fact.netns,
            source: fact.source,
            destination: fact.destination,
            reason: fact.reason.clone(),
            hook: fact.hook,
            syn: fact.syn,
            payload: fact.payload > 0,
        };
        let trace = self.trace(fact.source, fact.destination);
        if trace.first.len() < FIRST {
            trace.first.push(dropped);
            return;
        }
        trace.last.push_back(dropped);
        if trace.last.len() > LAST {
            trace.last.pop_front();
        }
    }

    pub(in crate::engine::world) fn refused(&mut self, at: Stamp, fact: &IcmpSent) {
        let refused = &mut self.trace(fact.source, fact.destination).refused;
        refused.push_back(Refused { at, netns: fact.netns, code: fact.code });
        if refused.len() > REFUSALS {
            refused.pop_front();
        }
    }

    pub(in crate::engine::world) fn overflowed(&mut self, at: Stamp, fact: &ListenOverflow) {
        self.overflows.push_back((at, fact.clone()));
        if self.overflows.len() > OVERFLOWS {
            self.overflows.pop_front();
        }
    }

    pub(in crate::engine::world) fn counted(&mut self, at: Stamp, fact: &ListenCounts) {
        self.counts.push_back((at, fact.clone()));
        if self.counts.len() > OVERFLOWS {
            self.counts.pop_front();
        }
    }

    /// Growths of a namespace's counters that fell, wholly or in part, between two instants.
    fn counts_between(
        &self,
        netns: NetnsId,
        from: Stamp,
        until: Stamp,
    ) -> impl Iterator<Item = &(Stamp, ListenCounts)> {
        self.counts.iter().filter(move |(at, counts)| counts.netns == netns && *at >= from && counts.since <= until)
    }

    /// Did the kernel count more packets at full queues than were seen there one by one? What was seen of somebody else is
    /// nobody's excuse.
    fn is_unseen(&self, at: Stamp, counts: &ListenCounts) -> bool {
        // A packet is seen a moment before it is counted.
        let from = counts.since.minus(AFTERWARDS);
        let told = |(seen, fact): &&(Stamp, ListenOverflow)| fact.netns == counts.netns && *seen >= from && *seen <= at;
        counts.overflows > self.overflows.iter().filter(told).count() as u64
    }

    /// The error that an ICMP message left for a connect while its system call was still under way: it stays on the socket as
    /// a soft one, for SO_ERROR to find, and no event tells of it (net/ipv4/tcp_ipv4.c, `tcp_v4_err`; the table is
    /// `icmp_err_convert` in net/ipv4/icmp.c).
    pub(in crate::engine::world) fn soft_error(&self, local: SocketAddr, at: Stamp) -> Option<&'static str> {
        let refused = self.at(local).flat_map(|(_, trace)| &trace.refused);
        let last = refused.filter(|refused| refused.at <= at && at.since(refused.at) <= TOLD_SOFTLY).last()?;
        Some(match last.code {
            Unreachable::Port => "ECONNREFUSED",
            Unreachable::Protocol => "ENOPROTOOPT",
            Unreachable::Network | Unreachable::NetworkProhibited => "ENETUNREACH",
            Unreachable::Host | Unreachable::HostProhibited | Unreachable::AdminProhibited => "EHOSTUNREACH",
            Unreachable::Other => return None,
        })
    }

    fn trace(&mut self, one: SocketAddr, two: SocketAddr) -> &mut Trace {
        let pair = (one.min(two), one.max(two));
        if !self.traces.contains_key(&pair) {
            self.ends.extend([(one, pair), (two, pair)]);
            self.order.push_back(pair);
            if self.order.len() > PAIRS
                && let Some(oldest) = self.order.pop_front()
            {
                self.traces.remove(&oldest);
                self.ends.remove(&(oldest.0, oldest));
                self.ends.remove(&(oldest.1, oldest));
            }
        }
        self.traces.entry(pair).or_default()
    }

    /// What was seen of connections that have an end at this address, each with the other end's address.
    fn at(&self, local: SocketAddr) -> impl Iterator<Item = (SocketAddr, &Trace)> {
        let none = SocketAddr::from(([0, 0, 0, 0], 0));
        let pairs = self.ends.range((local, (none, none))..).take_while(move |(end, _)| *end == local);
        pairs.filter_map(move |(_, pair)| {
            let other = if pair.0 == local { pair.1 } else { pair.0 };
            Some((other, self.traces.get(pair)?))
        })
    }
}

impl World {
    /// The packets of a client's connection, of either direction, that were dropped until an instant; oldest first.
    /// `container`: whose the server's address is, where it is known by another one.
    #[must_use]
    pub fn dropped_of(&self, end: &Endpoint, container: Option<&ContainerId>, until: Stamp) -> Vec<&Dropped> {
        let mine = |dropped: &&Dropped| {
            let local = end.socket.local.ip().is_loopback();
            let inside = dropped.at >= end.opened && dropped.at <= until.plus(AFTERWARDS);
            inside && (!local || dropped.netns == end.socket.netns)
        };
        let traces = self.traces_of(end, container);
        let mut found: Vec<&Dropped> = traces.into_iter().flat_map(Trace::packets).filter(mine).collect();
        found.sort_by_key(|dropped| dropped.at);
        found
    }

    /// The ICMP errors that answered packets of a client's connection.
    #[must_use]
    pub fn refused_of(&self, end: &Endpoint, container: Option<&ContainerId>, until: Stamp) -> Vec<Refused> {
        let mine = |refused: &Refused| refused.at >= end.opened && refused.at <= until.plus(AFTERWARDS);
        let traces = self.traces_of(end, container);
        traces.into_iter().flat_map(|trace| trace.refused.iter().copied()).filter(mine).collect()
    }

    fn traces_of(&self, end: &Endpoint, container: Option<&ContainerId>) -> Vec<&Trace> {
        if end.socket.local.port() == 0 {
            // Its port is told with its next change of state: whatever else came from its address to that server, and is
            // no other socket's that is known.
            let own = |other: &SocketAddr| {
                other.ip() == end.socket.local.ip() && self.sockets.client_at(end.socket.netns, *other).is_none()
            };
            return self.drops.at(end.socket.remote).filter(|(other, _)| own(other)).map(|(_, trace)| trace).collect();
        }
        let peer = self.sockets.peer(end.socket.cookie).map(|peer| peer.socket.local);
        let found = self.drops.at(end.socket.local).filter(|(other, _)| {
            let known = *other == end.socket.remote || Some(*other) == peer;
            known || container.is_some_and(|id| self.containers.of_address(other.ip(), end.opened).as_ref() == Some(id))
        });
        found.map(|(_, trace)| trace).collect()
    }

    /// Did a full queue drop this client's handshake? `Some(true)`: its own packet was seen to meet it; `Some(false)`: while
    /// it tried, the kernel counted packets at full queues of the server's namespace that were not seen there.
    #[must_use]
    pub fn overflowed(&self, end: &Endpoint, container: Option<&ContainerId>, until: Stamp) -> Option<bool> {
        let local = end.socket.local;
        let own = |packet: &Handshake| match local.port() {
            0 => packet.client.ip() == local.ip() && packet.server == end.socket.remote,
            _ => packet.client == local,
        };
        let during = |at: Stamp| at >= end.opened && at <= until.plus(AFTERWARDS);
        if self.drops.overflows.iter().any(|(at, fact)| own(&fact.packet) && during(*at)) {
            return Some(true);
        }
        let netns = self.netns_of(container)?;
        let mut counts = self.drops.counts_between(netns, end.opened, until);
        counts.any(|(at, counts)| self.drops.is_unseen(*at, counts)).then_some(false)
    }

    /// What the kernel had counted in the server's namespace while this client tried.
    #[must_use]
    pub fn counted_of(&self, end: &Endpoint, container: Option<&ContainerId>, until: Stamp) -> Option<Counted> {
        let netns = self.netns_of(container)?;
        self.drops.counts_between(netns, end.opened, until).fold(None, |sum, (at, counts)| {
            let sum = sum.unwrap_or(Counted { at: *at, netns, overflows: 0, drops: 0 });
            let overflows = sum.overflows.saturating_add(counts.overflows);
            Some(Counted { at: *at, overflows, drops: sum.drops.saturating_add(counts.drops), ..sum })
        })
    }

    fn netns_of(&self, container: Option<&ContainerId>) -> Option<NetnsId> {
        container.and_then(|id| self.containers.get(id)).and_then(|container| container.info.netns)
    }
}
