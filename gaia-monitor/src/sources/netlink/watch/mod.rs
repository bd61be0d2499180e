//! One network namespace: its last reported interfaces, and the socket that reports changes.
//!
//! Only differences are emitted, because rtnetlink repeats an interface whenever anything about it changes. After an
//! overrun of the socket's buffer, the lost messages are unknown: a loss is reported, and the namespace is read again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use netlink_packet_core::{NLM_F_DUMP_INTR, NLM_F_MULTIPART};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

use super::decode::{Message, Payload, Reachability, messages};
use super::request;
use crate::model::event::{AddressChange, Fact, Link, LinkChange, LinkKind, LinksRead, NeighbourChange};
use crate::model::ids::NetnsId;

/// RTNLGRP_LINK, _NEIGH, _IPV4_IFADDR and _IPV6_IFADDR (include/uapi/linux/rtnetlink.h).
const GROUPS: [u32; 4] = [1, 3, 5, 9];
/// Interfaces kept of one namespace. Further ones are not reported, and their changes are ignored.
const LINKS: usize = 4_096;
/// Addresses and failed neighbours kept of one namespace. Further ones are reported again each time.
const ADDRESSES: usize = 4_096;
/// Restarts of a dump that a change of the namespace has interrupted (NLM_F_DUMP_INTR); the next one is accepted as it is.
const DUMP_RETRIES: u32 = 5;

/// One read of the socket.
#[derive(Debug)]
pub enum Received {
    Datagram(Vec<u8>),
    /// The socket's buffer overran.
    Overrun,
}

/// Content of one read.
#[derive(Debug, Default)]
pub struct ReadResult {
    pub facts: Vec<Fact>,
    /// Messages lost in an overrun of the socket's buffer, at least.
    pub overrun: u64,
    /// Messages that could not be decoded.
    pub unread: u64,
}

#[derive(Debug)]
pub struct Watch {
    netns: NetnsId,
    /// The host's namespace, in which only bridges and veth interfaces concern containers.
    host: bool,
    socket: Socket,
    links: BTreeMap<u32, Link>,
    addresses: BTreeSet<(u32, IpAddr)>,
    failed: BTreeSet<(u32, IpAddr)>,
    /// The dump in progress.
    dump: Option<Dump>,
    sequence: u32,
}

/// A dump of the whole namespace in progress.
#[derive(Debug, Default)]
struct Dump {
    links: BTreeMap<u32, Link>,
    addresses: BTreeSet<(u32, IpAddr)>,
    /// The interfaces are complete, addresses are next.
    links_done: bool,
    /// A change of the namespace has interrupted it.
    interrupted: bool,
    retries: u32,
}

impl Watch {
    /// Subscribes to changes and requests a dump, which [`Watch::receive`] returns.
    ///
    /// # Errors
    /// When the socket refuses the subscription or the request.
    pub fn begin(netns: NetnsId, host: bool, socket: OwnedFd) -> io::Result<Self> {
        // SAFETY: the descriptor is owned here, it is a netlink socket, and `Socket` closes it once.
        let mut socket = unsafe { Socket::from_raw_fd(socket.into_raw_fd()) };
        socket.set_non_blocking(true)?;
        socket.bind_auto()?;
        // Before the dump: a change meanwhile is reported twice, never missed.
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        let (links, addresses, failed) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let mut watch = Self { netns, host, socket, links, addresses, failed, dump: None, sequence: 0 };
        watch.start_dump(0)?;
        Ok(watch)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// No dump is in progress.
    pub fn is_read(&self) -> bool {
        self.dump.is_none()
    }

    /// Receives one datagram without decoding it, so that the caller can stamp it immediately. `None` if there is none.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn receive(&self) -> io::Result<Option<Received>> {
        loop {
            match self.socket.recv_from_full() {
                Ok((datagram, _)) => return Ok(Some(Received::Datagram(datagram))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    return Ok(Some(Received::Overrun));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Decodes what was received.
    ///
    /// # Errors
    /// When the socket refuses a further request.
    pub fn read(&mut self, received: &Received) -> io::Result<ReadResult> {
        let mut result = ReadResult::default();
        match received {
            Received::Overrun => {
                result.overrun = 1;
                self.start_dump(0)?;
            }
            Received::Datagram(datagram) => {
                for message in messages(datagram) {
                    match message {
                        Ok(message) => self.accept(message, &mut result.facts)?,
                        Err(_) => result.unread += 1,
                    }
                }
            }
        }
        Ok(result)
    }

    fn start_dump(&mut self, retries: u32) -> io::Result<()> {
        self.dump = Some(Dump { retries, ..Dump::default() });
        self.request(RouteNetlinkMessage::GetLink(LinkMessage::default()))
    }

    fn request(&mut self, message: RouteNetlinkMessage) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let bytes = request::dump(self.sequence, message);
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        Ok(())
    }

    fn accept(&mut self, message: Message, facts: &mut Vec<Fact>) -> io::Result<()> {
        // A process that changes something may use the same sequence number; only parts of a response are marked so.
        let is_response = message.sequence == self.sequence && message.flags & NLM_F_MULTIPART != 0;
        if let Some(dump) = self.dump.as_mut().filter(|_| is_response) {
            dump.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
            return self.accept_part(message.payload, facts);
        }
        match message.payload {
            Payload::Link { link, removed } => self.link(link, removed, facts),
            Payload::Address { index, address, removed } => self.address(index, address, removed, facts),
            Payload::Neighbour { index, address, reachability } => self.neighbour(index, address, reachability, facts),
            // A refused request leaves the namespace as last reported.
            Payload::Refused if message.sequence == self.sequence => self.dump = None,
            Payload::Done | Payload::Refused | Payload::Other => {}
        }
        Ok(())
    }

    fn accept_part(&mut self, part: Payload, facts: &mut Vec<Fact>) -> io::Result<()> {
        let Some(dump) = self.dump.as_mut() else { return Ok(()) };
        match part {
            Payload::Link { link, .. } => {
                let known = self.links.get(&link.index);
                let link = with_known_peer(link, known);
                if concerns(self.host, &link) && dump.links.len() < LINKS {
                    dump.links.insert(link.index, link);
                }
            }
            Payload::Address { index, address, .. } => {
                if is_own(address) && dump.links.contains_key(&index) && dump.addresses.len() < ADDRESSES {
                    dump.addresses.insert((index, address));
                }
            }
            Payload::Done if dump.interrupted && dump.retries < DUMP_RETRIES => {
                let retries = dump.retries + 1;
                return self.start_dump(retries);
            }
            Payload::Done if !dump.links_done => {
                dump.links_done = true;
                return self.request(RouteNetlinkMessage::GetAddress(AddressMessage::default()));
            }
            Payload::Done => self.finish_dump(facts),
            Payload::Refused => self.dump = None,
            Payload::Neighbour { .. } | Payload::Other => {}
        }
        Ok(())
    }

    fn finish_dump(&mut self, facts: &mut Vec<Fact>) {
        let Some(dump) = self.dump.take() else { return };
        self.links = dump.links;
        self.addresses = dump.addresses;
        self.failed.retain(|(index, _)| self.links.contains_key(index));
        facts.push(Fact::LinksRead(LinksRead {
            netns: self.netns,
            host: self.host,
            links: self.links.values().cloned().collect(),
            addresses: self.addresses.iter().copied().collect(),
        }));
    }

    fn link(&mut self, link: Link, removed: bool, facts: &mut Vec<Fact>) {
        let known = self.links.get(&link.index);
        let link = with_known_peer(link, known);
        if !concerns(self.host, &link) && known.is_none() {
            return;
        }
        let change = |link| Fact::Link(LinkChange { netns: self.netns, link, removed });
        if removed {
            if self.links.remove(&link.index).is_some() {
                facts.push(change(link.clone()));
            }
            self.addresses.retain(|(index, _)| *index != link.index);
            self.failed.retain(|(index, _)| *index != link.index);
        } else if known != Some(&link) && (known.is_some() || self.links.len() < LINKS) {
            facts.push(change(link.clone()));
            self.links.insert(link.index, link.clone());
        }
        // The response to a request in flight was written before this message.
        if let Some(dump) = &mut self.dump {
            if removed {
                dump.links.remove(&link.index);
            } else if dump.links.contains_key(&link.index) {
                dump.links.insert(link.index, link);
            }
        }
    }

    fn address(&mut self, index: u32, address: IpAddr, removed: bool, facts: &mut Vec<Fact>) {
        if self.host || !is_own(address) || !self.links.contains_key(&index) {
            return;
        }
        let key = (index, address);
        let changed = if removed {
            self.addresses.remove(&key)
        } else {
            let room = self.addresses.len() < ADDRESSES;
            if room { self.addresses.insert(key) } else { !self.addresses.contains(&key) }
        };
        if changed {
            facts.push(Fact::Address(AddressChange { netns: self.netns, index, address, removed }));
        }
        if let Some(dump) = &mut self.dump {
            if removed {
                dump.addresses.remove(&key);
            } else {
                dump.addresses.insert(key);
            }
        }
    }

    fn neighbour(&mut self, index: u32, address: IpAddr, reachability: Reachability, facts: &mut Vec<Fact>) {
        let key = (index, address);
        let failed = match reachability {
            Reachability::Failed if self.links.contains_key(&index) => {
                let room = self.failed.len() < ADDRESSES;
                let new = if room { self.failed.insert(key) } else { !self.failed.contains(&key) };
                if !new {
                    return;
                }
                true
            }
            Reachability::Reachable if self.failed.remove(&key) => false,
            Reachability::Failed | Reachability::Reachable | Reachability::Unknown => return,
        };
        facts.push(Fact::Neighbour(NeighbourChange { netns: self.netns, index, address, failed }));
    }
}

/// Restores the peer of a veth: the kernel omits a peer that is being removed.
fn with_known_peer(mut link: Link, known: Option<&Link>) -> Link {
    link.peer = link.peer.or_else(|| known.filter(|known| known.kind == link.kind)?.peer);
    link
}

fn concerns(host: bool, link: &Link) -> bool {
    match link.kind {
        LinkKind::Bridge | LinkKind::Veth => true,
        LinkKind::Other => !host,
    }
}

/// Excludes link-local addresses, which every interface has and which are not reachable from elsewhere.
fn is_own(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_link_local() && !address.is_loopback(),
        IpAddr::V6(address) => !address.is_unicast_link_local() && !address.is_loopback(),
    }
}

#[cfg(test)]
mod tests;
