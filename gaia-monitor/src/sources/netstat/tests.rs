//! Which namespaces are read and what is emitted, without a kernel; and the format of the kernel's file.

use std::cell::Cell;

use super::{Counts, NAMESPACES, Watch, counts_of, parse};
use crate::model::event::{AcceptQueueCounts, ContainerInfo, DockerAction, DockerEvent, Fact};
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

/// A watch with a clock that advances by a nanosecond with each reading.
struct Scene {
    watch: Watch,
    now: Cell<i64>,
}

impl Scene {
    fn of(facts: &[Fact]) -> Self {
        let mut watch = Watch::default();
        assert!(facts.iter().all(|fact| watch.on_fact(fact)));
        Self { watch, now: Cell::new(0) }
    }

    /// Growth, with its instant; `counts_of_pid` returns the counters of each process that still exists.
    fn read(&mut self, counts_of_pid: impl Fn(Pid) -> Option<Counts>) -> Vec<(i64, AcceptQueueCounts)> {
        let now = || {
            self.now.set(self.now.get() + 1);
            Stamp(self.now.get())
        };
        let observed = self.watch.read(now, counts_of_pid);
        observed
            .into_iter()
            .map(|observation| match observation.fact {
                Fact::AcceptQueueCounts(counts) => (observation.at.0, counts),
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

#[test]
fn reports_growth_with_the_instants_around_it() {
    let mut scene = Scene::of(&[seen(container(1, 10))]);
    assert!(scene.read(|_| Some(counts(7, 9))).is_empty(), "the first reading is the baseline");
    assert!(scene.read(|_| Some(counts(7, 9))).is_empty());
    let grown = AcceptQueueCounts { netns: NetnsId(10), since: Stamp(3), overflows: 2, drops: 3 };
    assert_eq!(scene.read(|_| Some(counts(9, 12))), [(6, grown)]);
    assert!(scene.read(|_| Some(counts(9, 12))).is_empty());
    let drop = AcceptQueueCounts { netns: NetnsId(10), since: Stamp(7), overflows: 0, drops: 1 };
    assert_eq!(scene.read(|_| Some(counts(9, 13))), [(10, drop)]);
}

#[test]
fn reads_a_shared_namespace_once_by_a_running_member() {
    let mut scene = Scene::of(&[seen(container(1, 10)), seen(container(2, 10))]);
    let reads = Cell::new(0);
    let counts_of_pid = |overflows| {
        let reads = &reads;
        move |pid: Pid| {
            reads.set(reads.get() + 1);
            (pid == Pid(2)).then_some(counts(overflows, overflows))
        }
    };
    scene.read(counts_of_pid(0));
    assert_eq!(scene.read(counts_of_pid(1)).len(), 1);
    assert!(scene.watch.on_fact(&died(1)));
    reads.set(0);
    assert_eq!(scene.read(counts_of_pid(2)).len(), 1);
    assert_eq!(reads.get(), 1);
}

#[test]
fn stops_reading_when_a_container_ended_or_moved() {
    let mut scene = Scene::of(&[seen(container(1, 10)), died(1)]);
    assert!(scene.watch.is_empty());
    assert!(scene.watch.on_fact(&seen(container(1, 11))));
    assert_eq!(scene.watch.namespaces.keys().copied().collect::<Vec<_>>(), [NetnsId(11)]);
    let stopped = ContainerInfo { running: false, ..container(1, 11) };
    assert!(scene.watch.on_fact(&seen(stopped)));
    assert!(scene.watch.is_empty());
    // A failed reading leaves no state, and a process that ended before its death is reported is not growth.
    assert!(scene.read(|_| None).is_empty());
}

#[test]
fn keeps_the_baseline_when_a_container_is_inspected_again() {
    let mut scene = Scene::of(&[seen(container(1, 10))]);
    scene.read(|_| Some(counts(0, 0)));
    assert!(scene.watch.on_fact(&seen(container(1, 10))));
    assert_eq!(scene.read(|_| Some(counts(1, 1))).len(), 1);
}

#[test]
fn restarts_when_counters_shrink() {
    let mut scene = Scene::of(&[seen(container(1, 10))]);
    scene.read(|_| Some(counts(7, 7)));
    assert!(scene.read(|_| Some(counts(2, 9))).is_empty());
    assert_eq!(scene.read(|_| Some(counts(3, 10))).len(), 1);
}

#[test]
fn ignores_the_hosts_namespace() {
    let host = ContainerInfo { host_network: true, ..container(1, 10) };
    assert!(Scene::of(&[seen(host)]).watch.is_empty());
}

#[test]
fn bounds_namespaces_and_not_their_members() {
    let mut watch = Watch::default();
    let crowd = u32::try_from(NAMESPACES).unwrap();
    assert!((0..crowd).all(|number| watch.on_fact(&seen(container(number, u64::from(number))))));
    assert!(!watch.on_fact(&seen(container(crowd, u64::from(crowd)))));
    assert!(watch.on_fact(&seen(container(crowd + 1, 0))));
    assert_eq!(watch.namespaces.len(), NAMESPACES);
}

#[test]
fn finds_counters_by_name_in_any_column() {
    let text = "TcpExt: SyncookiesSent ListenDrops Foo ListenOverflows\nTcpExt: 0 12 1 11\nIpExt: A\nIpExt: 1\n";
    assert_eq!(parse(text), Some(counts(11, 12)));
    for text in
        ["", "TcpExt: ListenDrops ListenOverflows\n", "TcpExt: ListenDrops\nTcpExt: 1\n", "TcpExt: a\nTcpExt: b"]
    {
        assert_eq!(parse(text), None, "{text:?}");
    }
    assert!(counts_of(Pid(std::process::id())).is_some(), "this kernel has them");
}
