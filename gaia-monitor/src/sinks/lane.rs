//! The bounded way from the belt to one writer, which works on a thread of its own.
//!
//! A writer that is slow or broken loses its own output: it is counted, warned of once, and never delays the engine.
//! A replay has nobody to keep up with and waits instead.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, channel, sync_channel};
use std::time::Duration;

use super::notice;

/// How long the end of a live run waits for one writer that does not come to an end (a stopped terminal, a dead
/// network file system).
const PATIENCE: Duration = Duration::from_secs(5);

/// What to do when a writer is behind by a full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Drop and count: the engine of a live run never waits.
    Live,
    /// Wait: the input is a file.
    Replay,
}

/// Why a writer could not take something.
#[derive(Debug)]
pub enum Trouble {
    /// Nothing will ever arrive again (a closed pipe).
    Gone(io::Error),
    /// So many items were lost; later ones may arrive.
    Lost { count: u64, error: io::Error },
}

/// A writer at the end of a lane.
pub trait Drain<T>: Send + 'static {
    /// What it is, for the metrics.
    fn kind(&self) -> &'static str;
    /// Names the writer in warnings.
    fn name(&self) -> String;
    /// Comes first, in the writer's thread.
    fn begin(&mut self) -> Result<(), Trouble> {
        Ok(())
    }
    /// Takes one item; `lost_before` items between it and the last one did not fit into the queue.
    fn take(&mut self, item: T, lost_before: u64) -> Result<(), Trouble>;
    /// The queue has run empty: a good moment to flush.
    fn idle(&mut self) -> Result<(), Trouble>;
    /// A writer that has something to do while nothing comes is told so again after this long.
    fn idle_again_after(&self) -> Option<Duration> {
        None
    }
    /// Nothing more comes; `lost` items were lost since the last one.
    fn finish(&mut self, lost: u64) -> Result<(), Trouble>;
}

struct Parcel<T> {
    item: T,
    lost_before: u64,
}

/// Counts that both ends share.
#[derive(Debug, Default)]
struct Counts {
    /// Items that the writer has handled, lost or not.
    handled: AtomicU64,
    /// Items that the writer lost.
    lost: AtomicU64,
    /// Items that the queue refused after the last one that it took.
    tail: AtomicU64,
    /// The writer has ended for good.
    gone: AtomicBool,
}

/// The belt's end of the way to one writer.
pub struct Lane<T> {
    name: String,
    kind: &'static str,
    pace: Pace,
    sender: Option<SyncSender<Parcel<T>>>,
    ended: Receiver<()>,
    counts: Arc<Counts>,
    offered: u64,
    /// Refused since the last item that was taken.
    refused: u64,
    /// Refused since the start.
    all_refused: u64,
    warned: bool,
}

/// How much of its output a writer lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    pub writer: String,
    pub count: u64,
    /// It ended before the run did.
    pub gone: bool,
}

impl<T: Send + 'static> Lane<T> {
    /// Starts the writer's thread. `queue`: items that may wait.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(drain: impl Drain<T>, pace: Pace, queue: usize) -> io::Result<Self> {
        let (name, kind) = (drain.name(), drain.kind());
        let (sender, receiver) = sync_channel(queue);
        let (done, ended) = channel();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        std::thread::Builder::new().name("gaia-writer".into()).spawn(move || {
            work(drain, pace, &receiver, &shared);
            // The belt may have stopped waiting; then nobody needs the word.
            let _ = done.send(());
        })?;
        Ok(Self {
            name,
            kind,
            pace,
            sender: Some(sender),
            ended,
            counts,
            offered: 0,
            refused: 0,
            all_refused: 0,
            warned: false,
        })
    }

    /// Hands an item over, or counts it.
    pub fn offer(&mut self, item: T) {
        self.offered += 1;
        let Some(sender) = &self.sender else { return };
        let parcel = Parcel { item, lost_before: self.refused };
        let taken = match self.pace {
            Pace::Live => sender.try_send(parcel).map_err(|error| matches!(error, TrySendError::Disconnected(_))),
            Pace::Replay => sender.send(parcel).map_err(|_| true),
        };
        match taken {
            Ok(()) => self.refused = 0,
            Err(gone) => {
                if !gone && !std::mem::replace(&mut self.warned, true) {
                    notice::warn(format_args!("{} is too slow; what does not fit is left out and counted", self.name));
                }
                self.refused += 1;
                self.all_refused += 1;
            }
        }
        self.counts.tail.store(self.refused, Ordering::Relaxed);
    }

    /// What the writer is, and how much it has lost so far.
    #[must_use]
    pub fn lost(&self) -> (&'static str, u64) {
        (self.kind, self.all_refused + self.counts.lost.load(Ordering::Relaxed))
    }

    /// The writer has ended for good.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.counts.gone.load(Ordering::Acquire)
    }

    /// Lets the writer finish, and tells what it lost.
    #[must_use]
    pub fn finish(mut self) -> Shortfall {
        drop(self.sender.take());
        match self.pace {
            // An error means that the thread is gone, which is what is waited for.
            Pace::Replay => drop(self.ended.recv()),
            Pace::Live => drop(self.ended.recv_timeout(PATIENCE)),
        }
        let handled = self.counts.handled.load(Ordering::Acquire);
        let lost = self.counts.lost.load(Ordering::Acquire);
        let gone = self.is_gone();
        Shortfall { writer: self.name, count: self.offered.saturating_sub(handled) + lost, gone }
    }
}

/// The writer's thread.
fn work<T>(mut drain: impl Drain<T>, pace: Pace, receiver: &Receiver<Parcel<T>>, counts: &Counts) {
    let mut warned = false;
    let begun = drain.begin();
    if !settle(&drain, pace, counts, begun, &mut warned) {
        return;
    }
    loop {
        let parcel = match receiver.try_recv() {
            Ok(parcel) => Some(parcel),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                let idle = drain.idle();
                if !settle(&drain, pace, counts, idle, &mut warned) {
                    return;
                }
                match drain.idle_again_after().map(|after| receiver.recv_timeout(after)) {
                    None => receiver.recv().ok(),
                    Some(Err(RecvTimeoutError::Timeout)) => continue,
                    Some(waited) => waited.ok(),
                }
            }
        };
        let Some(parcel) = parcel else { break };
        let taken = drain.take(parcel.item, parcel.lost_before);
        let goes_on = settle(&drain, pace, counts, taken, &mut warned);
        if !goes_on {
            return;
        }
        counts.handled.fetch_add(1, Ordering::Release);
    }
    let finished = drain.finish(counts.tail.load(Ordering::Relaxed));
    settle(&drain, pace, counts, finished, &mut warned);
}

/// Counts and tells; `false` when the writer has ended.
fn settle<T>(
    drain: &impl Drain<T>,
    pace: Pace,
    counts: &Counts,
    result: Result<(), Trouble>,
    warned: &mut bool,
) -> bool {
    match result {
        Ok(()) => true,
        Err(Trouble::Lost { count, error }) => {
            counts.lost.fetch_add(count, Ordering::Release);
            if !std::mem::replace(warned, true) {
                notice::warn(format_args!("{}: {error}; what it loses is counted, and the run goes on", drain.name()));
            }
            true
        }
        Err(Trouble::Gone(error)) => {
            counts.gone.store(true, Ordering::Release);
            // `replay FILE | head -1` is no mistake; a live run says why its screen stays dark.
            let expected = pace == Pace::Replay && error.kind() == io::ErrorKind::BrokenPipe;
            if !expected && !std::mem::replace(warned, true) {
                notice::warn(format_args!("{}: {error}; nothing more is written there", drain.name()));
            }
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Arc, Mutex};

    use super::{Drain, Lane, Pace, Trouble};

    /// Waits for a permit before each item, and notes what it got.
    struct Slow {
        permits: Receiver<()>,
        started: Sender<u64>,
        seen: Arc<Mutex<Vec<(u64, u64)>>>,
    }

    impl Drain<u64> for Slow {
        fn kind(&self) -> &'static str {
            "test"
        }
        fn name(&self) -> String {
            "the test's writer".into()
        }
        fn take(&mut self, item: u64, lost_before: u64) -> Result<(), Trouble> {
            let _ = self.started.send(item);
            let _ = self.permits.recv();
            self.seen.lock().unwrap().push((item, lost_before));
            Ok(())
        }
        fn idle(&mut self) -> Result<(), Trouble> {
            Ok(())
        }
        fn finish(&mut self, lost: u64) -> Result<(), Trouble> {
            self.seen.lock().unwrap().push((u64::MAX, lost));
            Ok(())
        }
    }

    #[test]
    fn a_slow_writer_loses_its_own_output_and_is_told_how_much() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (permit, permits) = channel();
        let (started, has_started) = channel();
        let mut lane = Lane::start(Slow { permits, started, seen: Arc::clone(&seen) }, Pace::Live, 1).unwrap();
        lane.offer(1);
        assert_eq!(has_started.recv().unwrap(), 1);
        lane.offer(2); // waits in the queue
        lane.offer(3); // does not fit
        lane.offer(4);
        permit.send(()).unwrap();
        assert_eq!(has_started.recv().unwrap(), 2);
        lane.offer(5);
        lane.offer(6); // does not fit, and nothing comes after it
        drop(permit);
        let shortfall = lane.finish();
        assert_eq!(shortfall.count, 3);
        assert_eq!(*seen.lock().unwrap(), [(1, 0), (2, 0), (5, 2), (u64::MAX, 1)]);
    }

    #[test]
    fn a_replay_waits_for_its_writer() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (permit, permits) = channel();
        let (started, _has_started) = channel();
        drop(permit);
        let mut lane = Lane::start(Slow { permits, started, seen: Arc::clone(&seen) }, Pace::Replay, 1).unwrap();
        for item in 0..1_000 {
            lane.offer(item);
        }
        assert_eq!(lane.finish().count, 0);
        assert_eq!(seen.lock().unwrap().len(), 1_001);
    }

    struct Broken;

    impl Drain<u64> for Broken {
        fn kind(&self) -> &'static str {
            "test"
        }
        fn name(&self) -> String {
            "the test's pipe".into()
        }
        fn take(&mut self, _: u64, _: u64) -> Result<(), Trouble> {
            Err(Trouble::Gone(io::ErrorKind::BrokenPipe.into()))
        }
        fn idle(&mut self) -> Result<(), Trouble> {
            Ok(())
        }
        fn finish(&mut self, _: u64) -> Result<(), Trouble> {
            Ok(())
        }
    }

    #[test]
    fn a_broken_writer_ends_and_everything_after_is_counted() {
        let mut lane = Lane::start(Broken, Pace::Replay, 1).unwrap();
        let mut offered = 0;
        while !lane.is_gone() {
            lane.offer(offered);
            offered += 1;
        }
        assert_eq!(lane.finish().count, offered);
    }
}
