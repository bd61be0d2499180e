//! The dispatcher with a belt that collects its input.

use std::cell::RefCell;
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Belt, Dispatcher};
use crate::engine::effect::Wanted;
use crate::model::event::{Event, Fact, Observation, Process, ProcessExec};
use crate::model::ids::{CgroupId, NetnsId, Pid};
use crate::model::time::{Nanos, Stamp};
use crate::pipeline::channel::{EventSender, Losses};
use crate::pipeline::clock::Clock;
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

/// A dispatcher that ignores facts and requests.
type Plain<'a, P> = Dispatcher<'a, Kept, P, fn(&Fact), fn(Wanted)>;

fn dispatcher<P: Fn(u16)>(belt: &mut Kept, losses: Losses, publish: P) -> Plain<'_, P> {
    Dispatcher::new(belt, Arc::new(Clock::new()), losses, publish, |_| {}, |_| {})
}

#[test]
fn forwards_each_enrichment_request_once() {
    let wanted = Wanted::Core { pid: Pid(7) };
    let mut belt = Kept { wanted: vec![wanted.clone()], ..Kept::default() };
    let requests = RefCell::new(Vec::new());
    let clock = Arc::new(Clock::new());
    let enrich = |wanted| requests.borrow_mut().push(wanted);
    let mut dispatcher = Dispatcher::new(&mut belt, clock, Losses::default(), |_| {}, |_| {}, enrich);
    dispatcher.take(vec![victim(1), victim(2)]);
    assert_eq!(*requests.borrow(), [wanted]);
}

fn victim(pid: u32) -> Observation {
    Observation { at: Stamp(i64::from(pid)), fact: Fact::OomVictim { pid: Pid(pid) } }
}

#[test]
fn feeds_queued_batches_in_order_and_shutdown_last() {
    let mut belt = Kept::default();
    let (sender, mut batches, losses) = EventSender::new("kernel");
    sender.send(vec![victim(1), victim(2)]);
    sender.with_stage("docker").send(vec![victim(3)]);
    sender.lost("ring.signal", 4);
    let mut dispatcher = dispatcher(&mut belt, losses, |_| {});
    dispatcher.drain(&mut batches);
    dispatcher.housekeeping();
    dispatcher.housekeeping();
    dispatcher.own(Fact::Shutdown);
    let facts: Vec<_> = belt.events.iter().map(|event| &event.fact).collect();
    let lost = Fact::Lost { stage: "ring.signal".into(), count: 4 };
    let [one, two, three] = [1, 2, 3].map(|pid| Fact::OomVictim { pid: Pid(pid) });
    assert_eq!(facts, [&one, &two, &three, &lost, &Fact::Shutdown]);
    assert!(belt.events.iter().map(|event| event.seq).eq(1..=5));
    assert!(belt.events.is_sorted_by_key(|event| event.seen));
}

#[test]
fn sends_a_tick_only_when_a_timer_is_due() {
    let mut belt = Kept::default();
    let mut dispatcher = dispatcher(&mut belt, Losses::default(), |_| {});
    dispatcher.tick();
    dispatcher.belt.deadline = Some(dispatcher.clock.now().plus(Nanos::from_secs(60)));
    dispatcher.tick();
    assert!(dispatcher.belt.events.is_empty());
    dispatcher.belt.deadline = Some(Stamp(1));
    dispatcher.tick();
    assert_eq!(belt.events.len(), 1);
    assert_eq!(belt.events[0].fact, Fact::Tick);
}

#[test]
fn publishes_the_port_of_a_docker_proxy_and_ignores_a_process_of_that_name() {
    let published = RefCell::new(Vec::new());
    let mut belt = Kept::default();
    let mut dispatcher = dispatcher(&mut belt, Losses::default(), |port| published.borrow_mut().push(port));
    // A process with that name and the command line of this test.
    let (pid, comm) = (Pid(std::process::id()), "docker-proxy".to_owned());
    let process = Process { pid, ns_pid: pid.0, ns_level: 0, cgroup: CgroupId(1), netns: NetnsId(1), comm };
    dispatcher
        .take(vec![Observation { at: Stamp(1), fact: Fact::ProcessExec(ProcessExec { process: process.clone() }) }]);
    assert_eq!((belt.events.len(), published.borrow().len()), (1, 0));

    let arguments = "-proto tcp -host-ip 0.0.0.0 -host-port 16416 -container-ip 172.17.0.2 -container-port 6415";
    // The shell waits for input, so its command line does not change.
    let mut proxy = std::process::Command::new("sh")
        .args(["-c", "read wait", "sh"])
        .args(arguments.split(' '))
        .stdin(std::process::Stdio::piped())
        .arg0("docker-proxy")
        .spawn()
        .unwrap();
    // spawn() returns while the kernel is still setting up the new program's arguments; the probe's record of an exec
    // comes later.
    let until = Instant::now() + Duration::from_secs(10);
    while procfs::proxy(Pid(proxy.id())).is_none() && Instant::now() < until {
        std::thread::yield_now();
    }
    let process = Process { pid: Pid(proxy.id()), ..process };
    let mut dispatcher = self::dispatcher(&mut belt, Losses::default(), |port| published.borrow_mut().push(port));
    dispatcher.take(vec![Observation { at: Stamp(2), fact: Fact::ProcessExec(ProcessExec { process }) }]);
    drop(proxy.stdin.take());
    proxy.wait().unwrap();
    assert_eq!(*published.borrow(), [16416]);
    let Some(Event { at: Stamp(2), fact: Fact::ProxySeen(seen), .. }) = belt.events.last() else {
        panic!("{:?}", belt.events)
    };
    assert_eq!((seen.listen.port(), seen.backend.port()), (16416, 6415));
}
