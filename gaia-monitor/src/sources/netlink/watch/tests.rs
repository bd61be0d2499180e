//! A watch of the test's own namespace.

use std::net::IpAddr;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::{Watch, is_own};
use crate::model::event::{Fact, Link, LinkKind, LinkState};
use crate::model::ids::NetnsId;
use crate::sources::netlink::decode::{Message, Payload, Reachability};

/// A watch of this process's own namespace, after the dump; needs no privilege.
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

fn accept(watch: &mut Watch, payload: Payload) -> Vec<Fact> {
    let mut facts = Vec::new();
    watch.accept(Message { sequence: 0, flags: 0, payload }, &mut facts).unwrap();
    facts
}

fn reported(watch: &mut Watch, link: Link) -> usize {
    accept(watch, Payload::Link { link, removed: false }).len()
}

#[test]
fn reports_an_unchanged_interface_once() {
    let mut watch = watch(false);
    assert_eq!(reported(&mut watch, veth(LinkState::Up, Some(7))), 1);
    assert_eq!(reported(&mut watch, veth(LinkState::Up, Some(7))), 0);
    assert_eq!(reported(&mut watch, veth(LinkState::Down, Some(7))), 1);
}

#[test]
fn keeps_the_peer_of_a_veth_that_no_longer_names_it() {
    let mut watch = watch(false);
    reported(&mut watch, veth(LinkState::Up, Some(7)));
    let facts = accept(&mut watch, Payload::Link { link: veth(LinkState::Down, None), removed: true });
    assert!(matches!(facts.as_slice(), [Fact::Link(change)] if change.removed && change.link.peer == Some(7)));
    assert!(accept(&mut watch, Payload::Link { link: veth(LinkState::Down, None), removed: true }).is_empty());
}

#[test]
fn ignores_host_interfaces_except_bridges_and_veths() {
    let mut watch = watch(true);
    let other = Link { kind: LinkKind::Other, ..veth(LinkState::Up, None) };
    assert_eq!(reported(&mut watch, other), 0);
    assert_eq!(reported(&mut watch, veth(LinkState::Up, None)), 1);
}

#[test]
fn reports_a_neighbour_that_fails_and_recovers() {
    let mut watch = watch(false);
    reported(&mut watch, veth(LinkState::Up, Some(7)));
    let address: IpAddr = "172.28.0.3".parse().unwrap();
    let mut changes =
        |reachability| accept(&mut watch, Payload::Neighbour { index: 9_999, address, reachability }).len();
    let states = [
        Reachability::Reachable,
        Reachability::Failed,
        Reachability::Failed,
        Reachability::Unknown,
        Reachability::Reachable,
    ];
    assert_eq!(states.map(&mut changes), [0, 1, 0, 0, 1]);
}

#[test]
fn ignores_link_local_addresses() {
    for (address, own) in [("172.28.0.3", true), ("fd00::3", true), ("fe80::1", false), ("169.254.1.1", false)] {
        assert_eq!(is_own(address.parse().unwrap()), own, "{address}");
    }
}
