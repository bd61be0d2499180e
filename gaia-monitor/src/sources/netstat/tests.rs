//! Which namespaces are read, and what of it leaves, without a kernel; and what the kernel's own file says.

use std::cell::Cell;

use super::{Counts, NAMESPACES, Watch, counts_of, parse};
use crate::model::event::{ContainerInfo, DockerAction, DockerEvent, Fact, ListenCounts};
use crate::model::ids::{NetnsId, Pid};
use crate::model::time::Stamp;
use crate::sources::test_fixtures::{self, id};

fn container(number: u32, netns: u64) -> ContainerInfo {
    ContainerInfo { netns: Some(NetnsId(netns)), ..test_fixtures::container(id(number), number) }
}

fn seen(info: ContainerInfo) -> Fact {
    Fact::ContainerSeen(Box::new(info))
}

fn died(number: u32) -> Fact {
    let action = DockerAction::Die { exit_code: Some(0) };
    Fact::Docker(DockerEvent { container: id(number), name: String::new(), action })
}

fn counts(overflows: u64, drops: u64) -> Counts {
    Counts { overflows, drops }
}

/// A watch with a clock that counts its readings, in nanoseconds.
struct Scene {
    watch: Watch,
    now: Cell<i64>,
}

impl Scene {
    fn of(facts: &[Fact]) -> Self {
        let mut watch = Watch::default();
        assert!(facts.iter().all(|fact| watch.heed(fact)));
        Self { watch, now: Cell::new(0) }
    }

    /// What grew, by when; `says` answers for each process that still shows its namespace.
    fn read(&mut self, says: impl Fn(Pid) -> Option<Counts>) -> Vec<(i64, ListenCounts)> {
        let now = || {
            self.now.set(self.now.get() + 1);
            Stamp(self.now.get())
        };
        let observed = self.watch.read(now, says);
        observed
            .into_iter()
            .map(|observation| match observation.fact {
                Fact::ListenCounts(counts) => (observation.at.0, counts),
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

#[test]
fn only_growth_is_told_with_both_instants_around_it() {
    let mut scene = Scene::of(&[seen(container(1, 10))]);
    assert!(scene.read(|_| Some(counts(7, 9))).is_empty(), "what was there before is nobody's");
    assert!(scene.read(|_| Some(counts(7, 9))).is_empty());
    let grown = ListenCounts { netns: NetnsId(10), since: Stamp(3), overflows: 2, drops: 3 };
    assert_eq!(scene.read(|_| Some(counts(9, 12))), [(6, grown)]);
    assert!(scene.read(|_| Some(counts(9, 12))).is_empty());
    let drop = ListenCounts { netns: NetnsId(10), since: Stamp(7), overflows: 0, drops: 1 };
    assert_eq!(scene.read(|_| Some(counts(9, 13))), [(10, drop)]);
}

#[test]
fn a_namespace_that_is_shared_is_read_once_and_by_whoever_still_runs() {
    let mut scene = Scene::of(&[seen(container(1, 10)), seen(container(2, 10))]);
    let asked = Cell::new(0);
    let says = |overflows| {
        let asked = &asked;
        move |pid: Pid| {
            asked.set(asked.get() + 1);
            (pid == Pid(2)).then_some(counts(overflows, overflows))
        }
    };
    scene.read(says(0));
    assert_eq!(scene.read(says(1)).len(), 1);
    assert!(scene.watch.heed(&died(1)));
    asked.set(0);
    assert_eq!(scene.read(says(2)).len(), 1);
    assert_eq!(asked.get(), 1);
}

#[test]
fn a_container_that_ended_or_moved_is_not_read_where_it_was() {
    let mut scene = Scene::of(&[seen(container(1, 10)), died(1)]);
    assert!(scene.watch.is_empty());
    assert!(scene.watch.heed(&seen(container(1, 11))));
    assert_eq!(scene.watch.namespaces.keys().copied().collect::<Vec<_>>(), [NetnsId(11)]);
    let stopped = ContainerInfo { running: false, ..container(1, 11) };
    assert!(scene.watch.heed(&seen(stopped)));
    assert!(scene.watch.is_empty());
    // A reading that brings nothing leaves nothing behind, and a process gone before its death is told is no growth.
    assert!(scene.read(|_| None).is_empty());
}

#[test]
fn an_inspection_of_what_is_known_keeps_what_was_read() {
    let mut scene = Scene::of(&[seen(container(1, 10))]);
    scene.read(|_| Some(counts(0, 0)));
    assert!(scene.watch.heed(&seen(container(1, 10))));
    assert_eq!(scene.read(|_| Some(counts(1, 1))).len(), 1);
}

#[test]
fn counters_that_shrank_are_those_of_another_namespace() {
    let mut scene = Scene::of(&[seen(container(1, 10))]);
    scene.read(|_| Some(counts(7, 7)));
    assert!(scene.read(|_| Some(counts(2, 9))).is_empty());
    assert_eq!(scene.read(|_| Some(counts(3, 10))).len(), 1);
}

#[test]
fn the_hosts_namespace_is_not_read() {
    let host = ContainerInfo { host_network: true, ..container(1, 10) };
    assert!(Scene::of(&[seen(host)]).watch.is_empty());
}

#[test]
fn the_bound_holds_and_a_shared_namespace_needs_no_room() {
    let mut watch = Watch::default();
    let crowd = u32::try_from(NAMESPACES).unwrap();
    assert!((0..crowd).all(|number| watch.heed(&seen(container(number, u64::from(number))))));
    assert!(!watch.heed(&seen(container(crowd, u64::from(crowd)))));
    assert!(watch.heed(&seen(container(crowd + 1, 0))));
    assert_eq!(watch.namespaces.len(), NAMESPACES);
}

#[test]
fn the_counters_are_found_by_name_wherever_they_stand() {
    let text = "TcpExt: SyncookiesSent ListenDrops Foo ListenOverflows\nTcpExt: 0 12 1 11\nIpExt: A\nIpExt: 1\n";
    assert_eq!(parse(text), Some(counts(11, 12)));
    for text in
        ["", "TcpExt: ListenDrops ListenOverflows\n", "TcpExt: ListenDrops\nTcpExt: 1\n", "TcpExt: a\nTcpExt: b"]
    {
        assert_eq!(parse(text), None, "{text:?}");
    }
    assert!(counts_of(Pid(std::process::id())).is_some(), "this kernel has them");
}
