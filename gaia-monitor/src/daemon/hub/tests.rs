//! The hub with a belt that keeps what it is fed.

use std::cell::RefCell;
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Belt, Hub};
use crate::engine::effect::Wanted;
use crate::model::event::{Event, Fact, Observation, Process, ProcessExec};
use crate::model::ids::{CgroupId, NetnsId, Pid};
use crate::model::time::{Nanos, Stamp};
use crate::pipeline::clock::Clock;
use crate::pipeline::outlet::{Losses, Outlet};
use crate::sources::procfs;

#[derive(Default)]
struct Kept {
    events: Vec<Event>,
    deadline: Option<Stamp>,
    wanted: Vec<Wanted>,
}

impl Belt for Kept {
    fn feed(&mut self, event: &Event) {
        self.events.push(event.clone());
    }

    fn wanted(&mut self) -> Vec<Wanted> {
        std::mem::take(&mut self.wanted)
    }

    fn next_deadline(&self) -> Option<Stamp> {
        self.deadline
    }

    fn is_unheard(&self) -> bool {
        false
    }

    fn keep_house(&mut self, _now: Stamp) {}
}

/// A hub whose belt is asked nothing of.
type Plain<'a, P> = Hub<'a, Kept, P, fn(&Fact), fn(Wanted)>;

fn hub<P: Fn(u16)>(belt: &mut Kept, losses: Losses, publish: P) -> Plain<'_, P> {
    Hub::new(belt, Arc::new(Clock::new()), losses, publish, |_| {}, |_| {})
}

#[test]
fn what_the_belt_asks_for_is_passed_on_once() {
    let wanted = Wanted::Core { pid: Pid(7) };
    let mut belt = Kept { wanted: vec![wanted.clone()], ..Kept::default() };
    let asked = RefCell::new(Vec::new());
    let clock = Arc::new(Clock::new());
    let ask = |wanted| asked.borrow_mut().push(wanted);
    let mut hub = Hub::new(&mut belt, clock, Losses::default(), |_| {}, |_| {}, ask);
    hub.take(vec![victim(1), victim(2)]);
    assert_eq!(*asked.borrow(), [wanted]);
}

fn victim(pid: u32) -> Observation {
    Observation { at: Stamp(i64::from(pid)), fact: Fact::OomVictim { pid: Pid(pid) } }
}

#[test]
fn what_lies_in_the_way_is_fed_in_order_and_shutdown_comes_last() {
    let mut belt = Kept::default();
    let (outlet, mut batches, losses) = Outlet::new("kernel");
    outlet.offer(vec![victim(1), victim(2)]);
    outlet.of("docker").offer(vec![victim(3)]);
    outlet.lost("ring.signal", 4);
    let mut hub = hub(&mut belt, losses, |_| {});
    hub.drain(&mut batches);
    hub.keep_house();
    hub.keep_house();
    hub.own(Fact::Shutdown);
    let facts: Vec<_> = belt.events.iter().map(|event| &event.fact).collect();
    let lost = Fact::Lost { stage: "ring.signal".into(), count: 4 };
    let [one, two, three] = [1, 2, 3].map(|pid| Fact::OomVictim { pid: Pid(pid) });
    assert_eq!(facts, [&one, &two, &three, &lost, &Fact::Shutdown]);
    assert!(belt.events.iter().map(|event| event.seq).eq(1..=5));
    assert!(belt.events.is_sorted_by_key(|event| event.seen));
}

#[test]
fn a_belt_without_a_timer_gets_no_tick_and_one_with_a_due_timer_gets_it() {
    let mut belt = Kept::default();
    let mut hub = hub(&mut belt, Losses::default(), |_| {});
    hub.tick();
    hub.belt.deadline = Some(hub.clock.now().plus(Nanos::from_secs(60)));
    hub.tick();
    assert!(hub.belt.events.is_empty());
    hub.belt.deadline = Some(Stamp(1));
    hub.tick();
    assert_eq!(belt.events.len(), 1);
    assert_eq!(belt.events[0].fact, Fact::Tick);
}

#[test]
fn the_exec_of_a_docker_proxy_publishes_its_port_and_that_of_a_namesake_does_not() {
    let published = RefCell::new(Vec::new());
    let mut belt = Kept::default();
    let mut hub = hub(&mut belt, Losses::default(), |port| published.borrow_mut().push(port));
    // A process that is called so, and whose command line (this test's) is no proxy's.
    let (pid, comm) = (Pid(std::process::id()), "docker-proxy".to_owned());
    let process = Process { pid, ns_pid: pid.0, ns_level: 0, cgroup: CgroupId(1), netns: NetnsId(1), comm };
    hub.take(vec![Observation { at: Stamp(1), fact: Fact::ProcessExec(ProcessExec { process: process.clone() }) }]);
    assert_eq!((belt.events.len(), published.borrow().len()), (1, 0));

    let arguments = "-proto tcp -host-ip 0.0.0.0 -host-port 16416 -container-ip 172.17.0.2 -container-port 6415";
    // The shell waits on its input, so that its command line stays what it was given.
    let mut proxy = std::process::Command::new("sh")
        .args(["-c", "read wait", "sh"])
        .args(arguments.split(' '))
        .stdin(std::process::Stdio::piped())
        .arg0("docker-proxy")
        .spawn()
        .unwrap();
    // spawn() returns while the kernel is still laying out the new program's arguments; the probe's record of an exec
    // comes after that.
    let until = Instant::now() + Duration::from_secs(10);
    while procfs::proxy(Pid(proxy.id())).is_none() && Instant::now() < until {
        std::thread::yield_now();
    }
    let process = Process { pid: Pid(proxy.id()), ..process };
    let mut hub = self::hub(&mut belt, Losses::default(), |port| published.borrow_mut().push(port));
    hub.take(vec![Observation { at: Stamp(2), fact: Fact::ProcessExec(ProcessExec { process }) }]);
    drop(proxy.stdin.take());
    proxy.wait().unwrap();
    assert_eq!(*published.borrow(), [16416]);
    let Some(Event { at: Stamp(2), fact: Fact::ProxySeen(seen), .. }) = belt.events.last() else {
        panic!("{:?}", belt.events)
    };
    assert_eq!((seen.listen.port(), seen.backend.port()), (16416, 6415));
}
