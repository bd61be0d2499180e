//! One network namespace: its interfaces as they were last told, and what its socket brings.
//!
//! Only differences leave: rtnetlink repeats an interface whenever anything about it changes. A socket whose buffer ran
//! over has lost messages that nobody can name: that is told as a loss, and the namespace is read anew.

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

use super::decode::{Heard, Standing, What, messages};
use super::request;
use crate::model::event::{AddressChange, Fact, Link, LinkChange, LinkKind, LinksRead, NeighbourChange};
use crate::model::ids::NetnsId;

/// RTNLGRP_LINK, _NEIGH, _IPV4_IFADDR and _IPV6_IFADDR (include/uapi/linux/rtnetlink.h).
const GROUPS: [u32; 4] = [1, 3, 5, 9];
/// Interfaces kept of one namespace. What is beyond is not told: its changes are nobody's.
const LINKS: usize = 4_096;
/// Addresses and failed neighbours kept of one namespace. What is beyond is told again each time.
const ADDRESSES: usize = 4_096;
/// Readings in a row that a change of the namespace may spoil (NLM_F_DUMP_INTR) until one is taken as it is.
const SPOILED: u32 = 5;

/// What a socket gave.
#[derive(Debug)]
pub enum Received {
    Datagram(Vec<u8>),
    /// Its buffer ran over.
    Overrun,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Turn {
    pub facts: Vec<Fact>,
    /// Messages lost in the kernel, at least: the socket's buffer ran over.
    pub overrun: u64,
    /// Messages that cannot be read.
    pub unread: u64,
}

#[derive(Debug)]
pub struct Watch {
    netns: NetnsId,
    /// The host's: of its interfaces only bridges and the ends of veth pairs concern containers.
    host: bool,
    socket: Socket,
    links: BTreeMap<u32, Link>,
    addresses: BTreeSet<(u32, IpAddr)>,
    failed: BTreeSet<(u32, IpAddr)>,
    reading: Option<Reading>,
    sequence: u32,
}

/// A reading of the whole namespace under way.
#[derive(Debug, Default)]
struct Reading {
    links: BTreeMap<u32, Link>,
    addresses: BTreeSet<(u32, IpAddr)>,
    /// The interfaces have come, addresses are next.
    halfway: bool,
    /// A change meanwhile spoiled it.
    spoiled: bool,
    tries: u32,
}

impl Watch {
    /// Subscribes, and asks for what there is; the answers come by [`Watch::receive`].
    ///
    /// # Errors
    /// When the socket takes no subscription or no question.
    pub fn begin(netns: NetnsId, host: bool, socket: OwnedFd) -> io::Result<Self> {
        // SAFETY: the descriptor is owned here, it is a netlink socket, and `Socket` closes it once.
        let mut socket = unsafe { Socket::from_raw_fd(socket.into_raw_fd()) };
        socket.set_non_blocking(true)?;
        socket.bind_auto()?;
        // Before the question: what changes meanwhile is told twice, never missed.
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        let (links, addresses, failed) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let mut watch = Self { netns, host, socket, links, addresses, failed, reading: None, sequence: 0 };
        watch.read_anew(0)?;
        Ok(watch)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Nothing of the namespace is still being read.
    pub fn is_read(&self) -> bool {
        self.reading.is_none()
    }

    /// Takes one datagram off the socket, unread: whoever stamps it lets nothing come between. `None`: there is none.
    ///
    /// # Errors
    /// When the socket is broken.
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

    /// Reads what has been taken.
    ///
    /// # Errors
    /// When the socket takes no further question.
    pub fn read(&mut self, received: &Received) -> io::Result<Turn> {
        let mut turn = Turn::default();
        match received {
            Received::Overrun => {
                turn.overrun = 1;
                self.read_anew(0)?;
            }
            Received::Datagram(datagram) => {
                for heard in messages(datagram) {
                    match heard {
                        Ok(heard) => self.take(heard, &mut turn.facts)?,
                        Err(_) => turn.unread += 1,
                    }
                }
            }
        }
        Ok(turn)
    }

    fn read_anew(&mut self, tries: u32) -> io::Result<()> {
        self.reading = Some(Reading { tries, ..Reading::default() });
        self.ask(RouteNetlinkMessage::GetLink(LinkMessage::default()))
    }

    fn ask(&mut self, question: RouteNetlinkMessage) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let bytes = request::dump(self.sequence, question);
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        Ok(())
    }

    fn take(&mut self, heard: Heard, facts: &mut Vec<Fact>) -> io::Result<()> {
        // Whoever changes something may have chosen the same number; only the parts of an answer are marked so.
        let answer = heard.sequence == self.sequence && heard.flags & NLM_F_MULTIPART != 0;
        if let Some(reading) = self.reading.as_mut().filter(|_| answer) {
            reading.spoiled |= heard.flags & NLM_F_DUMP_INTR != 0;
            return self.take_part(heard.what, facts);
        }
        match heard.what {
            What::Link { link, removed } => self.link(link, removed, facts),
            What::Address { index, address, removed } => self.address(index, address, removed, facts),
            What::Neighbour { index, address, standing } => self.neighbour(index, address, standing, facts),
            // A refused question leaves the namespace as it was last told.
            What::Refused if heard.sequence == self.sequence => self.reading = None,
            What::Done | What::Refused | What::Other => {}
        }
        Ok(())
    }

    fn take_part(&mut self, part: What, facts: &mut Vec<Fact>) -> io::Result<()> {
        let Some(reading) = self.reading.as_mut() else { return Ok(()) };
        match part {
            What::Link { link, .. } => {
                let known = self.links.get(&link.index);
                let link = remembering(link, known);
                if concerns(self.host, &link) && reading.links.len() < LINKS {
                    reading.links.insert(link.index, link);
                }
            }
            What::Address { index, address, .. } => {
                if is_own(address) && reading.links.contains_key(&index) && reading.addresses.len() < ADDRESSES {
                    reading.addresses.insert((index, address));
                }
            }
            What::Done if reading.spoiled && reading.tries < SPOILED => {
                let tries = reading.tries + 1;
                return self.read_anew(tries);
            }
            What::Done if !reading.halfway => {
                reading.halfway = true;
                return self.ask(RouteNetlinkMessage::GetAddress(AddressMessage::default()));
            }
            What::Done => self.conclude(facts),
            What::Refused => self.reading = None,
            What::Neighbour { .. } | What::Other => {}
        }
        Ok(())
    }

    fn conclude(&mut self, facts: &mut Vec<Fact>) {
        let Some(reading) = self.reading.take() else { return };
        self.links = reading.links;
        self.addresses = reading.addresses;
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
        let link = remembering(link, known);
        if !concerns(self.host, &link) && known.is_none() {
            return;
        }
        let told = |link| Fact::Link(LinkChange { netns: self.netns, link, removed });
        if removed {
            if self.links.remove(&link.index).is_some() {
                facts.push(told(link.clone()));
            }
            self.addresses.retain(|(index, _)| *index != link.index);
            self.failed.retain(|(index, _)| *index != link.index);
        } else if known != Some(&link) && (known.is_some() || self.links.len() < LINKS) {
            facts.push(told(link.clone()));
            self.links.insert(link.index, link.clone());
        }
        // The answer to a question that is under way was written before this.
        if let Some(reading) = &mut self.reading {
            if removed {
                reading.links.remove(&link.index);
            } else if reading.links.contains_key(&link.index) {
                reading.links.insert(link.index, link);
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
        if let Some(reading) = &mut self.reading {
            if removed {
                reading.addresses.remove(&key);
            } else {
                reading.addresses.insert(key);
            }
        }
    }

    fn neighbour(&mut self, index: u32, address: IpAddr, standing: Standing, facts: &mut Vec<Fact>) {
        let key = (index, address);
        let failed = match standing {
            Standing::Failed if self.links.contains_key(&index) => {
                let room = self.failed.len() < ADDRESSES;
                let new = if room { self.failed.insert(key) } else { !self.failed.contains(&key) };
                if !new {
                    return;
                }
                true
            }
            Standing::Answers if self.failed.remove(&key) => false,
            Standing::Failed | Standing::Answers | Standing::Neither => return,
        };
        facts.push(Fact::Neighbour(NeighbourChange { netns: self.netns, index, address, failed }));
    }
}

/// A veth end whose other end is just being taken down names it no more.
fn remembering(mut link: Link, known: Option<&Link>) -> Link {
    link.peer = link.peer.or_else(|| known.filter(|known| known.kind == link.kind)?.peer);
    link
}

fn concerns(host: bool, link: &Link) -> bool {
    match link.kind {
        LinkKind::Bridge | LinkKind::Veth => true,
        LinkKind::Other => !host,
    }
}

/// Link-local addresses come and go with every interface and lead nowhere else.
fn is_own(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_link_local() && !address.is_loopback(),
        IpAddr::V6(address) => !address.is_unicast_link_local() && !address.is_loopback(),
    }
}

#[cfg(test)]
mod tests;
