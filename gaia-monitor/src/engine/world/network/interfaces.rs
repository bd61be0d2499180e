//! Network interfaces of containers, the host's interfaces and bridges that lead to them, and their health.
//!
//! A container's interface is one side of a veth pair; the other side is on the host, as a port of a bridge. The path
//! to the container is broken while the container side, the host side or the bridge is down or removed: each such
//! period is an [`Outage`](crate::engine::world::network::outages::Outage).
//!
//! Bound: [`INTERFACES_CAP`] interfaces; when reached, new ones are ignored, and their containers are attributed
//! without them. [`NOTES_CAP`] timeline lines; when reached, the oldest is evicted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use crate::model::event::{AddressChange, Link, LinkChange, LinkKind, LinkState, LinksRead, NeighbourChange};
use crate::model::ids::{ContainerId, NetnsId};
use crate::model::time::Stamp;

use crate::engine::world::containers::Containers;
use crate::engine::world::network::outages::{OutageId, Outages, PathFailure, Place};

const INTERFACES_CAP: usize = 16_384;
const NOTES_CAP: usize = 4_096;

#[derive(Debug, Default)]
pub struct Interfaces {
    pub outages: Outages,
    interfaces: BTreeMap<Place, Interface>,
    /// Host side of a veth pair → container side.
    container_sides: BTreeMap<u32, Place>,
    host: Option<NetnsId>,
    notes: VecDeque<Note>,
}

/// An existing interface.
#[derive(Clone, Debug)]
pub struct Interface {
    link: Link,
    /// When it was first reported.
    first_seen: Stamp,
    /// Its name when it was last up: Docker renames an interface before removal.
    name: String,
    addresses: BTreeSet<IpAddr>,
    /// The bridge that it is a port of, or was last.
    bridge: Option<u32>,
    /// Since when the path to it has had no fault.
    healthy_since: Option<Stamp>,
    /// The path was healthy once. Before that, the interface is being created, and a fault is no outage.
    was_healthy: bool,
}

/// A timeline line about an interface.
#[derive(Clone, Debug)]
pub struct Note {
    pub at: Stamp,
    pub container: Option<ContainerId>,
    pub place: Place,
    pub text: String,
}

/// A fault on the path to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Down,
    /// The peer interface is down.
    NoCarrier,
    /// The host side has left its bridge.
    OffBridge,
    Removed,
}

impl Interfaces {
    /// Lines about these containers or this place, from an instant on.
    pub fn notes<'a>(
        &'a self,
        containers: &'a BTreeSet<ContainerId>,
        place: Option<Place>,
        from: Stamp,
    ) -> impl Iterator<Item = &'a Note> {
        self.notes.iter().filter(move |note| {
            let concerned = note.container.as_ref().is_some_and(|container| containers.contains(container));
            note.at >= from && (concerned || Some(note.place) == place)
        })
    }

    /// The bridge that leads to this address of a container.
    #[must_use]
    pub fn bridge_of(&self, netns: NetnsId, ip: IpAddr) -> Option<Place> {
        let own = self.of_namespace(netns).find(|(_, interface)| interface.addresses.contains(&ip));
        let host = self.host?;
        let host_side = self.interfaces.get(&(host, own?.1.link.peer?))?;
        host_side.bridge.map(|bridge| (host, bridge))
    }

    /// Whether an interface of a namespace has this address.
    #[must_use]
    pub fn has_address(&self, netns: NetnsId, ip: IpAddr) -> bool {
        self.of_namespace(netns).any(|(_, interface)| interface.addresses.contains(&ip))
    }

    /// The interfaces of a namespace without a fault: place, addresses, and since when.
    pub fn healthy(&self, netns: NetnsId) -> impl Iterator<Item = (Place, &BTreeSet<IpAddr>, Stamp)> {
        self.of_namespace(netns)
            .filter_map(|(place, interface)| Some((*place, &interface.addresses, interface.healthy_since?)))
    }

    fn of_namespace(&self, netns: NetnsId) -> impl Iterator<Item = (&Place, &Interface)> {
        self.interfaces.range((netns, 0)..=(netns, u32::MAX))
    }

    /// Applies a full reading of a namespace's interfaces. A change that was not reported is dated to the reading.
    pub(in crate::engine::world) fn links_read(
        &mut self,
        at: Stamp,
        read: &LinksRead,
        containers: &Containers,
    ) -> Vec<OutageId> {
        if read.host {
            self.host = Some(read.netns);
        }
        let present: BTreeSet<u32> = read.links.iter().map(|link| link.index).collect();
        let missing = self.of_namespace(read.netns).filter(|((_, index), _)| !present.contains(index));
        let missing: Vec<(Link, Stamp)> =
            missing.map(|(_, interface)| (interface.link.clone(), interface.first_seen)).collect();
        let owner = containers.owner_of_netns(read.netns, at).and_then(|id| containers.get(&id));
        let started = owner.and_then(|container| container.started_before(at));
        let mut changed = Vec::new();
        for (link, first_seen) in missing {
            let change = LinkChange { netns: read.netns, link, removed: true };
            if started.is_some_and(|started| first_seen < started) {
                // An interface of an earlier namespace with the same number: it was removed with its container, without
                // an outage.
                self.store(at, (read.netns, change.link.index), &change);
            } else {
                changed.extend(self.apply(at, &change, containers, false));
            }
        }
        for link in &read.links {
            let change = LinkChange { netns: read.netns, link: link.clone(), removed: false };
            self.store(at, (read.netns, link.index), &change);
        }
        for (index, address) in &read.addresses {
            if let Some(interface) = self.interfaces.get_mut(&(read.netns, *index)) {
                interface.addresses.insert(*address);
            }
        }
        for link in &read.links {
            let change = LinkChange { netns: read.netns, link: link.clone(), removed: false };
            changed.extend(self.apply(at, &change, containers, false));
        }
        changed
    }

    pub(in crate::engine::world) fn link_changed(
        &mut self,
        at: Stamp,
        change: &LinkChange,
        containers: &Containers,
    ) -> Vec<OutageId> {
        self.apply(at, change, containers, true)
    }

    /// `reported`: the change was reported, and `at` is its instant; otherwise it was found by a reading.
    fn apply(&mut self, at: Stamp, change: &LinkChange, containers: &Containers, reported: bool) -> Vec<OutageId> {
        let place = (change.netns, change.link.index);
        let container_side = self.container_side_of(place, &change.link);
        let container = container_side.and_then(|(netns, _)| containers.owner_of_netns(netns, at));
        if reported {
            self.note_change(at, place, container.clone(), change);
        }
        let previous = self.store(at, place, change);
        let fault = match change.link.kind {
            LinkKind::Bridge => self.bridge_fault(place),
            LinkKind::Veth | LinkKind::Other => {
                container_side.and_then(|container_side| self.path_fault(container_side))
            }
        };
        let affected = if change.link.kind == LinkKind::Bridge { Some(place) } else { container_side };
        let Some(affected) = affected else { return Vec::new() };
        let interface = self.interfaces.get(&affected).or(previous.as_ref().filter(|_| affected == place));
        let Some(interface) = interface.cloned() else { return Vec::new() };
        let shown_name = if place == affected { interface.name.clone() } else { change.link.name.clone() };
        let outage = match fault {
            Some(_) if reported && !interface.was_healthy => None,
            Some(fault) if change.link.kind == LinkKind::Bridge => {
                self.outages.bridge_failed(at, place, &shown_name, fault, reported)
            }
            Some(fault) => {
                // The interface of a container that is down is removed with it.
                let alive = |id: &ContainerId| containers.get(id).is_some_and(|container| container.down.is_none());
                container.filter(alive).and_then(|id| {
                    let failure = PathFailure {
                        place: affected,
                        name: &shown_name,
                        fault,
                        addresses: &interface.addresses,
                        reported,
                    };
                    self.outages.path_failed(at, &id, &failure, containers)
                })
            }
            None => self.outages.recovered(at, affected, &interface.name),
        };
        if let Some(interface) = self.interfaces.get_mut(&affected) {
            interface.healthy_since = if fault.is_none() { interface.healthy_since.or(Some(at)) } else { None };
            interface.was_healthy |= fault.is_none();
        }
        outage.into_iter().collect()
    }

    /// The container side of an interface's veth pair; in a container's namespace, the interface itself.
    fn container_side_of(&self, place: Place, link: &Link) -> Option<Place> {
        if self.host != Some(place.0) {
            return Some(place);
        }
        let container_side = self.container_sides.get(&place.1).copied()?;
        let is_paired = self
            .interfaces
            .get(&container_side)
            .is_some_and(|interface| link.peer.is_none_or(|peer| peer == interface.link.index));
        is_paired.then_some(container_side)
    }

    /// Stores the new state of an interface; returns the previous one.
    fn store(&mut self, at: Stamp, place: Place, change: &LinkChange) -> Option<Interface> {
        let link = &change.link;
        if change.removed {
            let previous = self.interfaces.remove(&place);
            self.container_sides.retain(|_, container_side| *container_side != place);
            return previous;
        }
        let previous = self.interfaces.get(&place).cloned();
        if previous.is_none() && self.interfaces.len() >= INTERFACES_CAP {
            return None;
        }
        // A veth interface no longer names its peer while the peer is being removed.
        let peer = link.peer.or(previous.as_ref().and_then(|previous| previous.link.peer));
        if self.host != Some(place.0)
            && let Some(peer) = peer
        {
            self.container_sides.insert(peer, place);
        }
        let up = link.state == LinkState::Up || previous.is_none();
        let name =
            previous.as_ref().filter(|_| !up).map_or_else(|| link.name.clone(), |previous| previous.name.clone());
        let interface = Interface {
            link: Link { peer, ..link.clone() },
            first_seen: previous.as_ref().map_or(at, |previous| previous.first_seen),
            name,
            addresses: previous.as_ref().map(|previous| previous.addresses.clone()).unwrap_or_default(),
            bridge: link.master.or(previous.as_ref().and_then(|previous| previous.bridge)),
            healthy_since: previous.as_ref().and_then(|previous| previous.healthy_since),
            was_healthy: previous.as_ref().is_some_and(|previous| previous.was_healthy),
        };
        self.interfaces.insert(place, interface);
        previous
    }

    fn bridge_fault(&self, place: Place) -> Option<Fault> {
        let Some(interface) = self.interfaces.get(&place) else { return Some(Fault::Removed) };
        match interface.link.state {
            LinkState::Down => Some(Fault::Down),
            // A bridge has no carrier while none of its ports is up.
            LinkState::NoCarrier | LinkState::Up => None,
        }
    }

    fn path_fault(&self, container_side: Place) -> Option<Fault> {
        let Some(interface) = self.interfaces.get(&container_side) else { return Some(Fault::Removed) };
        let host_side = self.host.zip(interface.link.peer).and_then(|host_side| self.interfaces.get(&host_side));
        match (interface.link.state, host_side) {
            (LinkState::Down, _) => Some(Fault::Down),
            (_, Some(host_side)) if host_side.link.state == LinkState::Down => Some(Fault::Down),
            (LinkState::NoCarrier, _) => Some(Fault::NoCarrier),
            (LinkState::Up, Some(host_side)) if host_side.bridge.is_some() && host_side.link.master.is_none() => {
                Some(Fault::OffBridge)
            }
            (LinkState::Up, _) => None,
        }
    }

    /// Returns the container of the address.
    pub(in crate::engine::world) fn address_changed(
        &mut self,
        at: Stamp,
        change: &AddressChange,
        containers: &Containers,
    ) -> Option<ContainerId> {
        let place = (change.netns, change.index);
        let interface = self.interfaces.get_mut(&place)?;
        // A removed address is kept: addresses are removed just before their interface.
        interface.addresses.insert(change.address);
        let container = containers.owner_of_netns(change.netns, at)?;
        let verb = if change.removed { "lost" } else { "got" };
        let text = format!("{} {verb} the address {}", interface.name, change.address);
        self.push_note(Note { at, container: Some(container.clone()), place, text });
        Some(container)
    }

    pub(in crate::engine::world) fn neighbour_changed(
        &mut self,
        at: Stamp,
        change: &NeighbourChange,
        containers: &Containers,
    ) {
        let place = (change.netns, change.index);
        let Some(interface) = self.interfaces.get(&place) else { return };
        let owner = containers.of_address(change.address, at).and_then(|id| containers.get(&id));
        let owner = owner.map_or_else(String::new, |container| format!(" ({})", container.info.name));
        let verb = if change.failed { "does not respond" } else { "responds again" };
        let text = format!("{}: neighbour {}{owner} {verb}", interface.name, change.address);
        let container = containers.owner_of_netns(change.netns, at);
        self.push_note(Note { at, container, place, text });
    }

    fn note_change(&mut self, at: Stamp, place: Place, container: Option<ContainerId>, change: &LinkChange) {
        let Some(previous) = self.interfaces.get(&place) else { return };
        if container.is_none() && change.link.kind != LinkKind::Bridge {
            return;
        }
        let name = &previous.name;
        let on_host = if self.host == Some(place.0) { " on the host" } else { "" };
        let state = |link: &Link| match link.state {
            LinkState::Up => "up",
            LinkState::NoCarrier => "without a carrier",
            LinkState::Down => "down",
        };
        let text = if change.removed {
            format!("{name}{on_host} was removed")
        } else if previous.link.state != change.link.state {
            format!("{name}{on_host} is {}", state(&change.link))
        } else if previous.link.master != change.link.master {
            let verb = if change.link.master.is_some() { "joined a bridge" } else { "left its bridge" };
            format!("{name}{on_host} {verb}")
        } else {
            return;
        };
        self.push_note(Note { at, container, place, text });
    }

    fn push_note(&mut self, note: Note) {
        self.notes.push_back(note);
        if self.notes.len() > NOTES_CAP {
            self.notes.pop_front();
        }
    }
}
