//! A bounded queue from the driver to one output, with a writer thread.
//!
//! A slow or failed writer loses its own output: the loss is counted, reported once, and never delays the engine. A
//! replay has no deadline and waits instead.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, channel, sync_channel};
use std::time::Duration;

use crate::stderr;

/// How long the end of a live run waits for one writer that does not finish (a stopped terminal, a dead network file
/// system).
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// What to do with an item when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Drop and count it: the engine of a live run never waits.
    Drop,
    /// Wait: the input is a file.
    Block,
}

/// Why a writer could not write an item.
#[derive(Debug)]
pub enum WriteError {
    /// Nothing can be written any more (a closed pipe).
    Closed(io::Error),
    /// So many items were lost; later ones may succeed.
    Lost { count: u64, error: io::Error },
}

/// The consumer of a queue; it has a thread of its own.
pub trait Writer<T>: Send + 'static {
    /// The output's name in metrics.
    fn kind(&self) -> &'static str;
    /// The output's name in warnings.
    fn name(&self) -> String;
    /// Runs first, on the writer's thread.
    fn begin(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
    /// Writes one item; `lost_before` items between it and the previous one did not fit into the queue.
    fn take(&mut self, item: T, lost_before: u64) -> Result<(), WriteError>;
    /// The queue is empty: a good moment to flush.
    fn idle(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
    /// How often to call [`Writer::idle`] again while the queue stays empty; `None`: not again.
    fn idle_interval(&self) -> Option<Duration> {
        None
    }
    /// The queue has ended; `lost` items were dropped after the last one.
    fn finish(&mut self, _lost: u64) -> Result<(), WriteError> {
        Ok(())
    }
}

struct Item<T> {
    item: T,
    lost_before: u64,
}

/// Counts that both threads share.
#[derive(Debug, Default)]
struct Counts {
    /// Items that the writer has handled, lost or not.
    handled: AtomicU64,
    /// Items that the writer lost.
    lost: AtomicU64,
    /// Items that the queue dropped after the last one that fitted.
    tail: AtomicU64,
    /// The writer has ended for good.
    closed: AtomicBool,
}

/// The driver's side of the queue.
pub struct OutputQueue<T> {
    name: String,
    kind: &'static str,
    overflow: Overflow,
    sender: Option<SyncSender<Item<T>>>,
    ended: Receiver<()>,
    counts: Arc<Counts>,
    pushed: u64,
    /// Dropped since the last item that fitted.
    dropped: u64,
    /// Dropped since the start.
    all_dropped: u64,
    warned: bool,
}

/// How much of its output a writer lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputLoss {
    pub output: String,
    pub count: u64,
    /// It closed before the run ended.
    pub closed: bool,
}

impl<T: Send + 'static> OutputQueue<T> {
    /// Starts the writer's thread. `capacity`: items that may wait.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(writer: impl Writer<T>, overflow: Overflow, capacity: usize) -> io::Result<Self> {
        let (name, kind) = (writer.name(), writer.kind());
        let (sender, receiver) = sync_channel(capacity);
        let (done, ended) = channel();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        std::thread::Builder::new().name("gaia-writer".into()).spawn(move || {
            run(writer, overflow, &receiver, &shared);
            // The receiver may be gone; ignore the error.
            let _ = done.send(());
        })?;
        Ok(Self {
            name,
            kind,
            overflow,
            sender: Some(sender),
            ended,
            counts,
            pushed: 0,
            dropped: 0,
            all_dropped: 0,
            warned: false,
        })
    }

    /// Queues an item, or drops and counts it.
    pub fn push(&mut self, item: T) {
        self.pushed += 1;
        let Some(sender) = &self.sender else { return };
        let item = Item { item, lost_before: self.dropped };
        let queued = match self.overflow {
            Overflow::Drop => sender.try_send(item).map_err(|error| matches!(error, TrySendError::Disconnected(_))),
            Overflow::Block => sender.send(item).map_err(|_| true),
        };
        match queued {
            Ok(()) => self.dropped = 0,
            Err(closed) => {
                if !closed && !std::mem::replace(&mut self.warned, true) {
                    stderr::warn(format_args!("{} is too slow: output is dropped and counted", self.name));
                }
                self.dropped += 1;
                self.all_dropped += 1;
            }
        }
        self.counts.tail.store(self.dropped, Ordering::Relaxed);
    }

    /// The output's kind, and how much it has lost so far.
    #[must_use]
    pub fn lost(&self) -> (&'static str, u64) {
        (self.kind, self.all_dropped + self.counts.lost.load(Ordering::Relaxed))
    }

    /// The writer has ended for good.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.counts.closed.load(Ordering::Acquire)
    }

    /// Lets the writer finish and returns what it lost.
    #[must_use]
    pub fn finish(mut self) -> OutputLoss {
        drop(self.sender.take());
        match self.overflow {
            // An error means that the thread has ended, which is the condition to wait for.
            Overflow::Block => drop(self.ended.recv()),
            Overflow::Drop => drop(self.ended.recv_timeout(FINISH_TIMEOUT)),
        }
        let handled = self.counts.handled.load(Ordering::Acquire);
        let lost = self.counts.lost.load(Ordering::Acquire);
        let closed = self.is_closed();
        OutputLoss { output: self.name, count: self.pushed.saturating_sub(handled) + lost, closed }
    }
}

/// The writer's thread.
fn run<T>(mut writer: impl Writer<T>, overflow: Overflow, receiver: &Receiver<Item<T>>, counts: &Counts) {
    let mut warned = false;
    let begun = writer.begin();
    if !handle_result(&writer, overflow, counts, begun, &mut warned) {
        return;
    }
    loop {
        let item = match receiver.try_recv() {
            Ok(item) => Some(item),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                let idle = writer.idle();
                if !handle_result(&writer, overflow, counts, idle, &mut warned) {
                    return;
                }
                match writer.idle_interval().map(|after| receiver.recv_timeout(after)) {
                    None => receiver.recv().ok(),
                    Some(Err(RecvTimeoutError::Timeout)) => continue,
                    Some(waited) => waited.ok(),
                }
            }
        };
        let Some(item) = item else { break };
        let taken = writer.take(item.item, item.lost_before);
        if !handle_result(&writer, overflow, counts, taken, &mut warned) {
            return;
        }
        counts.handled.fetch_add(1, Ordering::Release);
    }
    let finished = writer.finish(counts.tail.load(Ordering::Relaxed));
    handle_result(&writer, overflow, counts, finished, &mut warned);
}

/// Counts losses and warns of the first; `false`: the writer has closed.
fn handle_result<T>(
    writer: &impl Writer<T>,
    overflow: Overflow,
    counts: &Counts,
    result: Result<(), WriteError>,
    warned: &mut bool,
) -> bool {
    match result {
        Ok(()) => true,
        Err(WriteError::Lost { count, error }) => {
            counts.lost.fetch_add(count, Ordering::Release);
            if !std::mem::replace(warned, true) {
                stderr::warn(format_args!("{}: {error}; lost output is counted, and the run continues", writer.name()));
            }
            true
        }
        Err(WriteError::Closed(error)) => {
            counts.closed.store(true, Ordering::Release);
            // `replay FILE | head -1` is correct usage; a live run reports why its output ends.
            let expected = overflow == Overflow::Block && error.kind() == io::ErrorKind::BrokenPipe;
            if !expected && !std::mem::replace(warned, true) {
                stderr::warn(format_args!("{}: {error}; no further output is written to it", writer.name()));
            }
            false
        }
    }
}

#[cfg(test)]
mod tests;
