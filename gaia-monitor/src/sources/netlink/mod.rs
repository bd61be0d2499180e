//! Network interfaces of the host and of containers: bridges, both ends of veth pairs, addresses, neighbours that
//! stopped to answer (rtnetlink(7)).
//!
//! One thread of its own polls a socket for each namespace: rtnetlink carries no time, so its messages are stamped when
//! they are read, and nothing may make them wait. It never enters a namespace (the broker hands the sockets over) and
//! never asks the kernel to change anything. A socket holds its namespace alive: it is closed when the last container
//! in it has died.
//!
//! The sockets are read here and not through the rtnetlink crate, whose queue of notifications has no bound, and which
//! writes messages that it cannot read to a log where this program counts them.

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
use crate::pipeline::clock::Clock;
use crate::pipeline::outlet::Outlet;
use crate::sources::netns::{Broker, SocketKind};
use crate::sources::procfs;
use crate::sources::worker;
use watch::Watch;

/// Namespaces watched at a time, the host's included. Beyond it a container's own interfaces are not seen; its veth's
/// end on the host still is.
const WATCHES: usize = 1_024;
/// Orders that wait for the thread; what does not fit is counted, and its container's interfaces are not seen.
const ORDERS: usize = 1_024;
/// Datagrams of one socket before the others get their turn.
const TURNS: usize = 64;
/// The kernel answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// Namespaces that could not be watched.
const UNWATCHED: &str = "netlink.watch";
/// A socket's buffer ran over.
const OVERRUN: &str = "netlink.overrun";
/// Messages that could not be read.
const UNREAD: &str = "netlink.unread";

enum Order {
    Watch {
        container: ContainerId,
        netns: NetnsId,
        pid: Pid,
    },
    Forget(ContainerId),
    /// Answered when everything that was ordered before has been read.
    Answer(mpsc::SyncSender<()>),
}

/// The thread's door; it ends when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Links {
    orders: mpsc::SyncSender<Order>,
    bell: Arc<UnixStream>,
    outlet: Outlet,
}

impl Links {
    /// Watches the host's namespace, and each container's from its [`Fact::ContainerSeen`] on. The thread runs `prepare`
    /// first.
    ///
    /// # Errors
    /// When the system has no thread, or no socket pair, to give, or `prepare` fails.
    pub fn start(
        name: &str,
        broker: Broker,
        clock: Arc<Clock>,
        outlet: Outlet,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, receiver) = mpsc::sync_channel(ORDERS);
        let (bell, heard) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        let mut watcher = Watcher {
            broker,
            clock,
            outlet: outlet.clone(),
            host: None,
            watches: BTreeMap::new(),
            members: BTreeMap::new(),
            answers: Vec::new(),
        };
        worker::start(name, prepare, move || watcher.run(&receiver, heard))?;
        Ok(Self { orders, bell: Arc::new(bell), outlet })
    }

    /// Takes what a fact says of which namespaces there are.
    pub fn heed(&self, fact: &Fact) {
        let order = match fact {
            Fact::ContainerSeen(seen) => of_container(seen),
            Fact::Docker(event) if matches!(event.action, DockerAction::Die { .. } | DockerAction::Destroy) => {
                Order::Forget(event.container.clone())
            }
            _ => return,
        };
        if self.order(order).is_err() {
            self.outlet.lost(UNWATCHED, 1);
        }
    }

    /// Waits until everything that was ordered before has been read. Blocks for the few milliseconds that it takes, and for
    /// [`PATIENCE`] at most: the run begins without what the kernel does not tell.
    pub fn settle(&self) {
        let (answer, answered) = mpsc::sync_channel(1);
        if self.order(Order::Answer(answer)).is_ok() {
            // An error means that the thread has ended: there is nothing to wait for.
            let _ = answered.recv_timeout(PATIENCE);
        }
    }

    fn order(&self, order: Order) -> Result<(), ()> {
        self.orders.try_send(order).map_err(drop)?;
        // A bell that is still ringing is as good.
        let _ = (&*self.bell).write(&[1]);
        Ok(())
    }
}

fn of_container(seen: &ContainerInfo) -> Order {
    match (seen.pid, seen.netns) {
        (Some(pid), Some(netns)) if seen.running && !seen.host_network => {
            Order::Watch { container: seen.id.clone(), netns, pid }
        }
        (_, _) => Order::Forget(seen.id.clone()),
    }
}

struct Watcher {
    broker: Broker,
    clock: Arc<Clock>,
    outlet: Outlet,
    host: Option<NetnsId>,
    watches: BTreeMap<NetnsId, Watch>,
    /// Who lives where: containers may share a namespace. Bounded by running containers.
    members: BTreeMap<ContainerId, (NetnsId, Pid)>,
    /// Bounded by their callers, each of which waits.
    answers: Vec<mpsc::SyncSender<()>>,
}

impl Watcher {
    fn run(&mut self, orders: &mpsc::Receiver<Order>, mut bell: UnixStream) {
        match procfs::netns_at(Path::new(procfs::OWN_NETNS)) {
            Ok(netns) => {
                self.host = Some(netns);
                self.open(netns, true, Path::new(procfs::OWN_NETNS));
            }
            Err(_) => self.outlet.lost(UNWATCHED, 1),
        }
        loop {
            let (rung, ready) = {
                let sockets = self.watches.iter().map(|(netns, watch)| (*netns, watch.fd()));
                let (places, sockets): (Vec<_>, Vec<_>) = sockets.unzip();
                let all = std::iter::once(bell.as_fd()).chain(sockets);
                let mut polled: Vec<_> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
                // Interrupted by a signal, or out of memory: the next turn tries again.
                let _ = poll(&mut polled, PollTimeout::NONE);
                let mut any = polled.iter().map(|fd| fd.any().unwrap_or_default());
                (
                    any.next().unwrap_or_default(),
                    places.into_iter().zip(any).filter(|(_, any)| *any).collect::<Vec<_>>(),
                )
            };
            self.read(ready.into_iter().map(|(netns, _)| netns));
            if rung && !self.obey(orders, &mut bell) {
                return;
            }
            if self.watches.values().all(Watch::is_read) {
                for answer in self.answers.drain(..) {
                    // Whoever asked may have gone.
                    let _ = answer.send(());
                }
            }
        }
    }

    /// `false`: nobody is left who could order anything.
    fn obey(&mut self, orders: &mpsc::Receiver<Order>, bell: &mut UnixStream) -> bool {
        let mut rings = [0; 64];
        // Emptied before the orders are taken: one that comes later rings again.
        while matches!(bell.read(&mut rings), Ok(count) if count > 0) {}
        loop {
            match orders.try_recv() {
                Ok(Order::Watch { container, netns, pid }) => self.watch(container, netns, pid),
                Ok(Order::Forget(container)) => self.forget(&container),
                Ok(Order::Answer(answer)) => self.answers.push(answer),
                Err(mpsc::TryRecvError::Empty) => return true,
                Err(mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn watch(&mut self, container: ContainerId, netns: NetnsId, pid: Pid) {
        if self.members.get(&container) == Some(&(netns, pid)) || self.host == Some(netns) {
            return;
        }
        // Another process is another life, also in a namespace of the same number.
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
            self.outlet.lost(UNWATCHED, 1);
            return;
        }
        let socket = self.broker.socket_in(netns, path, SocketKind::ROUTE);
        match socket.and_then(|socket| Watch::begin(netns, host, socket)) {
            Ok(watch) => {
                self.watches.insert(netns, watch);
            }
            // It has gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => self.outlet.lost(UNWATCHED, 1),
        }
    }

    /// All sockets are emptied, and stamped, before anything is read: reading takes longer than what it is about.
    fn read(&mut self, ready: impl Iterator<Item = NetnsId>) {
        let mut taken = Vec::new();
        let mut broken = BTreeSet::new();
        for netns in ready {
            let Some(watch) = self.watches.get(&netns) else { continue };
            for _ in 0..TURNS {
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
                Some(Ok(turn)) => {
                    self.outlet.lost(OVERRUN, turn.overrun);
                    self.outlet.lost(UNREAD, turn.unread);
                    self.outlet.offer(turn.facts.into_iter().map(|fact| Observation { at, fact }).collect());
                }
                Some(Err(_)) => {
                    broken.insert(netns);
                }
                None => {}
            }
        }
        for netns in broken {
            self.outlet.lost(UNWATCHED, 1);
            self.watches.remove(&netns);
        }
    }
}
