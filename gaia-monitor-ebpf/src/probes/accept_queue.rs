//! Handshake packets that reach a listener with a full accept queue. Part of the ingress program (`http`), because no
//! tracepoint reports them.
//!
//! The kernel drops such a SYN, or the final ACK of a handshake, and only increments `ListenOverflows`
//! (net/ipv4/tcp_input.c, `tcp_conn_request`; tcp_minisocks.c, `tcp_check_req`). The packet passes this program before
//! that check, and the program applies the same one. It does not affect the packet.

use aya_ebpf::bindings::__sk_buff;
use gaia_monitor_abi::{AF_INET, AF_INET6, AcceptQueueFullRecord};

use super::packets::{direct, ip_header};
use crate::{
    ring::{Wake, emit},
    socket::{self, state},
};

/// Bit of the TCP header flags (RFC 9293).
const RST: u8 = 4;

/// True if the socket of the packet is a listener, so that the packet belongs to a handshake.
#[inline(always)]
pub fn is_for_listener(skb: *mut __sk_buff) -> bool {
    // SAFETY: the verifier knows the context, its union of one pointer, and the readable fields of a socket.
    unsafe {
        let socket = (*skb).__bindgen_anon_2.sk;
        !socket.is_null() && (*socket).state == state::LISTEN as u32
    }
}

/// Handles such a packet. Not inlined: see `http`.
#[inline(never)]
pub fn observe(skb: *mut __sk_buff) {
    let _ = look(skb);
}

#[inline(always)]
fn look(skb: *mut __sk_buff) -> Option<()> {
    // SAFETY: as above.
    let sock = socket::of_packet(skb, unsafe { (*skb).__bindgen_anon_2.sk })?;
    let (queued, limit) = sock.accept_queue();
    if queued <= limit {
        return None;
    }
    let mut record = sock.observe()?;
    let header = ip_header(skb)?;
    if header.v6 {
        record.family = AF_INET6;
        record.remote = direct(skb, 8)?;
        record.local = direct(skb, 24)?;
    } else {
        let source = direct::<u32>(skb, 12)?.to_ne_bytes();
        let destination = direct::<u32>(skb, 16)?.to_ne_bytes();
        record.family = AF_INET;
        record.remote = [0; 16];
        record.local = [0; 16];
        record.remote[..4].copy_from_slice(&source);
        record.local[..4].copy_from_slice(&destination);
    }
    record.remote_port = u16::from_be(direct(skb, header.len)?);
    if direct::<u8>(skb, header.len + 13)? & RST != 0 {
        return None;
    }
    emit::<AcceptQueueFullRecord>(Wake::Later, |event| {
        event.socket = record;
        event.queued = queued;
        event.limit = limit;
    });
    Some(())
}
