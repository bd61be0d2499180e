//! The only thread that changes its network namespace: it enters one, opens a socket and returns the descriptor.
//!
//! A socket belongs to the namespace of the thread that created it, permanently. All other threads therefore request
//! sockets here and do not call setns(2). A failed setns leaves this thread where it was; the next request moves it anyway.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::worker;
use crate::model::ids::NetnsId;

/// Queued requests. Each blocks its caller, so the number of callers bounds them.
const REQUESTS: usize = 16;

/// What to open.
#[derive(Clone, Copy, Debug)]
pub struct SocketKind {
    family: AddressFamily,
    kind: SockType,
    protocol: Option<SockProtocol>,
}

impl SocketKind {
    /// `NETLINK_SOCK_DIAG` (sock_diag(7)).
    pub const SOCK_DIAG: Self = Self {
        family: AddressFamily::Netlink,
        kind: SockType::Datagram,
        protocol: Some(SockProtocol::NetlinkSockDiag),
    };
    /// A UDP socket for IPv4.
    pub const UDP: Self = Self { family: AddressFamily::Inet, kind: SockType::Datagram, protocol: None };
    /// `NETLINK_ROUTE` (rtnetlink(7)).
    pub const ROUTE: Self =
        Self { family: AddressFamily::Netlink, kind: SockType::Datagram, protocol: Some(SockProtocol::NetlinkRoute) };
}

struct Request {
    namespace: PathBuf,
    /// The namespace that must be found there: a process may have ended, and its pid been reused.
    expected: Option<NetnsId>,
    kind: SocketKind,
    reply: mpsc::SyncSender<io::Result<OwnedFd>>,
}

/// Handle of the thread, which ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Broker(mpsc::SyncSender<Request>);

impl Broker {
    /// Starts the thread, which first reduces its privileges by `reduce`. It needs CAP_SYS_ADMIN, and CAP_SYS_PTRACE for
    /// `/proc/PID/ns/net`. Both are per thread, so start it before any privilege is dropped.
    ///
    /// # Errors
    /// When the system refuses a thread, or `reduce` fails.
    pub fn start(name: &str, reduce: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel::<Request>(REQUESTS);
        worker::start(name, reduce, move || {
            for request in receiver {
                // If the caller has ended, the failed send closes the socket.
                let _ = request.reply.send(open(&request));
            }
        })?;
        Ok(Self(sender))
    }

    /// Opens a socket in the namespace behind `path` (`/proc/PID/ns/net`, or Docker's `SandboxKey`). Blocks for a few
    /// microseconds.
    ///
    /// # Errors
    /// When the namespace has ended, may not be entered, or does not support the socket.
    pub fn socket(&self, path: &Path, kind: SocketKind) -> io::Result<OwnedFd> {
        self.request(path, None, kind)
    }

    /// As [`Broker::socket`], if the namespace is still `netns`.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if another namespace is behind the path.
    pub fn socket_in(&self, netns: NetnsId, path: &Path, kind: SocketKind) -> io::Result<OwnedFd> {
        self.request(path, Some(netns), kind)
    }

    fn request(&self, path: &Path, expected: Option<NetnsId>, kind: SocketKind) -> io::Result<OwnedFd> {
        let (reply, opened) = mpsc::sync_channel(1);
        let request = Request { namespace: path.to_owned(), expected, kind, reply };
        self.0.send(request).map_err(|_| io::Error::other("the netns broker has ended"))?;
        opened.recv().map_err(|_| io::Error::other("the netns broker has ended"))?
    }
}

fn open(request: &Request) -> io::Result<OwnedFd> {
    let namespace = File::open(&request.namespace)?;
    let found = NetnsId(namespace.metadata()?.ino());
    if request.expected.is_some_and(|expected| expected != found) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the path leads to another network namespace"));
    }
    setns(namespace, CloneFlags::CLONE_NEWNET)?;
    let SocketKind { family, kind, protocol } = request.kind;
    Ok(socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Broker, SocketKind};

    #[test]
    fn keeps_running_when_a_namespace_has_ended() {
        let broker = Broker::start("test-broker", || Ok(())).unwrap();
        for _ in 0..2 {
            let error = broker.socket(Path::new("/proc/0/ns/net"), SocketKind::SOCK_DIAG).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
    }
}
