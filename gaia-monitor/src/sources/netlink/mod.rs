//! Network interfaces of the host and of containers: bridges, both interfaces of veth pairs, addresses, and neighbours
//! that became unreachable (rtnetlink(7)).
//!
//! One thread of its own polls a socket for each namespace: rtnetlink messages carry no time, so they are stamped when
//! they are read, and must not wait. The thread never enters a namespace (the broker opens the sockets) and never requests
//! a change. A socket keeps its namespace alive, so it is closed when the last container in it has died.
//!
//! The sockets are not read through the rtnetlink crate, because its queue of notifications is unbounded, and it logs
//! unreadable messages, which are counted here.

mod decode;
pub(super) mod request;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::model::event::{ContainerInfo, DockerAction, Fact, Observation};
use crate::model::ids::{ContainerId, NetnsId, Pid};
use crate::pipeline::channel::EventSender;
use crate::pipeline::clock::Clock;
use crate::sources::netns::{Broker, SocketKind};
use crate::sources::procfs;
use crate::sources::worker;
use watch::Watch;

/// Watched namespaces, the host's included. Beyond, a container's own interfaces are not observed; its veth on the host
/// still is.
const WATCHES: usize = 1_024;
/// Commands queued for the thread. One that does not fit is counted, and its container's interfaces are not observed.
const COMMANDS: usize = 1_024;
/// Datagrams read from one socket before the next.
const DATAGRAMS: usize = 64;
/// The kernel serves a dump from memory, so longer means failure.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Stage of namespaces that cannot be watched.
const UNWATCHED: &str = "netlink.watch";
/// Stage of overruns of a socket's buffer.
const OVERRUN: &str = "netlink.overrun";
/// Stage of unreadable messages.
const UNREADABLE: &str = "netlink.unread";

enum Command {
    Watch {
        container: ContainerId,
        netns: NetnsId,
        pid: Pid,
    },
    Forget(ContainerId),
    /// Confirmed once every namespace of an earlier command has been read.
    Flush(mpsc::SyncSender<()>),
}

/// Handle of the thread, which ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct InterfaceWatch {
    commands: mpsc::SyncSender<Command>,
    /// Wakes the thread from poll(2).
    waker: Arc<UnixStream>,
    sender: EventSender,
}

impl InterfaceWatch {
    /// Starts the thread, which runs `prepare`, then watches the host's namespace, and that of each container from its
    /// [`Fact::ContainerSeen`] on.
    ///
    /// # Errors
    /// When the system cannot provide a thread or a socket pair, or `prepare` fails.
    pub fn start(
        name: &str,
        broker: Broker,
        clock: Arc<Clock>,
        sender: EventSender,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (commands, receiver) = mpsc::sync_channel(COMMANDS);
        let (waker, wakeups) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        wakeups.set_nonblocking(true)?;
        let mut watcher = Watcher {
            broker,
            clock,
            sender: sender.clone(),
            host: None,
            watches: BTreeMap::new(),
            members: BTreeMap::new(),
            flushes: Vec::new(),
        };
        worker::start(name, prepare, move || watcher.run(&receiver, wakeups))?;
        Ok(Self { commands, waker: Arc::new(waker), sender })
    }

    /// Queues a command for a fact that adds or removes a container, and ignores all other facts.
    pub fn on_fact(&self, fact: &Fact) {
        let command = match fact {
            Fact::ContainerSeen(seen) => command_for(seen),
            Fact::Docker(event) if matches!(event.action, DockerAction::Die { .. } | DockerAction::Destroy) => {
                Command::Forget(event.container.clone())
            }
            _ => return,
        };
        if self.command(command).is_err() {
            self.sender.lost(UNWATCHED, 1);
        }
    }

    /// Waits until every namespace of an earlier command has been read. Blocks for a few milliseconds, and for
    /// [`FLUSH_TIMEOUT`] at most; the run then begins without what the kernel did not report.
    pub fn flush(&self) {
        let (done, flushed) = mpsc::sync_channel(1);
        if self.command(Command::Flush(done)).is_ok() {
            // An error means that the thread has ended.
            let _ = flushed.recv_timeout(FLUSH_TIMEOUT);
        }
    }

    fn command(&self, command: Command) -> Result<(), ()> {
        self.commands.try_send(command).map_err(drop)?;
        // If the buffer is full, the thread is about to wake up anyway.
        let _ = (&*self.waker).write(&[1]);
        Ok(())
    }
}

fn command_for(seen: &ContainerInfo) -> Command {
    match (seen.pid, seen.netns) {
        (Some(pid), Some(netns)) if seen.running && !seen.host_network => {
            Command::Watch { container: seen.id.clone(), netns, pid }
        }
        (_, _) => Command::Forget(seen.id.clone()),
    }
}

struct Watcher {
    broker: Broker,
    clock: Arc<Clock>,
    sender: EventSender,
    host: Option<NetnsId>,
    watches: BTreeMap<NetnsId, Watch>,
    /// Namespaces of containers, which may share one. Bounded by the number of running containers.
    members: BTreeMap<ContainerId, (NetnsId, Pid)>,
    /// Flushes to confirm. Bounded by their callers, each of which waits.
    flushes: Vec<mpsc::SyncSender<()>>,
}

impl Watcher {
    fn run(&mut self, commands: &mpsc::Receiver<Command>, mut waker: UnixStream) {
        match procfs::netns_at(Path::new(procfs::OWN_NETNS)) {
            Ok(netns) => {
                self.host = Some(netns);
                self.open(netns, true, Path::new(procfs::OWN_NETNS));
            }
            Err(_) => self.sender.lost(UNWATCHED, 1),
        }
        loop {
            let (woken, ready) = {
                let sockets = self.watches.iter().map(|(netns, watch)| (*netns, watch.fd()));
                let (places, sockets): (Vec<_>, Vec<_>) = sockets.unzip();
                let all = std::iter::once(waker.as_fd()).chain(sockets);
                let mut polled: Vec<_> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
                // Interrupted by a signal, or out of memory: the next iteration tries again.
                let _ = poll(&mut polled, PollTimeout::NONE);
                let mut any = polled.iter().map(|fd| fd.any().unwrap_or_default());
                (
                    any.next().unwrap_or_default(),
                    places.into_iter().zip(any).filter(|(_, any)| *any).collect::<Vec<_>>(),
                )
            };
            self.read(ready.into_iter().map(|(netns, _)| netns));
            if woken && !self.handle_commands(commands, &mut waker) {
                return;
            }
            if self.watches.values().all(Watch::is_read) {
                for done in self.flushes.drain(..) {
                    // The caller may have timed out.
                    let _ = done.send(());
                }
            }
        }
    }

    /// Returns `false` if every handle was dropped.
    fn handle_commands(&mut self, commands: &mpsc::Receiver<Command>, waker: &mut UnixStream) -> bool {
        let mut bytes = [0; 64];
        // Emptied before the commands are received: a later command wakes the thread again.
        while matches!(waker.read(&mut bytes), Ok(count) if count > 0) {}
        loop {
            match commands.try_recv() {
                Ok(Command::Watch { container, netns, pid }) => self.watch(container, netns, pid),
                Ok(Command::Forget(container)) => self.forget(&container),
                Ok(Command::Flush(done)) => self.flushes.push(done),
                Err(mpsc::TryRecvError::Empty) => return true,
                Err(mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn watch(&mut self, container: ContainerId, netns: NetnsId, pid: Pid) {
        if self.members.get(&container) == Some(&(netns, pid)) || self.host == Some(netns) {
            return;
        }
        // Another process belongs to another run, even in a namespace with the same inode number.
        self.forget(&container);
        self.members.insert(container, (netns, pid));
        if !self.watches.contains_key(&netns) {
            let path: PathBuf = procfs::netns_path(pid);
            self.open(netns, false, &path);
        }
    }

    fn forget(&mut self, container: &ContainerId) {
        let Some((netns, _)) = self.members.remove(container) else { return };
        let left: BTreeSet<NetnsId> = self.members.values().map(|(netns, _)| *netns).collect();
        if !left.contains(&netns) {
            self.watches.remove(&netns);
        }
    }

    fn open(&mut self, netns: NetnsId, host: bool, path: &Path) {
        if self.watches.len() >= WATCHES {
            self.sender.lost(UNWATCHED, 1);
            return;
        }
        let socket = self.broker.socket_in(netns, path, SocketKind::ROUTE);
        match socket.and_then(|socket| Watch::begin(netns, host, socket)) {
            Ok(watch) => {
                self.watches.insert(netns, watch);
            }
            // The namespace has ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => self.sender.lost(UNWATCHED, 1),
        }
    }

    /// Receives and stamps the datagrams of all sockets before decoding any, because decoding would delay the timestamps.
    fn read(&mut self, ready: impl Iterator<Item = NetnsId>) {
        let mut taken = Vec::new();
        let mut broken = BTreeSet::new();
        for netns in ready {
            let Some(watch) = self.watches.get(&netns) else { continue };
            for _ in 0..DATAGRAMS {
                match watch.receive() {
                    Ok(Some(received)) => taken.push((self.clock.now(), netns, received)),
                    Ok(None) => break,
                    Err(_) => {
                        broken.insert(netns);
                        break;
                    }
                }
            }
        }
        taken.sort_by_key(|(at, ..)| *at);
        for (at, netns, received) in taken {
            match self.watches.get_mut(&netns).map(|watch| watch.read(&received)) {
                Some(Ok(result)) => {
                    self.sender.lost(OVERRUN, result.overrun);
                    self.sender.lost(UNREADABLE, result.unread);
                    self.sender.send(result.facts.into_iter().map(|fact| Observation { at, fact }).collect());
                }
                Some(Err(_)) => {
                    broken.insert(netns);
                }
                None => {}
            }
        }
        for netns in broken {
            self.sender.lost(UNWATCHED, 1);
            self.watches.remove(&netns);
        }
    }
}
