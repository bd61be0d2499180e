//! The one thread that changes its network namespace: setns, socket, hand over the descriptor.
//!
//! A socket belongs to the namespace of the thread that made it, for ever; so everything else asks this thread and
//! never calls setns(2) itself. A failed setns leaves the thread where it was, and the next request moves it anyway.

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

/// Requests under way: each blocks its caller, so more than the callers there are can never queue up.
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
    /// A datagram to an IPv4 name server.
    pub const UDP: Self = Self { family: AddressFamily::Inet, kind: SockType::Datagram, protocol: None };
    /// `NETLINK_ROUTE` (rtnetlink(7)).
    pub const ROUTE: Self =
        Self { family: AddressFamily::Netlink, kind: SockType::Datagram, protocol: Some(SockProtocol::NetlinkRoute) };
}

struct Request {
    namespace: PathBuf,
    /// It must be this one: a process may have ended, and its number been given away.
    expected: Option<NetnsId>,
    kind: SocketKind,
    reply: mpsc::SyncSender<io::Result<OwnedFd>>,
}

/// The broker's door. The thread ends when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Broker(mpsc::SyncSender<Request>);

impl Broker {
    /// Starts the thread, which reduces its privileges by `reduce` first. It needs CAP_SYS_ADMIN, and CAP_SYS_PTRACE for
    /// `/proc/PID/ns/net`; both are per thread: start it before any privilege is dropped.
    ///
    /// # Errors
    /// When the system refuses a thread, or `reduce` fails.
    pub fn start(name: &str, reduce: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel::<Request>(REQUESTS);
        worker::start(name, reduce, move || {
            for request in receiver {
                // A caller that has gone away gets nothing; its socket closes with the failed send.
                let _ = request.reply.send(open(&request));
            }
        })?;
        Ok(Self(sender))
    }

    /// Opens a socket in the namespace behind `path` (`/proc/PID/ns/net`, or Docker's `SandboxKey`). Blocks for the
    /// few microseconds that it takes.
    ///
    /// # Errors
    /// When the namespace is gone, or may not be entered, or has no such socket.
    pub fn socket(&self, path: &Path, kind: SocketKind) -> io::Result<OwnedFd> {
        self.ask(path, None, kind)
    }

    /// As [`Broker::socket`], in this very namespace.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where another one stands behind the path.
    pub fn socket_in(&self, netns: NetnsId, path: &Path, kind: SocketKind) -> io::Result<OwnedFd> {
        self.ask(path, Some(netns), kind)
    }

    fn ask(&self, path: &Path, expected: Option<NetnsId>, kind: SocketKind) -> io::Result<OwnedFd> {
        let (reply, answer) = mpsc::sync_channel(1);
        let request = Request { namespace: path.to_owned(), expected, kind, reply };
        self.0.send(request).map_err(|_| io::Error::other("the netns broker has ended"))?;
        answer.recv().map_err(|_| io::Error::other("the netns broker has ended"))?
    }
}

fn open(request: &Request) -> io::Result<OwnedFd> {
    let namespace = File::open(&request.namespace)?;
    let found = NetnsId(namespace.metadata()?.ino());
    if request.expected.is_some_and(|expected| expected != found) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "another network namespace has its place"));
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
    fn a_namespace_that_is_gone_is_an_error_and_the_broker_lives_on() {
        let broker = Broker::start("test-broker", || Ok(())).unwrap();
        for _ in 0..2 {
            let error = broker.socket(Path::new("/proc/0/ns/net"), SocketKind::SOCK_DIAG).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
    }
}
