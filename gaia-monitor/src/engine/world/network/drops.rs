//! Packets that did not arrive: dropped or refused on their path, by connection, or dropped at a full accept queue.
//!
//! A packet carries two addresses, and on a published port each endpoint sees a different address of its peer. Packets
//! are therefore looked up by the client's own address, which is the same for both.
//!
//! Bound: [`PAIRS_CAP`] pairs of addresses; when reached, the oldest pair is evicted. [`FIRST_PACKETS`] and
//! [`LAST_PACKETS`] packets and [`REFUSALS_CAP`] ICMP errors of each pair; packets in between are not kept.
//! [`OVERFLOWS_CAP`] packets at full accept queues, and as many readings of the kernel's counters; when reached, the
//! oldest is evicted. Without its packets a timeout is attributed to silence.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use crate::model::event::{AcceptQueueCounts, AcceptQueueFull, Handshake, Hook, IcmpSent, PacketDropped, Unreachable};
use crate::model::ids::{ContainerId, NetnsId};
use crate::model::time::{Nanos, Stamp};

use crate::engine::world::World;
use crate::engine::world::tcp::endpoint::Endpoint;

const PAIRS_CAP: usize = 8_192;
const FIRST_PACKETS: usize = 16;
const LAST_PACKETS: usize = 16;
const REFUSALS_CAP: usize = 8;
const OVERFLOWS_CAP: usize = 4_096;
/// How long after its effect a drop may be reported: an ICMP error is sent before the refused packet is dropped.
const REPORT_DELAY: Nanos = Nanos::from_millis(10);
/// How long a soft error explains a close. A client that reads the error of its connect immediately gets it, and
/// closes; one that waits gets it from the kernel with the retransmitted SYN, one second later at the earliest.
const SOFT_ERROR_WINDOW: Nanos = Nanos::from_millis(500);

/// A dropped packet.
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
    /// Whether a configured filter dropped it; otherwise the kernel dropped it for its own reasons.
    #[must_use]
    pub fn is_filters(&self) -> bool {
        is_filter(&self.reason)
    }
}

/// Whether a drop reason means a filter of any kind.
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

/// A packet refused by an ICMP error.
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
    /// Every pair, by both of its addresses.
    by_address: BTreeSet<(SocketAddr, Pair)>,
    arrived: VecDeque<Pair>,
    overflows: VecDeque<(Stamp, AcceptQueueFull)>,
    counts: VecDeque<(Stamp, AcceptQueueCounts)>,
}

/// Dropped handshakes that the kernel counted in a namespace during a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueCounts {
    /// When the counters were last read.
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
        let trace = self.trace_mut(fact.source, fact.destination);
        if trace.first.len() < FIRST_PACKETS {
            trace.first.push(dropped);
            return;
        }
        trace.last.push_back(dropped);
        if trace.last.len() > LAST_PACKETS {
            trace.last.pop_front();
        }
    }

    pub(in crate::engine::world) fn refused(&mut self, at: Stamp, fact: &IcmpSent) {
        let refused = &mut self.trace_mut(fact.source, fact.destination).refused;
        refused.push_back(Refused { at, netns: fact.netns, code: fact.code });
        if refused.len() > REFUSALS_CAP {
            refused.pop_front();
        }
    }

    pub(in crate::engine::world) fn overflowed(&mut self, at: Stamp, fact: &AcceptQueueFull) {
        self.overflows.push_back((at, fact.clone()));
        if self.overflows.len() > OVERFLOWS_CAP {
            self.overflows.pop_front();
        }
    }

    pub(in crate::engine::world) fn counted(&mut self, at: Stamp, fact: &AcceptQueueCounts) {
        self.counts.push_back((at, fact.clone()));
        if self.counts.len() > OVERFLOWS_CAP {
            self.counts.pop_front();
        }
    }

    /// Increments of a namespace's counters that overlap a period.
    fn counts_between(
        &self,
        netns: NetnsId,
        from: Stamp,
        until: Stamp,
    ) -> impl Iterator<Item = &(Stamp, AcceptQueueCounts)> {
        self.counts.iter().filter(move |(at, counts)| counts.netns == netns && *at >= from && counts.since <= until)
    }

    /// Whether the kernel counted more packets at full queues than were reported one by one. Packets reported for other
    /// clients are subtracted, because they do not explain this client's failure.
    fn has_unseen(&self, at: Stamp, counts: &AcceptQueueCounts) -> bool {
        // A packet is reported just before the kernel counts it.
        let from = counts.since.minus(REPORT_DELAY);
        let is_counted =
            |(seen, fact): &&(Stamp, AcceptQueueFull)| fact.netns == counts.netns && *seen >= from && *seen <= at;
        counts.overflows > self.overflows.iter().filter(is_counted).count() as u64
    }

    /// The error that an ICMP message stored on a connecting socket while its system call was in progress: a soft
    /// error, which SO_ERROR returns and no event reports (net/ipv4/tcp_ipv4.c, `tcp_v4_err`; the table is
    /// `icmp_err_convert` in net/ipv4/icmp.c).
    pub(in crate::engine::world) fn soft_error(&self, local: SocketAddr, at: Stamp) -> Option<&'static str> {
        let refused = self.at(local).flat_map(|(_, trace)| &trace.refused);
        let last = refused.filter(|refused| refused.at <= at && at.since(refused.at) <= SOFT_ERROR_WINDOW).last()?;
        Some(match last.code {
            Unreachable::Port => "ECONNREFUSED",
            Unreachable::Protocol => "ENOPROTOOPT",
            Unreachable::Network | Unreachable::NetworkProhibited => "ENETUNREACH",
            Unreachable::Host | Unreachable::HostProhibited | Unreachable::AdminProhibited => "EHOSTUNREACH",
            Unreachable::Other => return None,
        })
    }

    fn trace_mut(&mut self, first: SocketAddr, second: SocketAddr) -> &mut Trace {
        let pair = (first.min(second), first.max(second));
        if !self.traces.contains_key(&pair) {
            self.by_address.extend([(first, pair), (second, pair)]);
            self.arrived.push_back(pair);
            if self.arrived.len() > PAIRS_CAP
                && let Some(oldest) = self.arrived.pop_front()
            {
                self.traces.remove(&oldest);
                self.by_address.remove(&(oldest.0, oldest));
                self.by_address.remove(&(oldest.1, oldest));
            }
        }
        self.traces.entry(pair).or_default()
    }

    /// The packets of connections with an endpoint at this address, each with the peer's address.
    fn at(&self, local: SocketAddr) -> impl Iterator<Item = (SocketAddr, &Trace)> {
        let none = SocketAddr::from(([0, 0, 0, 0], 0));
        let pairs = self.by_address.range((local, (none, none))..).take_while(move |(endpoint, _)| *endpoint == local);
        pairs.filter_map(move |(_, pair)| {
            let other = if pair.0 == local { pair.1 } else { pair.0 };
            Some((other, self.traces.get(pair)?))
        })
    }
}

impl World {
    /// Dropped packets of a client's connection, in both directions, up to an instant; oldest first. `container`: the
    /// server, if it has another address than the one the client used.
    #[must_use]
    pub fn dropped_of(&self, endpoint: &Endpoint, container: Option<&ContainerId>, until: Stamp) -> Vec<&Dropped> {
        let is_own = |dropped: &&Dropped| {
            let local = endpoint.socket.local.ip().is_loopback();
            let inside = dropped.at >= endpoint.opened && dropped.at <= until.plus(REPORT_DELAY);
            inside && (!local || dropped.netns == endpoint.socket.netns)
        };
        let traces = self.traces_of(endpoint, container);
        let mut found: Vec<&Dropped> = traces.into_iter().flat_map(Trace::packets).filter(is_own).collect();
        found.sort_by_key(|dropped| dropped.at);
        found
    }

    /// The ICMP errors sent for packets of a client's connection.
    #[must_use]
    pub fn refused_of(&self, endpoint: &Endpoint, container: Option<&ContainerId>, until: Stamp) -> Vec<Refused> {
        let is_own = |refused: &Refused| refused.at >= endpoint.opened && refused.at <= until.plus(REPORT_DELAY);
        let traces = self.traces_of(endpoint, container);
        traces.into_iter().flat_map(|trace| trace.refused.iter().copied()).filter(is_own).collect()
    }

    fn traces_of(&self, endpoint: &Endpoint, container: Option<&ContainerId>) -> Vec<&Trace> {
        if endpoint.socket.local.port() == 0 {
            // The port is reported with the next change of state. Until then: every packet from the client's address to
            // this server that belongs to no known socket.
            let is_own = |other: &SocketAddr| {
                other.ip() == endpoint.socket.local.ip()
                    && self.sockets.client_at(endpoint.socket.netns, *other).is_none()
            };
            return self
                .drops
                .at(endpoint.socket.remote)
                .filter(|(other, _)| is_own(other))
                .map(|(_, trace)| trace)
                .collect();
        }
        let peer = self.sockets.peer(endpoint.socket.cookie).map(|peer| peer.socket.local);
        let found = self.drops.at(endpoint.socket.local).filter(|(other, _)| {
            let is_peer = *other == endpoint.socket.remote || Some(*other) == peer;
            is_peer
                || container
                    .is_some_and(|id| self.containers.of_address(other.ip(), endpoint.opened).as_ref() == Some(id))
        });
        found.map(|(_, trace)| trace).collect()
    }

    /// Whether a full accept queue dropped this client's handshake. `Some(true)`: the drop of its own packet was
    /// reported; `Some(false)`: during the connect, the kernel counted packets at full queues of the server's namespace
    /// that were not reported one by one.
    #[must_use]
    pub fn overflowed(&self, endpoint: &Endpoint, container: Option<&ContainerId>, until: Stamp) -> Option<bool> {
        let local = endpoint.socket.local;
        let is_own = |packet: &Handshake| match local.port() {
            0 => packet.client.ip() == local.ip() && packet.server == endpoint.socket.remote,
            _ => packet.client == local,
        };
        let during = |at: Stamp| at >= endpoint.opened && at <= until.plus(REPORT_DELAY);
        if self.drops.overflows.iter().any(|(at, fact)| is_own(&fact.packet) && during(*at)) {
            return Some(true);
        }
        let netns = self.netns_of(container)?;
        let mut counts = self.drops.counts_between(netns, endpoint.opened, until);
        counts.any(|(at, counts)| self.drops.has_unseen(*at, counts)).then_some(false)
    }

    /// Dropped handshakes that the kernel counted in the server's namespace during this client's connect.
    #[must_use]
    pub fn counted_of(
        &self,
        endpoint: &Endpoint,
        container: Option<&ContainerId>,
        until: Stamp,
    ) -> Option<QueueCounts> {
        let netns = self.netns_of(container)?;
        self.drops.counts_between(netns, endpoint.opened, until).fold(None, |sum, (at, counts)| {
            let sum = sum.unwrap_or(QueueCounts { at: *at, netns, overflows: 0, drops: 0 });
            let overflows = sum.overflows.saturating_add(counts.overflows);
            Some(QueueCounts { at: *at, overflows, drops: sum.drops.saturating_add(counts.drops), ..sum })
        })
    }

    fn netns_of(&self, container: Option<&ContainerId>) -> Option<NetnsId> {
        container.and_then(|id| self.containers.get(id)).and_then(|container| container.info.netns)
    }
}
