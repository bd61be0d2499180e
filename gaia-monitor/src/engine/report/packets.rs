//! Text about packets that were not delivered: the place that dropped or rejected them, and the effect on both
//! endpoints.

use crate::engine::causes::accept_queue;
use crate::engine::failures::table::Failure;
use crate::engine::incidents::case::Case;
use crate::engine::types::evidence::{DropEvidence, Evidence};
use crate::engine::world::network::drops::is_filter;
use crate::engine::world::tcp::endpoint::Endpoint;
use crate::model::event::{Hook, Unreachable};
use crate::model::ids::NetnsId;
use crate::model::incident::{CounterKind, TimelineSource, name_of};
use crate::model::time::Stamp;

use crate::engine::context::Context;
use crate::engine::report::timeline::TimelineLine;

/// The predicate of the summary: what happened to the packets, by which filter, in which namespace.
pub fn summary(ctx: Context, case: &Case) -> String {
    let met = ctx.failures_of(case).find_map(|failure| match &failure.evidence {
        Evidence::Drop(evidence) => Some((evidence, failure.at())),
        _ => None,
    });
    let Some((met, at)) = met else { return "packets of its connections do not arrive".to_owned() };
    let action = match (met.filter.rejects, met.icmp) {
        (false, _) => "dropped".to_owned(),
        (true, None) => "rejected".to_owned(),
        (true, Some(code)) => format!("rejected with ICMP ({})", icmp(code)),
    };
    match &met.filter.place {
        Some((netns, reason)) => {
            format!("packets of its connections are {action} by {} {}", dropper(reason), place(ctx, *netns, met, at))
        }
        None => format!("its connections are {action} by a packet filter: no socket and no closed port sent the RST"),
    }
}

/// Timeline entries of one failure about its packets: dropped, rejected, retransmitted, or met by a full accept queue.
pub fn steps(ctx: Context, failure: &Failure, client: &str, server: &str, lines: &mut Vec<TimelineLine>) {
    let leg = failure.route.proxy.as_ref().and_then(|hop| hop.backend_leg);
    for cookie in [Some(failure.route.client), leg].into_iter().flatten() {
        let Some(endpoint) = ctx.world.sockets.get(cookie) else { continue };
        dropped(ctx, failure, endpoint, (client, server), lines);
        retransmitted(endpoint, client, lines);
        if let Some(peer) = ctx.world.sockets.peer(cookie) {
            retransmitted(peer, server, lines);
        }
    }
    if let Evidence::AcceptQueue { since, observed } = &failure.evidence {
        let how =
            if *observed { "met a full accept queue" } else { "got no response while the accept queue overflowed" };
        lines.push(TimelineLine::new(*since, TimelineSource::Tcp, format!("the SYN of {client} to {server} {how}")));
    }
    if let Evidence::Unacknowledged { since, .. } = &failure.evidence {
        let text = format!(
            "what {client} sent to {server} from here on was not acknowledged, however often it was sent again"
        );
        lines.push(TimelineLine::new(*since, TimelineSource::Tcp, text));
    }
    counted(ctx, failure, lines);
}

/// The kernel's counters of dropped handshakes, if one of the counted packets may belong to this failure.
fn counted(ctx: Context, failure: &Failure, lines: &mut Vec<TimelineLine>) {
    let Some(counted) = accept_queue::counted(ctx.world, failure) else { return };
    let what = match counted.overflows {
        0 => "handshakes dropped by listeners, none for a full accept queue,".to_owned(),
        1 => "1 packet at a full accept queue".to_owned(),
        many => format!("{many} packets at a full accept queue"),
    };
    let text = format!(
        "the kernel counted {what} in the network namespace of {} (ListenOverflows {}, ListenDrops {})",
        namespace(ctx, counted.netns, counted.at),
        counted.overflows,
        counted.drops
    );
    let line = TimelineLine::new(counted.at, TimelineSource::Tcp, text);
    lines.push(line.counting(failure.route.client, CounterKind::FullQueue));
}

fn dropped(
    ctx: Context,
    failure: &Failure,
    endpoint: &Endpoint,
    (client, server): (&str, &str),
    lines: &mut Vec<TimelineLine>,
) {
    let packets = ctx.world.dropped_of(endpoint, failure.route.container.as_ref(), failure.at());
    let (Some(first), Some(last)) = (packets.first(), packets.last()) else { return };
    let (from, to) = if first.source == endpoint.socket.local { (client, server) } else { (server, client) };
    let what = if first.syn { "SYN" } else { "packet" };
    let hook = format!(" ({})", name_of(&first.hook));
    let at = namespace(ctx, first.netns, first.at);
    let text =
        format!("a {what} of {from} to {to} was dropped by {} in the namespace of {at}{hook}", dropper(&first.reason));
    lines.push(TimelineLine::new(first.at, TimelineSource::Tcp, text));
    if packets.len() > 1 {
        let text = format!("{} packets between {client} and {server} dropped so far", packets.len());
        let line = TimelineLine::new(last.at, TimelineSource::Tcp, text);
        lines.push(line.counting(endpoint.socket.cookie, CounterKind::DroppedPackets));
    }
    for refused in ctx.world.refused_of(endpoint, failure.route.container.as_ref(), failure.at()).iter().take(1) {
        let text = format!("{client} received ICMP ({})", icmp(refused.code));
        lines.push(TimelineLine::new(refused.at, TimelineSource::Tcp, text));
    }
}

fn retransmitted(endpoint: &Endpoint, party: &str, lines: &mut Vec<TimelineLine>) {
    let Some(again) = endpoint.retransmits else { return };
    let what = if endpoint.established.is_none() { "its SYN" } else { "unacknowledged data" };
    let times = if again.count == 1 { "once".to_owned() } else { format!("{} times", again.count) };
    let line = TimelineLine::new(again.last, TimelineSource::Tcp, format!("{party} retransmitted {what} {times}"));
    lines.push(line.counting(endpoint.socket.cookie, CounterKind::Retransmissions));
}

fn dropper(reason: &str) -> String {
    match reason {
        "NETFILTER_DROP" => "a packet filter".to_owned(),
        other if is_filter(other) => format!("a filter ({other})"),
        other => format!("the kernel ({other})"),
    }
}

fn place(ctx: Context, netns: NetnsId, met: &DropEvidence, at: Stamp) -> String {
    let hook = met.hook.as_ref().map_or_else(String::new, |hook: &Hook| format!(" ({})", name_of(hook)));
    format!("in the network namespace of {}{hook}", namespace(ctx, netns, at))
}

/// The name of the namespace's container, or the host.
fn namespace(ctx: Context, netns: NetnsId, at: Stamp) -> String {
    let container = ctx.world.containers.of_netns(netns, at).and_then(|id| ctx.world.containers.get(&id));
    container.map_or_else(|| "the host".to_owned(), |container| container.info.name.clone())
}

fn icmp(code: Unreachable) -> &'static str {
    match code {
        Unreachable::Network => "network unreachable",
        Unreachable::Host => "host unreachable",
        Unreachable::Protocol => "protocol unreachable",
        Unreachable::Port => "port unreachable",
        Unreachable::NetworkProhibited => "network prohibited",
        Unreachable::HostProhibited => "host prohibited",
        Unreachable::AdminProhibited => "administratively prohibited",
        Unreachable::Other => "destination unreachable",
    }
}
