//! The dispatcher with a driver that records its input.

use std::cell::RefCell;
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::Dispatcher;
use crate::driver::Driver;
use crate::engine::effect::Request;
use crate::model::event::{
    ContainerInfo, DockerAction, DockerEvent, Event, Fact, Observation, Process, ProcessExec, ProcessSeen,
};
use crate::model::ids::{CgroupId, ContainerId, NetnsId, Pid};
use crate::model::settings::{Scope, Settings};
use crate::model::time::{Nanos, Stamp};
use crate::output::Outputs;
use crate::output::queue::{Overflow, WriteError, Writer};
use crate::pipeline::channel::{EventSender, Losses};
use crate::pipeline::clock::Clock;
use crate::sources::{procfs, test_fixtures};

/// Passes the recorded events to a closure.
struct Recorder<F>(F);

impl<F: FnMut(Event) + Send + 'static> Writer<Event> for Recorder<F> {
    fn kind(&self) -> &'static str {
        "recording"
    }

    fn name(&self) -> String {
        "the recording of the test".into()
    }

    fn take(&mut self, event: Event, _lost_before: u64) -> Result<(), WriteError> {
        (self.0)(event);
        Ok(())
    }
}

/// A driver, and the events that it is fed.
fn driver() -> (Driver<'static>, Receiver<Event>) {
    let (sender, events) = channel();
    let mut driver = Driver::new(Settings::default(), Outputs::new(Overflow::Drop));
    driver.record(Recorder(move |event| drop(sender.send(event)))).unwrap();
    (driver, events)
}

/// Every event that the driver was fed.
fn recorded(driver: Driver<'_>, events: &Receiver<Event>) -> Vec<Event> {
    drop(driver.finish());
    events.iter().collect()
}

/// A dispatcher without sources that take anything.
type Plain<'a, P> = Dispatcher<'a, 'static, P, fn(&Fact), fn(Request)>;

fn dispatcher<'a, P: Fn(u16)>(driver: &'a mut Driver<'static>, losses: Losses, publish: P) -> Plain<'a, P> {
    Dispatcher::new(Scope::default(), driver, Arc::new(Clock::new()), losses, publish, |_| {}, |_| {})
}

/// A running container whose only process is this one.
fn container(pid: Pid) -> [Fact; 2] {
    let (cgroup, netns) = (CgroupId(7), NetnsId(7));
    let process = Process { pid, ns_pid: 1, ns_level: 1, cgroup, netns, comm: "server".into() };
    let info = ContainerInfo {
        cgroup: Some(cgroup),
        netns: Some(netns),
        ..test_fixtures::container(ContainerId("c".repeat(64)), pid.0)
    };
    [
        Fact::ContainerSeen(Box::new(info)),
        Fact::ProcessSeen(ProcessSeen { process, parent: Pid(1), parent_outside: true, serves: false }),
    ]
}

fn observed(fact: Fact) -> Observation {
    Observation { at: Stamp(1), fact }
}

#[test]
fn passes_a_requested_enrichment_on_once() {
    let (mut driver, _events) = driver();
    let asked = RefCell::new(Vec::new());
    let clock = Arc::new(Clock::new());
    let ask = |wanted| asked.borrow_mut().push(wanted);
    let mut dispatcher = Dispatcher::new(Scope::default(), &mut driver, clock, Losses::default(), |_| {}, |_| {}, ask);
    dispatcher.take(container(Pid(7)).map(observed).to_vec());
    dispatcher.take(vec![victim(7), victim(1)]);
    let container = ContainerId("c".repeat(64));
    assert_eq!(*asked.borrow(), [Request::Memory { container, victim: Pid(7) }]);
}

fn victim(pid: u32) -> Observation {
    Observation { at: Stamp(i64::from(pid)), fact: Fact::OomVictim { pid: Pid(pid) } }
}

#[test]
fn feeds_queued_events_in_order_and_shutdown_last() {
    let (mut driver, events) = driver();
    let (sender, mut batches, losses) = EventSender::new("kernel");
    sender.send(vec![victim(1), victim(2)]);
    sender.with_stage("docker").send(vec![victim(3)]);
    sender.lost("ring.signal", 4);
    let mut dispatcher = dispatcher(&mut driver, losses, |_| {});
    dispatcher.drain(&mut batches);
    dispatcher.housekeeping();
    dispatcher.housekeeping();
    dispatcher.own(Fact::Shutdown);
    let events = recorded(driver, &events);
    let facts: Vec<_> = events.iter().map(|event| &event.fact).collect();
    let lost = Fact::Lost { stage: "ring.signal".into(), count: 4 };
    let [one, two, three] = [1, 2, 3].map(|pid| Fact::OomVictim { pid: Pid(pid) });
    assert_eq!(facts, [&one, &two, &three, &lost, &Fact::Shutdown]);
    assert!(events.iter().map(|event| event.seq).eq(1..=5));
    assert!(events.is_sorted_by_key(|event| event.seen));
}

/// How many ticks a dispatcher feeds when its driver has a timer that was set at `set`.
fn ticks(set: Stamp) -> usize {
    let (mut driver, events) = driver();
    let action = DockerAction::Die { exit_code: Some(1) };
    let die = DockerEvent { container: ContainerId("c".repeat(64)), name: "core".into(), action };
    let [container, process] = container(Pid(7));
    for (seq, fact) in (1..).zip([container, process, Fact::Docker(die)]) {
        driver.feed(&Event { seq, seen: set, at: set, fact });
    }
    assert!(driver.next_deadline().is_some_and(|deadline| deadline <= set.plus(Nanos::from_secs(5))));
    dispatcher(&mut driver, Losses::default(), |_| {}).tick();
    recorded(driver, &events).iter().filter(|event| event.fact == Fact::Tick).count()
}

#[test]
fn feeds_a_tick_only_when_a_timer_is_due() {
    let (mut driver, events) = driver();
    dispatcher(&mut driver, Losses::default(), |_| {}).tick();
    assert!(recorded(driver, &events).is_empty());
    let now = Clock::new().now();
    assert_eq!(ticks(now.plus(Nanos::from_secs(60))), 0);
    assert_eq!(ticks(now.minus(Nanos::from_secs(10))), 1);
}

#[test]
fn publishes_the_port_of_a_docker_proxy_but_not_of_a_namesake() {
    let published = RefCell::new(Vec::new());
    let (mut driver, events) = driver();
    let mut dispatcher = dispatcher(&mut driver, Losses::default(), |port| published.borrow_mut().push(port));
    // A process that is called so, and whose command line (this test's) is no proxy's.
    let (pid, comm) = (Pid(std::process::id()), "docker-proxy".to_owned());
    let process = Process { pid, ns_pid: pid.0, ns_level: 0, cgroup: CgroupId(1), netns: NetnsId(1), comm };
    dispatcher
        .take(vec![Observation { at: Stamp(1), fact: Fact::ProcessExec(ProcessExec { process: process.clone() }) }]);
    assert!(published.borrow().is_empty());

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
    let mut dispatcher = self::dispatcher(&mut driver, Losses::default(), |port| published.borrow_mut().push(port));
    dispatcher.take(vec![Observation { at: Stamp(2), fact: Fact::ProcessExec(ProcessExec { process }) }]);
    drop(proxy.stdin.take());
    proxy.wait().unwrap();
    assert_eq!(*published.borrow(), [16416]);
    let events = recorded(driver, &events);
    let [_, _, Event { at: Stamp(2), fact: Fact::ProxySeen(seen), .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((seen.listen.port(), seen.backend.port()), (16416, 6415));
}
