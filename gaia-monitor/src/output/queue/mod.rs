//! A bounded queue from the driver to one output, with a writer thread.
//!
//! A slow or failed writer loses its own output: the loss is counted, reported once, and never delays the engine. A
//! replay has no deadline and waits instead.

mod waiting;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::stderr;
pub use waiting::{Bound, Queued, Revision};
use waiting::{Item, Waiting};

/// How long the end of a live run waits for one writer that does not finish (a stopped terminal, a dead network file
/// system).
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// What to do with an item when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Lose and count the least: the engine of a live run never waits.
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
    /// Writes one item; `lost_before` items between it and the previous one were lost by the queue.
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

/// What both threads share.
struct Shared<T> {
    state: Mutex<Channel<T>>,
    /// An item has arrived, or the queue has ended.
    arrived: Condvar,
    /// There is room again, or the writer has ended.
    taken: Condvar,
    counts: Counts,
}

struct Channel<T> {
    waiting: Waiting<T>,
    /// Nothing will arrive any more.
    ended: bool,
    /// The writer has ended.
    abandoned: bool,
    /// The writer waits for an item: only then is a wake-up worth a system call.
    idle: bool,
}

impl<T> Shared<T> {
    /// Held for a moment only, never while anything is written.
    fn lock(&self) -> MutexGuard<'_, Channel<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.lock().ended = true;
        self.arrived.notify_one();
    }
}

/// Counts that both threads share.
#[derive(Debug, Default)]
struct Counts {
    /// Items that the writer has handled, lost or not.
    handled: AtomicU64,
    /// Items that the writer lost.
    lost: AtomicU64,
    /// The writer has ended for good.
    closed: AtomicBool,
}

/// The driver's side of the queue.
pub struct OutputQueue<T> {
    name: String,
    kind: &'static str,
    overflow: Overflow,
    shared: Arc<Shared<T>>,
    ended: Receiver<()>,
    pushed: u64,
    /// Lost by the queue.
    dropped: u64,
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

impl<T: Queued + Send + 'static> OutputQueue<T> {
    /// Starts the writer's thread. `bound`: what may wait for it.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(writer: impl Writer<T>, overflow: Overflow, bound: Bound) -> io::Result<Self> {
        let (name, kind) = (writer.name(), writer.kind());
        let (done, ended) = channel();
        let state = Channel { waiting: Waiting::new(bound), ended: false, abandoned: false, idle: false };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            arrived: Condvar::new(),
            taken: Condvar::new(),
            counts: Counts::default(),
        });
        let writers = Arc::clone(&shared);
        std::thread::Builder::new().name("gaia-writer".into()).spawn(move || {
            run(writer, overflow, &writers);
            writers.lock().abandoned = true;
            writers.taken.notify_all();
            // The receiver may be gone; ignore the error.
            let _ = done.send(());
        })?;
        Ok(Self { name, kind, overflow, shared, ended, pushed: 0, dropped: 0, warned: false })
    }

    /// Queues an item, or loses and counts the least.
    pub fn push(&mut self, item: T) {
        self.pushed += 1;
        let mut state = self.shared.lock();
        if self.overflow == Overflow::Block {
            while state.waiting.is_full() && !state.abandoned {
                state = self.shared.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        if state.abandoned {
            self.dropped += 1;
            return;
        }
        let lost = state.waiting.put(item);
        let wake = std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.shared.arrived.notify_one();
        }
        self.dropped += lost;
        if lost > 0 && !std::mem::replace(&mut self.warned, true) {
            stderr::warn(format_args!("{} is too slow: output is dropped and counted", self.name));
        }
    }

    /// The output's kind, and how much it has lost so far.
    #[must_use]
    pub fn lost(&self) -> (&'static str, u64) {
        (self.kind, self.dropped + self.shared.counts.lost.load(Ordering::Relaxed))
    }

    /// The writer has ended for good.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.counts.closed.load(Ordering::Acquire)
    }

    /// Lets the writer finish and returns what it lost.
    #[must_use]
    pub fn finish(mut self) -> OutputLoss {
        self.shared.end();
        match self.overflow {
            // An error means that the thread has ended, which is the condition to wait for.
            Overflow::Block => drop(self.ended.recv()),
            Overflow::Drop => drop(self.ended.recv_timeout(FINISH_TIMEOUT)),
        }
        let handled = self.shared.counts.handled.load(Ordering::Acquire);
        let lost = self.shared.counts.lost.load(Ordering::Acquire);
        let closed = self.is_closed();
        OutputLoss { output: std::mem::take(&mut self.name), count: self.pushed.saturating_sub(handled) + lost, closed }
    }
}

impl<T> Drop for OutputQueue<T> {
    fn drop(&mut self) {
        self.shared.end();
    }
}

/// What the writer does next.
enum Next<T> {
    Write(Item<T>),
    /// The queue is empty.
    Idle,
    /// The queue has ended; so many items were lost behind the last one.
    End(u64),
}

impl<T: Queued> Shared<T> {
    fn next(&self) -> Next<T> {
        let mut state = self.lock();
        match state.waiting.take() {
            Some(item) => {
                drop(state);
                self.taken.notify_one();
                Next::Write(item)
            }
            None if state.ended => Next::End(state.waiting.tail()),
            None => Next::Idle,
        }
    }

    /// Waits for an item or the end, at most for `limit`.
    fn wait(&self, limit: Option<Duration>) {
        let mut state = self.lock();
        let nothing = |state: &mut Channel<T>| state.waiting.is_empty() && !state.ended;
        state.idle = true;
        let mut state = match limit {
            None => self.arrived.wait_while(state, nothing).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                self.arrived.wait_timeout_while(state, limit, nothing).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.idle = false;
    }
}

/// The writer's thread.
fn run<T: Queued>(mut writer: impl Writer<T>, overflow: Overflow, shared: &Shared<T>) {
    let counts = &shared.counts;
    let mut warned = false;
    let begun = writer.begin();
    if !handle_result(&writer, overflow, counts, begun, &mut warned) {
        return;
    }
    loop {
        let (result, is_item) = match shared.next() {
            Next::Write(item) => (writer.take(item.item, item.lost_before), true),
            Next::Idle => (writer.idle(), false),
            Next::End(lost) => {
                let finished = writer.finish(lost);
                handle_result(&writer, overflow, counts, finished, &mut warned);
                return;
            }
        };
        if !handle_result(&writer, overflow, counts, result, &mut warned) {
            return;
        }
        if is_item {
            counts.handled.fetch_add(1, Ordering::Release);
        } else {
            shared.wait(writer.idle_interval());
        }
    }
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
