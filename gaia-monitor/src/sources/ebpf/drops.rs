//! Decoder for records of packets that did not arrive. Pure.

use gaia_monitor_abi::{
    AcceptQueueFullRecord, HOOK_FORWARD, HOOK_INPUT, HOOK_OUTPUT, HOOK_PREROUTING, IcmpSentRecord, PacketDroppedRecord,
    RetransmittedRecord,
};

use super::decode::socket;
use super::names::KernelNames;
use crate::model::event::{
    AcceptQueueFull, Fact, Handshake, Hook, IcmpSent, PacketDropped, Retransmitted, Unreachable,
};

pub(super) fn dropped(record: &PacketDroppedRecord, names: &KernelNames) -> Fact {
    /// Bit of the header's flags (RFC 9293).
    const SYN: u32 = 2;
    let packet = socket(&record.packet);
    let reason = names.drop_reason(record.reason);
    Fact::PacketDropped(PacketDropped {
        netns: packet.netns,
        source: packet.local,
        destination: packet.remote,
        hook: match record.hook {
            _ if is_at_egress(&reason) => Hook::Postrouting,
            HOOK_PREROUTING => Hook::Prerouting,
            HOOK_INPUT => Hook::Input,
            HOOK_FORWARD => Hook::Forward,
            HOOK_OUTPUT => Hook::Output,
            _postrouting => Hook::Postrouting,
        },
        reason,
        seq: record.seq,
        syn: record.flags & SYN != 0,
        payload: record.payload,
    })
}

/// Whether a packet with this reason was dropped on its way out, after the last hook. Its route is released before it is
/// queued (net/core/dev.c, `__dev_queue_xmit`), so that it looks like one that has not been routed yet.
fn is_at_egress(reason: &str) -> bool {
    reason.starts_with("QDISC_") || reason == "TC_EGRESS"
}

pub(super) fn icmp_sent(record: &IcmpSentRecord) -> Fact {
    let packet = socket(&record.packet);
    Fact::IcmpSent(IcmpSent {
        netns: packet.netns,
        source: packet.local,
        destination: packet.remote,
        code: match record.code {
            0 => Unreachable::Network,
            1 => Unreachable::Host,
            2 => Unreachable::Protocol,
            3 => Unreachable::Port,
            9 => Unreachable::NetworkProhibited,
            10 => Unreachable::HostProhibited,
            13 => Unreachable::AdminProhibited,
            _other => Unreachable::Other,
        },
    })
}

pub(super) fn retransmitted(record: &RetransmittedRecord, names: &KernelNames) -> Fact {
    Fact::Retransmitted(Retransmitted { socket: socket(&record.socket), state: names.state(record.state) })
}

pub(super) fn queue_full(record: &AcceptQueueFullRecord) -> Fact {
    let listener = socket(&record.socket);
    let (client, server) = (listener.remote, listener.local);
    let packet = Handshake { client, server, queued: record.queued, limit: record.limit };
    Fact::AcceptQueueFull(AcceptQueueFull { netns: listener.netns, packet })
}
