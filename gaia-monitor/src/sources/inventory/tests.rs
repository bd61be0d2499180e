//! Members of containers, relevant sockets, and servers: the parts that need no kernel.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Listing, Relevance, members, running, serving};
use crate::model::event::{ContainerInfo, Process, PublishedPort, TcpState};
use crate::model::ids::{CgroupId, ContainerId, Cookie, NetnsId, Pid};
use crate::sources::procfs::{INITIAL_PID_NAMESPACE, ProcEntry};
use crate::sources::sockdiag::Listed;
use crate::sources::test_fixtures;

const HOST: NetnsId = NetnsId(1);

fn socket(state: TcpState, local: &str, remote: &str, inode: u64, cgroup: u64) -> Listed {
    let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
    let cgroup = Some(CgroupId(cgroup));
    Listed { cookie: Cookie(inode), state, local, remote, inode, cgroup, sent_ago: None, received_ago: None }
}

fn seen(id: &str, pid: u32) -> ContainerInfo {
    let id = ContainerId(id.into());
    ContainerInfo { cgroup: Some(CgroupId(u64::from(pid))), ..test_fixtures::container(id, pid) }
}

fn entry(pid: u32, pid_namespace: u64, cgroup_path: &str) -> (Pid, ProcEntry) {
    let process =
        Process { pid: Pid(pid), ns_pid: 1, ns_level: 1, cgroup: CgroupId(0), netns: HOST, comm: String::new() };
    let cgroup_path = PathBuf::from(cgroup_path);
    (Pid(pid), ProcEntry { process, parent: Pid(1), parent_outside: false, pid_namespace, cgroup_path })
}

#[test]
fn finds_processes_by_cgroup_and_by_pid_namespace() {
    let listing = Listing {
        containers: vec![seen("aaaa", 10), seen("bbbb", 20)],
        uninspected: vec![ContainerId("dddd".into()), ContainerId("gone".into())],
        ..Listing::default()
    };
    let all = BTreeMap::from([
        entry(1, INITIAL_PID_NAMESPACE, "/init.scope"),
        entry(10, 7, ""),
        entry(11, 7, "/elsewhere"),
        entry(20, INITIAL_PID_NAMESPACE, "/docker/bbbb"),
        entry(21, INITIAL_PID_NAMESPACE, "/system.slice/docker-bbbb.scope/nested"),
        entry(30, 8, "/docker/cccc"),
        entry(40, 9, "/docker/dddd"),
        entry(41, 9, ""),
    ]);
    let found = members(&running(&listing, &all), &all);
    let expected = [10, 11, 20, 21, 40, 41].map(Pid);
    assert_eq!(found, expected.into(), "no process of the host or of another container");
}

#[test]
fn ignores_host_sockets_unrelated_to_containers() {
    let mut published = seen("aaaa", 10);
    published.published =
        vec![PublishedPort { host_ip: "0.0.0.0".parse().unwrap(), host_port: 6416, container_port: 6415 }];
    let mut on_host = seen("bbbb", 20);
    on_host.host_network = true;
    let prefixes = vec!["172.28.0.0/16".parse().unwrap()];
    let listing = Listing { containers: vec![published, on_host], prefixes, ..Listing::default() };
    let proxied = [7000].into();
    let relevance = Relevance::new(&listing, &proxied);
    let applies =
        |local, remote, cgroup| relevance.applies_to(&socket(TcpState::Established, local, remote, 1, cgroup));
    assert!(applies("127.0.0.1:6416", "127.0.0.1:40000", 1), "the published port");
    assert!(applies("127.0.0.1:40000", "127.0.0.1:6416", 1), "the operator's own curl");
    assert!(applies("172.28.0.1:40000", "172.28.0.2:6415", 1), "the proxy's backend leg");
    assert!(applies("127.0.0.1:40000", "127.0.0.1:7000", 1), "a port known only by its proxy");
    assert!(applies("10.0.0.1:40000", "10.0.0.9:443", 20), "a container on the host's network");
    assert!(!applies("10.0.0.1:22", "10.0.0.9:50000", 1));
    assert!(!applies("10.0.0.1:22", "10.0.0.9:50000", 10), "a cgroup that is not on the host's network");
}

#[test]
fn counts_listeners_and_accepted_sockets_as_serving() {
    let sockets = [
        (HOST, socket(TcpState::Listen, "0.0.0.0:80", "0.0.0.0:0", 1, 0)),
        (HOST, socket(TcpState::Established, "10.0.0.1:80", "10.0.0.2:40000", 2, 0)),
        (HOST, socket(TcpState::Established, "10.0.0.1:40001", "10.0.0.2:80", 3, 0)),
        (HOST, socket(TcpState::FinWait2, "10.0.0.1:80", "10.0.0.2:40002", 0, 0)),
        (NetnsId(2), socket(TcpState::Established, "10.0.0.3:80", "10.0.0.2:40000", 4, 0)),
    ];
    assert_eq!(serving(&sockets), [1, 2].into(), "neither the orphan nor the same port of another namespace");
}
