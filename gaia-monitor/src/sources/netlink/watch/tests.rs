//! A socket of the test's own namespace, read as a watch reads it.

use std::net::IpAddr;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::{Watch, is_own};
use crate::model::event::{Fact, Link, LinkKind, LinkState};
use crate::model::ids::NetnsId;
use crate::sources::netlink::decode::{Heard, Standing, What};

/// A watch of this process's own namespace whose reading is over; needs no privilege.
fn watch(host: bool) -> Watch {
    let (family, kind) = (AddressFamily::Netlink, SockType::Datagram);
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute).unwrap();
    let mut watch = Watch::begin(NetnsId(1), host, socket).unwrap();
    while !watch.is_read() {
        if let Some(received) = watch.receive().unwrap() {
            watch.read(&received).unwrap();
        }
    }
    watch.links.clear();
    watch
}

fn veth(state: LinkState, peer: Option<u32>) -> Link {
    Link { index: 9_999, name: "eth0".to_owned(), kind: LinkKind::Veth, state, master: None, peer }
}

fn take(watch: &mut Watch, what: What) -> Vec<Fact> {
    let mut facts = Vec::new();
    watch.take(Heard { sequence: 0, flags: 0, what }, &mut facts).unwrap();
    facts
}

fn told(watch: &mut Watch, link: Link) -> usize {
    take(watch, What::Link { link, removed: false }).len()
}

#[test]
fn what_is_repeated_unchanged_is_told_once() {
    let mut watch = watch(false);
    assert_eq!(told(&mut watch, veth(LinkState::Up, Some(7))), 1);
    assert_eq!(told(&mut watch, veth(LinkState::Up, Some(7))), 0);
    assert_eq!(told(&mut watch, veth(LinkState::Down, Some(7))), 1);
}

#[test]
fn an_end_that_names_its_other_end_no_more_still_has_it() {
    let mut watch = watch(false);
    told(&mut watch, veth(LinkState::Up, Some(7)));
    let facts = take(&mut watch, What::Link { link: veth(LinkState::Down, None), removed: true });
    assert!(matches!(facts.as_slice(), [Fact::Link(change)] if change.removed && change.link.peer == Some(7)));
    assert!(take(&mut watch, What::Link { link: veth(LinkState::Down, None), removed: true }).is_empty());
}

#[test]
fn of_the_hosts_own_interfaces_only_bridges_and_veths_are_told() {
    let mut watch = watch(true);
    let other = Link { kind: LinkKind::Other, ..veth(LinkState::Up, None) };
    assert_eq!(told(&mut watch, other), 0);
    assert_eq!(told(&mut watch, veth(LinkState::Up, None)), 1);
}

#[test]
fn a_neighbour_is_told_when_it_fails_and_when_it_answers_after_that() {
    let mut watch = watch(false);
    told(&mut watch, veth(LinkState::Up, Some(7)));
    let address: IpAddr = "172.28.0.3".parse().unwrap();
    let mut hear = |standing| take(&mut watch, What::Neighbour { index: 9_999, address, standing }).len();
    let heard = [Standing::Answers, Standing::Failed, Standing::Failed, Standing::Neither, Standing::Answers];
    assert_eq!(heard.map(&mut hear), [0, 1, 0, 0, 1]);
}

#[test]
fn link_local_addresses_lead_nowhere() {
    for (address, own) in [("172.28.0.3", true), ("fd00::3", true), ("fe80::1", false), ("169.254.1.1", false)] {
        assert_eq!(is_own(address.parse().unwrap()), own, "{address}");
    }
}
