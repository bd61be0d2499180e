//! Network interfaces of a scenario: one bridge on the host, and a veth pair for each container, which rtnetlink reports
//! from `links` on.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use gaia_monitor::model::event::{
    AddressChange, Fact, Link, LinkChange, LinkKind, LinkState, LinksRead, NeighbourChange,
};
use gaia_monitor::model::ids::NetnsId;
use gaia_monitor::model::time::Nanos;

use super::actors::HOST_NETNS;
use super::script::Script;
use super::words::Words;

const BRIDGE: u32 = 5;
/// What Docker takes: from setting an interface down to its leaving the container, then to the end of the pair, then to
/// telling (medians of a few runs).
const DOWN_TO_MOVED: Nanos = Nanos::from_millis(16);
const MOVED_TO_REMOVED: Nanos = Nanos::from_millis(7);
const REMOVED_TO_TOLD: Nanos = Nanos::from_millis(14);

/// The interfaces, from `links` on.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    /// By container: the numbers of its own end and of the host's.
    pairs: BTreeMap<String, (u32, u32)>,
    next: u32,
}

fn bridge(state: LinkState) -> Link {
    Link { index: BRIDGE, name: "br-gaia".into(), kind: LinkKind::Bridge, state, master: None, peer: None }
}

fn inner((own, other): (u32, u32), state: LinkState) -> Link {
    Link { index: own, name: "eth0".into(), kind: LinkKind::Veth, state, master: None, peer: Some(other) }
}

fn outer((own, other): (u32, u32), state: LinkState) -> Link {
    let name = format!("veth{other}");
    Link { index: other, name, kind: LinkKind::Veth, state, master: Some(BRIDGE), peer: Some(own) }
}

impl Script {
    /// All interfaces are read, as at the monitor's start. Those of containers that start later come with their start.
    pub fn links(&mut self, words: &mut Words) -> Result<()> {
        let down = words.value("down");
        let names: Vec<String> = self.actors.players.keys().cloned().collect();
        self.interfaces.get_or_insert_with(Interfaces::default);
        let state = |name: &str| if down.as_deref() == Some(name) { LinkState::Down } else { LinkState::Up };
        let mut links = vec![bridge(state("bridge"))];
        for name in &names {
            let pair = self.pair(name)?;
            links.push(outer(pair, state(name)));
        }
        self.facts.own(Fact::LinksRead(LinksRead { netns: HOST_NETNS, host: true, links, addresses: Vec::new() }));
        for name in names {
            self.own_links(&name)?;
        }
        Ok(())
    }

    fn own_links(&mut self, name: &str) -> Result<()> {
        let (pair, netns) = (self.pair(name)?, self.netns(name)?);
        let addresses = self.actors.player(name)?.info.networks.iter().flat_map(|network| network.addresses.clone());
        let addresses = addresses.map(|address| (pair.0, address)).collect();
        let links = vec![inner(pair, LinkState::Up)];
        self.facts.own(Fact::LinksRead(LinksRead { netns, host: false, links, addresses }));
        Ok(())
    }

    fn netns(&self, name: &str) -> Result<NetnsId> {
        self.actors.player(name)?.info.netns.context("it has no namespace")
    }

    fn pair(&mut self, name: &str) -> Result<(u32, u32)> {
        let interfaces = self.interfaces.as_mut().context("`links` comes first")?;
        let next = &mut interfaces.next;
        Ok(*interfaces.pairs.entry(name.to_owned()).or_insert_with(|| {
            *next += 2;
            (10 + *next, 11 + *next)
        }))
    }

    fn tell_link(&mut self, netns: NetnsId, link: Link, removed: bool) {
        self.facts.kernel(Fact::Link(LinkChange { netns, link, removed }));
    }

    /// A change of an interface: `link core down` of the host's end of core's pair, `own` of its own end.
    pub fn link(&mut self, words: &mut Words) -> Result<()> {
        let own = words.flag("own");
        let name = words.next("the container, or bridge")?;
        let verb = words.next("what happens")?;
        if name == "bridge" {
            let state = if verb == "up" { LinkState::Up } else { LinkState::Down };
            if verb == "removed" {
                // It lets go of its ports first.
                for name in self.interfaces.clone().context("`links` comes first")?.pairs.keys() {
                    let pair = self.pair(name)?;
                    self.tell_link(HOST_NETNS, Link { master: None, ..outer(pair, LinkState::Up) }, false);
                }
                self.tell_link(HOST_NETNS, bridge(LinkState::Down), false);
            }
            self.tell_link(HOST_NETNS, bridge(state), verb == "removed");
            return Ok(());
        }
        let (pair, netns) = (self.pair(&name)?, self.netns(&name)?);
        match (verb.as_str(), own) {
            ("down", false) => {
                self.tell_link(HOST_NETNS, outer(pair, LinkState::Down), false);
                self.tell_link(netns, inner(pair, LinkState::NoCarrier), false);
            }
            ("down", true) => {
                self.tell_link(netns, inner(pair, LinkState::Down), false);
                self.tell_link(HOST_NETNS, outer(pair, LinkState::NoCarrier), false);
            }
            ("up", _) => {
                self.tell_link(HOST_NETNS, outer(pair, LinkState::Up), false);
                // The way is free when both ends are.
                self.facts.marked = Some(self.facts.now);
                self.tell_link(netns, inner(pair, LinkState::Up), false);
            }
            ("bridged", _) => self.tell_link(HOST_NETNS, outer(pair, LinkState::Up), false),
            ("unbridged", _) => self.tell_link(HOST_NETNS, Link { master: None, ..outer(pair, LinkState::Up) }, false),
            ("removed", _) => {
                self.tell_link(HOST_NETNS, outer(pair, LinkState::Down), false);
                self.tell_link(netns, inner(pair, LinkState::Down), false);
                self.tell_link(netns, inner(pair, LinkState::Down), true);
                self.tell_link(HOST_NETNS, outer(pair, LinkState::Down), true);
            }
            (other, _) => bail!("no change {other} of an interface"),
        }
        Ok(())
    }

    /// Docker takes a container off the network, before its event; the label means the instant of the removal.
    pub fn take_off(&mut self, name: &str) -> Result<()> {
        if self.interfaces.is_none() {
            return Ok(());
        }
        let (pair, netns) = (self.pair(name)?, self.netns(name)?);
        self.tell_link(netns, inner(pair, LinkState::Down), false);
        self.addresses(name, pair, true)?;
        self.facts.now = self.facts.now.plus(DOWN_TO_MOVED);
        let removed = self.facts.now;
        self.tell_link(netns, Link { name: "veth1".into(), ..inner(pair, LinkState::Down) }, true);
        self.facts.now = self.facts.now.plus(MOVED_TO_REMOVED);
        self.tell_link(HOST_NETNS, outer(pair, LinkState::Down), true);
        self.facts.now = self.facts.now.plus(REMOVED_TO_TOLD);
        self.facts.marked = Some(removed);
        Ok(())
    }

    /// Docker gives it another pair; the label means the instant at which that can be used.
    pub fn put_on(&mut self, name: &str) -> Result<()> {
        let Some(interfaces) = self.interfaces.as_mut() else { return Ok(()) };
        interfaces.pairs.remove(name);
        let (pair, netns) = (self.pair(name)?, self.netns(name)?);
        self.tell_link(HOST_NETNS, outer(pair, LinkState::NoCarrier), false);
        self.tell_link(netns, inner(pair, LinkState::Down), false);
        self.addresses(name, pair, false)?;
        self.tell_link(HOST_NETNS, outer(pair, LinkState::Up), false);
        let back = self.facts.now;
        self.tell_link(netns, inner(pair, LinkState::Up), false);
        self.facts.now = self.facts.now.plus(Nanos::from_millis(3));
        self.facts.marked = Some(back);
        Ok(())
    }

    fn addresses(&mut self, name: &str, (index, _): (u32, u32), removed: bool) -> Result<()> {
        let netns = self.netns(name)?;
        let networks = self.actors.player(name)?.info.networks.clone();
        for address in networks.into_iter().flat_map(|network| network.addresses) {
            self.facts.kernel(Fact::Address(AddressChange { netns, index, address, removed }));
        }
        Ok(())
    }

    /// `neighbour web core failed|back`: what web's kernel knows of core's address.
    pub fn neighbour(&mut self, words: &mut Words) -> Result<()> {
        let name = words.next("whose neighbour?")?;
        let other = words.next("the neighbour")?;
        let failed = match words.next("what of it")?.as_str() {
            "failed" => true,
            "back" => false,
            other => bail!("a neighbour is not {other}"),
        };
        let ((index, _), netns) = (self.pair(&name)?, self.netns(&name)?);
        let networks = &self.actors.player(&other)?.info.networks;
        let address = *networks.iter().flat_map(|network| &network.addresses).next().context("it has no address")?;
        self.facts.kernel(Fact::Neighbour(NeighbourChange { netns, index, address, failed }));
        Ok(())
    }
}
