//! Kernel sockets: conversion of watched TCP sockets to a [`SocketRecord`].
//!
//! Events are attributed by the socket, never by the current task: on loopback and bridges the events of one endpoint
//! run in the task of its peer.

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_get_socket_cookie, bpf_skc_to_tcp_sock},
};
use gaia_monitor_abi::{AF_INET, AF_INET6, SocketRecord};

use crate::{
    filter,
    kernel::{Typed, cgroup_id, layout, netns_of},
};

/// TCP state numbers used by the probe. They are stable (`BPF_TCP_*` in include/uapi/linux/bpf.h; the kernel asserts
/// that they equal its own).
pub mod state {
    pub const SYN_SENT: u8 = 2;
    pub const SYN_RECV: u8 = 3;
    pub const FIN_WAIT1: u8 = 4;
    pub const CLOSE: u8 = 7;
    pub const CLOSE_WAIT: u8 = 8;
    pub const LISTEN: u8 = 10;
    pub const NEW_SYN_RECV: u8 = 12;
}

/// Bit of `sk_shutdown` (include/net/sock.h).
const SEND_SHUTDOWN: u8 = 2;

/// A full TCP socket.
#[derive(Clone, Copy)]
pub struct TcpSock {
    /// The argument of the tracepoint or program. Helpers accept nothing else.
    argument: *const u8,
    /// The same socket as a `struct tcp_sock`.
    fields: Typed,
}

/// The socket of a tracepoint, if it is a full TCP socket: not another protocol, a request or a TIME_WAIT socket.
#[inline(always)]
pub fn tcp(argument: *const u8) -> Option<TcpSock> {
    // SAFETY: the verifier accepts only a trusted socket here.
    let fields = Typed(unsafe { bpf_skc_to_tcp_sock(argument.cast_mut().cast()) } as u64);
    (!fields.is_null()).then_some(TcpSock { argument, fields })
}

/// The full TCP socket of a packet in a cgroup program. `socket` is the socket in the context.
#[inline(always)]
pub fn of_packet(context: *mut __sk_buff, socket: *mut bpf_sock) -> Option<TcpSock> {
    if socket.is_null() {
        return None;
    }
    // SAFETY: the verifier accepts only a socket of the context here.
    let fields = Typed(unsafe { bpf_skc_to_tcp_sock(socket.cast()) } as u64);
    // `bpf_get_socket_cookie` takes the context here.
    (!fields.is_null()).then_some(TcpSock { argument: context.cast(), fields })
}

/// Network namespace of any socket, including request and TIME_WAIT sockets.
#[inline(always)]
pub fn netns(sk: Typed) -> u32 {
    netns_of(sk.follow(layout!(skc_net)))
}

impl TcpSock {
    /// The cookie, unique since boot.
    #[inline(always)]
    pub fn cookie(self) -> u64 {
        // SAFETY: the verifier accepts only a trusted socket here.
        unsafe { bpf_get_socket_cookie(self.argument.cast_mut().cast()) }
    }

    #[inline(always)]
    pub fn state(self) -> u8 {
        self.fields.load(layout!(skc_state))
    }

    /// `sk_err`, the error that the next system call on the socket returns; 0 for none.
    #[inline(always)]
    pub fn error(self) -> u32 {
        self.fields.load(layout!(sk_err))
    }

    /// Reads the record of the socket; `None` if it is not watched.
    ///
    /// The addresses are selected by family, because an accepted IPv6 socket has no valid IPv4 address.
    #[inline(always)]
    pub fn observe(self) -> Option<SocketRecord> {
        let fields = self.fields;
        let (netns, family) = (netns(fields), fields.load::<u16>(layout!(skc_family)) as u32);
        let (local_port, remote_port) = self.ports();
        let cgroup = || cgroup_id(fields.follow(layout!(sk_cgroup)));
        // Without a copy of the addresses: most sockets of a busy host belong to no container.
        if !filter::is_watched(netns, (local_port, remote_port), || self.has_watched_address(family), cgroup) {
            return None;
        }
        let mut socket = SocketRecord {
            cookie: 0,
            cgroup: cgroup(),
            netns,
            family,
            local_port,
            remote_port,
            reserved: 0,
            local: [0; 16],
            remote: [0; 16],
        };
        if family == AF_INET {
            let local = fields.load::<u32>(layout!(skc_rcv_saddr)).to_ne_bytes();
            let remote = fields.load::<u32>(layout!(skc_daddr)).to_ne_bytes();
            socket.local[..4].copy_from_slice(&local);
            socket.remote[..4].copy_from_slice(&remote);
        } else if family == AF_INET6 {
            socket.local = fields.load_16(layout!(skc_v6_rcv_saddr));
            socket.remote = fields.load_16(layout!(skc_v6_daddr));
        } else {
            return None;
        }
        socket.cookie = self.cookie();
        Some(socket)
    }

    #[inline(always)]
    fn has_watched_address(self, family: u32) -> bool {
        let fields = self.fields;
        match family {
            AF_INET => {
                filter::v4_is_watched(fields.load::<u32>(layout!(skc_daddr)).to_ne_bytes())
                    || filter::v4_is_watched(fields.load::<u32>(layout!(skc_rcv_saddr)).to_ne_bytes())
            }
            AF_INET6 => {
                filter::address_is_watched(family, &fields.load_16(layout!(skc_v6_daddr)))
                    || filter::address_is_watched(family, &fields.load_16(layout!(skc_v6_rcv_saddr)))
            }
            _ => false,
        }
    }

    /// Local and remote port. The local one is `inet_sport`, because `skc_num` is already 0 when a socket closes.
    #[inline(always)]
    fn ports(self) -> (u16, u16) {
        let fields = self.fields;
        let local = u16::from_be(fields.load(layout!(inet_sport)));
        let local = if local == 0 { fields.load(layout!(skc_num)) } else { local };
        (local, u16::from_be(fields.load(layout!(skc_dport))))
    }

    /// True if only the sending side is shut down. `shutdown(2)` sets this before the state changes
    /// (net/ipv4/af_inet.c, `inet_shutdown`); `close(2)` sets both sides (net/ipv4/tcp.c, `__tcp_close`).
    #[inline(always)]
    pub fn is_half_closed(self) -> bool {
        self.fields.load::<u8>(layout!(sk_shutdown)) == SEND_SHUTDOWN
    }

    /// Sequence number of the next byte to receive.
    #[inline(always)]
    pub fn receives_next(self) -> u32 {
        self.fields.load(layout!(rcv_nxt))
    }

    /// Number of bytes received in sequence since the connection began.
    #[inline(always)]
    pub fn received(self) -> u64 {
        let received: u64 = self.fields.load(layout!(bytes_received));
        received.saturating_sub(u64::from(self.has_fin()))
    }

    /// True if a FIN was received. It occupies a sequence number, which the kernel's counters include as a byte.
    #[inline(always)]
    fn has_fin(self) -> bool {
        let flags: u64 = self.fields.load(layout!(skc_flags));
        flags >> (layout!(sock_done_bit) & 63) & 1 == 1
    }

    /// Number of bytes sent since the connection began, without retransmissions, including the current packet.
    #[inline(always)]
    pub fn sent(self) -> u64 {
        let sent: u64 = self.fields.load(layout!(bytes_sent));
        sent.wrapping_sub(self.fields.load(layout!(bytes_retrans)))
    }

    /// Number of bytes sent that the peer has not acknowledged.
    #[inline(always)]
    pub fn unacknowledged(self) -> u32 {
        let next: u32 = self.fields.load(layout!(snd_nxt));
        next.wrapping_sub(self.fields.load(layout!(snd_una)))
    }

    /// Length and limit of a listener's accept queue. The kernel admits one connection more than the limit
    /// (`sk_acceptq_is_full()` in include/net/sock.h).
    #[inline(always)]
    pub fn accept_queue(self) -> (u32, u32) {
        (self.fields.load(layout!(sk_ack_backlog)), self.fields.load(layout!(sk_max_ack_backlog)))
    }

    /// Number of received bytes that no process has read (`tcp_inq()` in include/net/tcp.h).
    #[inline(always)]
    pub fn unread(self) -> u32 {
        let next: u32 = self.fields.load(layout!(rcv_nxt));
        let copied: u32 = self.fields.load(layout!(copied_seq));
        let waiting = next.wrapping_sub(copied);
        if waiting != 0 && self.has_fin() { waiting - 1 } else { waiting }
    }
}
