//! Network interfaces: which belong to which container, what leads to them, and when they could not be reached.
//!
//! A container's interface is one end of a veth pair; the other end lives on the host, as a port of a bridge. The way to
//! the container is cut when its own end, the host's end or the bridge goes down or away: each such time is an
//! [`Outage`](crate::engine::world::network::outages::Outage).
//!
//! Bound: [`CAP`] interfaces, those told last are not kept: their containers are then judged without them; [`NOTES`]
//! lines for timelines, the oldest go first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use crate::model::event::{AddressChange, Link, LinkChange, LinkKind, LinkState, LinksRead, NeighbourChange};
use crate::model::ids::{ContainerId, NetnsId};
use crate::model::time::Stamp;

use crate::engine::world::containers::Containers;
use crate::engine::world::network::outages::{Cut, OutageId, Outages, Place};

const CAP: usize = 16_384;
const NOTES: usize = 4_096;

#[derive(Debug, Default)]
pub struct Interfaces {
    pub outages: Outages,
    held: BTreeMap<Place, Interface>,
    /// The host's end of a pair → the container's.
    inner: BTreeMap<u32, Place>,
    host: Option<NetnsId>,
    notes: VecDeque<Note>,
}

/// An interface that is there.
#[derive(Clone, Debug)]
pub struct Interface {
    link: Link,
    /// When it was first told.
    told: Stamp,
    /// Its name when it was last up: Docker renames what it takes away.
    name: String,
    addresses: BTreeSet<IpAddr>,
    /// The bridge that it is, or last was, a port of.
    bridge: Option<u32>,
    /// Since when nothing has been wrong with the way to it.
    fine_since: Option<Stamp>,
    /// Nothing was wrong with it once: one that is only being made has nothing that could be cut.
    served: bool,
}

/// A line for the timelines of those whom it concerns.
#[derive(Clone, Debug)]
pub struct Note {
    pub at: Stamp,
    pub container: Option<ContainerId>,
    pub place: Place,
    pub text: String,
}

/// What is wrong with the way to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Down,
    /// The other end is down.
    NoCarrier,
    /// The host's end is no port of its bridge any more.
    OffBridge,
    Removed,
}

impl Interfaces {
    /// Lines about these containers, or about this place, from an instant on.
    pub fn notes<'a>(
        &'a self,
        containers: &'a BTreeSet<ContainerId>,
        place: Option<Place>,
        from: Stamp,
    ) -> impl Iterator<Item = &'a Note> {
        self.notes.iter().filter(move |note| {
            let about = note.container.as_ref().is_some_and(|container| containers.contains(container));
            note.at >= from && (about || Some(note.place) == place)
        })
    }

    /// The bridge behind which a container has this address.
    #[must_use]
    pub fn bridge_of(&self, netns: NetnsId, ip: IpAddr) -> Option<Place> {
        let own = self.of_namespace(netns).find(|(_, held)| held.addresses.contains(&ip));
        let host = self.host?;
        let outer = self.held.get(&(host, own?.1.link.peer?))?;
        outer.bridge.map(|bridge| (host, bridge))
    }

    /// Interfaces of a namespace to which nothing is wrong with the way: where each is, its addresses, and since when.
    pub fn fine(&self, netns: NetnsId) -> impl Iterator<Item = (Place, &BTreeSet<IpAddr>, Stamp)> {
        self.of_namespace(netns).filter_map(|(place, held)| Some((*place, &held.addresses, held.fine_since?)))
    }

    fn of_namespace(&self, netns: NetnsId) -> impl Iterator<Item = (&Place, &Interface)> {
        self.held.range((netns, 0)..=(netns, u32::MAX))
    }

    /// All interfaces of a namespace. What changed unseen since it was last read, changed by now.
    pub(in crate::engine::world) fn read(
        &mut self,
        at: Stamp,
        read: &LinksRead,
        containers: &Containers,
    ) -> Vec<OutageId> {
        if read.host {
            self.host = Some(read.netns);
        }
        let there: BTreeSet<u32> = read.links.iter().map(|link| link.index).collect();
        let gone = self.of_namespace(read.netns).filter(|((_, index), _)| !there.contains(index));
        let gone: Vec<(Link, Stamp)> = gone.map(|(_, held)| (held.link.clone(), held.told)).collect();
        let owner = containers.owner_of_netns(read.netns, at).and_then(|id| containers.get(&id));
        let started = owner.and_then(|container| container.started_before(at));
        let mut changed = Vec::new();
        for (link, told) in gone {
            let change = LinkChange { netns: read.netns, link, removed: true };
            if started.is_some_and(|started| told < started) {
                // Of a namespace that had this number before: it went with its container, and cut nobody off.
                self.hold(at, (read.netns, change.link.index), &change);
            } else {
                changed.extend(self.changed(at, &change, containers, false));
            }
        }
        for link in &read.links {
            let change = LinkChange { netns: read.netns, link: link.clone(), removed: false };
            self.hold(at, (read.netns, link.index), &change);
        }
        for (index, address) in &read.addresses {
            if let Some(held) = self.held.get_mut(&(read.netns, *index)) {
                held.addresses.insert(*address);
            }
        }
        for link in &read.links {
            let change = LinkChange { netns: read.netns, link: link.clone(), removed: false };
            changed.extend(self.changed(at, &change, containers, false));
        }
        changed
    }

    pub(in crate::engine::world) fn link(
        &mut self,
        at: Stamp,
        change: &LinkChange,
        containers: &Containers,
    ) -> Vec<OutageId> {
        self.changed(at, change, containers, true)
    }

    /// `seen`: the change itself was told, and this is its instant.
    fn changed(&mut self, at: Stamp, change: &LinkChange, containers: &Containers, seen: bool) -> Vec<OutageId> {
        let place = (change.netns, change.link.index);
        let inner = self.inner_of(place, &change.link);
        let container = inner.and_then(|(netns, _)| containers.owner_of_netns(netns, at));
        if seen {
            self.note(at, place, container.clone(), change);
        }
        let before = self.hold(at, place, change);
        let fault = match change.link.kind {
            LinkKind::Bridge => self.fault_of_bridge(place),
            LinkKind::Veth | LinkKind::Other => inner.and_then(|inner| self.fault_of_way(inner)),
        };
        let target = if change.link.kind == LinkKind::Bridge { Some(place) } else { inner };
        let Some(target) = target else { return Vec::new() };
        let held = self.held.get(&target).or(before.as_ref().filter(|_| target == place));
        let Some(held) = held.cloned() else { return Vec::new() };
        let which = if place == target { held.name.clone() } else { change.link.name.clone() };
        let outage = match fault {
            Some(_) if seen && !held.served => None,
            Some(fault) if change.link.kind == LinkKind::Bridge => {
                self.outages.bridge_cut(at, place, &which, fault, seen)
            }
            Some(fault) => {
                // A dead container's interface goes with it.
                let alive = |id: &ContainerId| containers.get(id).is_some_and(|container| container.down.is_none());
                container.filter(alive).and_then(|id| {
                    let cut = Cut { place: target, name: &which, fault, addresses: &held.addresses, seen };
                    self.outages.cut(at, &id, &cut, containers)
                })
            }
            None => self.outages.mended(at, target, &held.name),
        };
        if let Some(held) = self.held.get_mut(&target) {
            held.fine_since = if fault.is_none() { held.fine_since.or(Some(at)) } else { None };
            held.served |= fault.is_none();
        }
        outage.into_iter().collect()
    }

    /// The container's end of the pair that an interface is an end of; its own place in a container's namespace.
    fn inner_of(&self, place: Place, link: &Link) -> Option<Place> {
        if self.host != Some(place.0) {
            return Some(place);
        }
        let inner = self.inner.get(&place.1).copied()?;
        let joined = self.held.get(&inner).is_some_and(|held| link.peer.is_none_or(|peer| peer == held.link.index));
        joined.then_some(inner)
    }

    /// Keeps what is told; returns what was there.
    fn hold(&mut self, at: Stamp, place: Place, change: &LinkChange) -> Option<Interface> {
        let link = &change.link;
        if change.removed {
            let before = self.held.remove(&place);
            self.inner.retain(|_, inner| *inner != place);
            return before;
        }
        let before = self.held.get(&place).cloned();
        if before.is_none() && self.held.len() >= CAP {
            return None;
        }
        // A veth end whose other end is being taken away names it no more.
        let peer = link.peer.or(before.as_ref().and_then(|before| before.link.peer));
        if self.host != Some(place.0)
            && let Some(peer) = peer
        {
            self.inner.insert(peer, place);
        }
        let up = link.state == LinkState::Up || before.is_none();
        let name = before.as_ref().filter(|_| !up).map_or_else(|| link.name.clone(), |before| before.name.clone());
        let held = Interface {
            link: Link { peer, ..link.clone() },
            told: before.as_ref().map_or(at, |before| before.told),
            name,
            addresses: before.as_ref().map(|before| before.addresses.clone()).unwrap_or_default(),
            bridge: link.master.or(before.as_ref().and_then(|before| before.bridge)),
            fine_since: before.as_ref().and_then(|before| before.fine_since),
            served: before.as_ref().is_some_and(|before| before.served),
        };
        self.held.insert(place, held);
        before
    }

    fn fault_of_bridge(&self, place: Place) -> Option<Fault> {
        let Some(held) = self.held.get(&place) else { return Some(Fault::Removed) };
        match held.link.state {
            LinkState::Down => Some(Fault::Down),
            // Without a carrier it only has no port that is up.
            LinkState::NoCarrier | LinkState::Up => None,
        }
    }

    fn fault_of_way(&self, inner: Place) -> Option<Fault> {
        let Some(held) = self.held.get(&inner) else { return Some(Fault::Removed) };
        let outer = self.host.zip(held.link.peer).and_then(|outer| self.held.get(&outer));
        match (held.link.state, outer) {
            (LinkState::Down, _) => Some(Fault::Down),
            (_, Some(outer)) if outer.link.state == LinkState::Down => Some(Fault::Down),
            (LinkState::NoCarrier, _) => Some(Fault::NoCarrier),
            (LinkState::Up, Some(outer)) if outer.bridge.is_some() && outer.link.master.is_none() => {
                Some(Fault::OffBridge)
            }
            (LinkState::Up, _) => None,
        }
    }

    /// Returns the container whose address it is.
    pub(in crate::engine::world) fn address(
        &mut self,
        at: Stamp,
        change: &AddressChange,
        containers: &Containers,
    ) -> Option<ContainerId> {
        let place = (change.netns, change.index);
        let held = self.held.get_mut(&place)?;
        // What it had stays its own: an address goes shortly before its interface.
        held.addresses.insert(change.address);
        let container = containers.owner_of_netns(change.netns, at)?;
        let verb = if change.removed { "lost" } else { "got" };
        let text = format!("{} {verb} the address {}", held.name, change.address);
        self.push(Note { at, container: Some(container.clone()), place, text });
        Some(container)
    }

    pub(in crate::engine::world) fn neighbour(&mut self, at: Stamp, change: &NeighbourChange, containers: &Containers) {
        let place = (change.netns, change.index);
        let Some(held) = self.held.get(&place) else { return };
        let whose = containers.of_address(change.address, at).and_then(|id| containers.get(&id));
        let whose = whose.map_or_else(String::new, |container| format!(" ({})", container.info.name));
        let verb = if change.failed { "does not answer" } else { "answers again" };
        let text = format!("{}: the neighbour {}{whose} {verb}", held.name, change.address);
        let container = containers.owner_of_netns(change.netns, at);
        self.push(Note { at, container, place, text });
    }

    fn note(&mut self, at: Stamp, place: Place, container: Option<ContainerId>, change: &LinkChange) {
        let Some(before) = self.held.get(&place) else { return };
        if container.is_none() && change.link.kind != LinkKind::Bridge {
            return;
        }
        let name = &before.name;
        let on_host = if self.host == Some(place.0) { " on the host" } else { "" };
        let state = |link: &Link| match link.state {
            LinkState::Up => "up",
            LinkState::NoCarrier => "without a carrier",
            LinkState::Down => "down",
        };
        let text = if change.removed {
            format!("{name}{on_host} was removed")
        } else if before.link.state != change.link.state {
            format!("{name}{on_host} is {}", state(&change.link))
        } else if before.link.master != change.link.master {
            let verb = if change.link.master.is_some() { "joined a bridge" } else { "left its bridge" };
            format!("{name}{on_host} {verb}")
        } else {
            return;
        };
        self.push(Note { at, container, place, text });
    }

    fn push(&mut self, note: Note) {
        self.notes.push_back(note);
        if self.notes.len() > NOTES {
            self.notes.pop_front();
        }
    }
}
