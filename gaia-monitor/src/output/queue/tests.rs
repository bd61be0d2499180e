//! Writers that are slow, or closed.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use super::{Bound, OutputQueue, Overflow, Queued, WriteError, Writer};

impl Queued for u64 {}

/// Waits for a permit before each item and records it.
struct Slow {
    permits: Receiver<()>,
    started: Sender<u64>,
    seen: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl Writer<u64> for Slow {
    fn kind(&self) -> &'static str {
        "test"
    }
    fn name(&self) -> String {
        "the test's writer".into()
    }
    fn take(&mut self, item: u64, lost_before: u64) -> Result<(), WriteError> {
        let _ = self.started.send(item);
        let _ = self.permits.recv();
        self.seen.lock().unwrap().push((item, lost_before));
        Ok(())
    }
    fn finish(&mut self, lost: u64) -> Result<(), WriteError> {
        self.seen.lock().unwrap().push((u64::MAX, lost));
        Ok(())
    }
}

#[test]
fn a_slow_writer_loses_only_its_own_output_and_gets_the_count() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (permit, permits) = channel();
    let (started, has_started) = channel();
    let mut queue =
        OutputQueue::start(Slow { permits, started, seen: Arc::clone(&seen) }, Overflow::Drop, Bound::of_items(1))
            .unwrap();
    queue.push(1);
    assert_eq!(has_started.recv().unwrap(), 1);
    queue.push(2); // waits in the queue
    queue.push(3); // does not fit
    queue.push(4);
    permit.send(()).unwrap();
    assert_eq!(has_started.recv().unwrap(), 2);
    queue.push(5);
    queue.push(6); // does not fit, and nothing comes after it
    drop(permit);
    let loss = queue.finish();
    assert_eq!(loss.count, 3);
    assert_eq!(*seen.lock().unwrap(), [(1, 0), (2, 0), (5, 2), (u64::MAX, 1)]);
}

#[test]
fn a_replay_waits_for_its_writer() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (permit, permits) = channel();
    let (started, _has_started) = channel();
    drop(permit);
    let mut queue =
        OutputQueue::start(Slow { permits, started, seen: Arc::clone(&seen) }, Overflow::Block, Bound::of_items(1))
            .unwrap();
    for item in 0..1_000 {
        queue.push(item);
    }
    assert_eq!(queue.finish().count, 0);
    assert_eq!(seen.lock().unwrap().len(), 1_001);
}

struct Broken;

impl Writer<u64> for Broken {
    fn kind(&self) -> &'static str {
        "test"
    }
    fn name(&self) -> String {
        "the test's pipe".into()
    }
    fn take(&mut self, _: u64, _: u64) -> Result<(), WriteError> {
        Err(WriteError::Closed(io::ErrorKind::BrokenPipe.into()))
    }
}

#[test]
fn counts_everything_after_a_writer_closed() {
    let mut queue = OutputQueue::start(Broken, Overflow::Block, Bound::of_items(1)).unwrap();
    let mut offered = 0;
    while !queue.is_closed() {
        queue.push(offered);
        offered += 1;
    }
    assert_eq!(queue.finish().count, offered);
}
