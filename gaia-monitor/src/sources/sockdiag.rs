//! The TCP sockets of a network namespace, listed by sock_diag(7): connections that are older than the probe.
//!
//! It only lists; it never requests the kernel to destroy a socket.

use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use netlink_packet_core::{DecodeError, NetlinkMessage, NetlinkPayload, Nla as _};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::Socket;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::model::event::TcpState;
use crate::model::ids::{CgroupId, Cookie};
use crate::model::time::Nanos;
use crate::sources::netlink::request::dump as dump_request;

/// The kernel serves a dump from memory: one that takes longer than this (seconds) has failed.
const TIMEOUT: i64 = 5;

/// `INET_DIAG_CGROUP_ID` (include/uapi/linux/inet_diag.h), always sent since 5.9.
const CGROUP_ID: u16 = 21;

#[derive(Debug, thiserror::Error)]
pub enum SockDiagError {
    #[error("cannot request TCP sockets from sock_diag")]
    Request(#[source] std::io::Error),
    #[error("the sock_diag response was interrupted")]
    Response(#[source] std::io::Error),
    #[error("cannot decode the sock_diag response")]
    Decode(#[source] DecodeError),
}

/// One socket. IPv4-mapped addresses are already IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub cookie: Cookie,
    pub state: TcpState,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// Inode of the socket's file; 0 once no process holds it.
    pub inode: u64,
    /// `None` before Linux 5.9.
    pub cgroup: Option<CgroupId>,
    /// How long ago it last sent and received payload, to the millisecond; `None`: it has not.
    pub sent_ago: Option<Nanos>,
    pub received_ago: Option<Nanos>,
}

/// Lists the listening and connected TCP sockets, IPv4 and IPv6, of the namespace in which `socket` was created. Blocks.
///
/// # Errors
/// When the kernel refuses the request, or its response is interrupted.
pub fn dump(socket: OwnedFd) -> Result<Vec<Listed>, SockDiagError> {
    let limit = TimeVal::seconds(TIMEOUT);
    setsockopt(&socket, ReceiveTimeout, &limit).map_err(|error| SockDiagError::Request(error.into()))?;
    // SAFETY: the descriptor is owned here, it is a netlink socket, and `Socket` closes it once.
    let socket = unsafe { Socket::from_raw_fd(socket.into_raw_fd()) };
    let mut listed = Vec::new();
    for (family, id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        request(&socket, family, id)?;
        receive(&socket, &mut listed)?;
    }
    Ok(listed)
}

fn request(socket: &Socket, family: u8, socket_id: SocketId) -> Result<(), SockDiagError> {
    let inet = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::INFO,
        states: StateFlags::ESTABLISHED
            | StateFlags::SYN_SENT
            | StateFlags::FIN_WAIT1
            | StateFlags::FIN_WAIT2
            | StateFlags::CLOSE_WAIT
            | StateFlags::LAST_ACK
            | StateFlags::LISTEN
            | StateFlags::CLOSING,
        socket_id,
    };
    let bytes = dump_request(0, SockDiagMessage::InetRequest(inet));
    socket.send(&bytes, 0).map_err(SockDiagError::Request)?;
    Ok(())
}

fn receive(socket: &Socket, listed: &mut Vec<Listed>) -> Result<(), SockDiagError> {
    loop {
        let (bytes, _) = socket.recv_from_full().map_err(SockDiagError::Response)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(SockDiagError::Decode)?;
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(SockDiagError::Response(error.to_io())),
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    listed.push(Listed::from(&*response));
                }
                // Nothing else was requested; the payload's type is `#[non_exhaustive]`.
                _ => {}
            }
            // Messages are padded to four bytes (NLMSG_ALIGN); a length of 0 would never end.
            rest = rest.get(length.max(1).next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

impl From<&InetResponse> for Listed {
    fn from(response: &InetResponse) -> Self {
        let id = &response.header.socket_id;
        let cgroup = response.nlas.iter().find_map(|nla| match nla {
            Nla::Other(other) if other.kind() == CGROUP_ID => {
                let mut value = vec![0; other.value_len()];
                other.emit_value(&mut value);
                Some(CgroupId(u64::from_ne_bytes(value.try_into().ok()?)))
            }
            _ => None,
        });
        let info = response.nlas.iter().find_map(|nla| if let Nla::TcpInfo(info) = nla { Some(info) } else { None });
        Self {
            cookie: cookie(id.cookie),
            state: state(response.header.state),
            local: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
            remote: SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
            inode: u64::from(response.header.inode),
            cgroup,
            sent_ago: info.and_then(|info| payload_ago(info.last_data_sent, info.data_segs_out)),
            received_ago: info.and_then(|info| payload_ago(info.last_data_recv, info.data_segs_in)),
        }
    }
}

/// How long ago payload went in one direction: `millis`, unless no segment had payload; then it counts from the connect.
fn payload_ago(millis: u32, segments: u32) -> Option<Nanos> {
    (segments > 0).then_some(Nanos::from_millis(i64::from(millis)))
}

/// Two 32-bit halves in the machine's byte order, the low one first (sock_diag_save_cookie, net/core/sock_diag.c).
fn cookie(bytes: [u8; 8]) -> Cookie {
    let [a, b, c, d, e, f, g, h] = bytes;
    let low = u32::from_ne_bytes([a, b, c, d]);
    let high = u32::from_ne_bytes([e, f, g, h]);
    Cookie(u64::from(low) | u64::from(high) << 32)
}

/// Numbers of include/net/tcp_states.h, which sock_diag makes part of the kernel's interface.
fn state(number: u8) -> TcpState {
    match number {
        1 => TcpState::Established,
        2 => TcpState::SynSent,
        3 => TcpState::SynRecv,
        4 => TcpState::FinWait1,
        5 => TcpState::FinWait2,
        6 => TcpState::TimeWait,
        7 => TcpState::Close,
        8 => TcpState::CloseWait,
        9 => TcpState::LastAck,
        10 => TcpState::Listen,
        11 => TcpState::Closing,
        12 => TcpState::NewSynRecv,
        13 => TcpState::BoundInactive,
        _ => TcpState::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::MetadataExt;

    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

    use super::{TcpState, cookie, dump};
    use crate::model::ids::Cookie;

    #[test]
    fn decodes_the_low_half_of_the_cookie_first() {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&7_u32.to_ne_bytes());
        bytes[4..].copy_from_slice(&1_u32.to_ne_bytes());
        assert_eq!(cookie(bytes), Cookie((1 << 32) | 7));
    }

    #[test]
    fn knows_which_end_sent_payload_last() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        accepted.read_exact(&mut [0; 18]).unwrap();
        let diag =
            socket(AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)
                .unwrap();
        let all = dump(diag).unwrap();
        let by = |local, remote| all.iter().find(|it| (it.local, it.remote) == (local, remote)).unwrap();
        let (own, other) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let (asking, answering) = (by(own, other), by(other, own));
        assert!(asking.sent_ago.is_some() && asking.received_ago.is_none(), "{asking:?}");
        assert!(answering.sent_ago.is_none() && answering.received_ago.is_some(), "{answering:?}");
    }

    #[test]
    fn lists_a_listener_and_both_endpoints_of_a_connection() {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let diag: OwnedFd =
            socket(AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)
                .unwrap();
        let all = dump(diag).unwrap();
        let find = |inode| all.iter().find(|socket| socket.inode == inode).unwrap();
        let inode = |fd: OwnedFd| std::fs::File::from(fd).metadata().unwrap().ino();

        let listening = find(inode(listener.into()));
        assert_eq!((listening.state, listening.local.port()), (TcpState::Listen, port));
        let server = find(inode(accepted.try_clone().unwrap().into()));
        // The server's socket is IPv6 with mapped addresses; both endpoints report the same IPv4 pair.
        assert_eq!(server.local, client.peer_addr().unwrap());
        assert_eq!(server.remote, client.local_addr().unwrap());
        let local = find(inode(client.try_clone().unwrap().into()));
        assert_eq!((local.local, local.remote), (server.remote, server.local));
        assert_eq!(local.state, TcpState::Established);
        assert!(local.cookie != Cookie::NONE && local.cookie != server.cookie);
    }
}
