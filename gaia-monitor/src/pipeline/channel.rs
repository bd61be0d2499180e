//! The bounded channel from the sources to the merge. A source never waits: a batch that does not fit is dropped and
//! counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::model::event::Observation;

/// Queued batches. A batch is one drain of the ring, or one message of any other source.
const BATCHES: usize = 4_096;

/// What a source observed in one read, sorted by its own time.
pub type Batch = Vec<Observation>;

/// Events lost before the engine, by stage, since the last [`Losses::take`].
#[derive(Clone, Debug, Default)]
pub struct Losses(Arc<Mutex<BTreeMap<String, u64>>>);

impl Losses {
    pub fn add(&self, stage: &str, count: u64) {
        if count == 0 {
            return;
        }
        let mut losses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *losses.entry(stage.to_owned()).or_default() += count;
    }

    #[must_use]
    pub fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The sending half, for one source.
#[derive(Clone, Debug)]
pub struct EventSender {
    sender: mpsc::Sender<Batch>,
    losses: Losses,
    stage: &'static str,
}

impl EventSender {
    /// Creates the channel. Batches that this sender drops are counted under `stage`; [`EventSender::with_stage`] makes a
    /// sender for another source.
    #[must_use]
    pub fn new(stage: &'static str) -> (Self, mpsc::Receiver<Batch>, Losses) {
        let (sender, receiver) = mpsc::channel(BATCHES);
        let losses = Losses::default();
        (Self { sender, losses: losses.clone(), stage }, receiver, losses)
    }

    #[must_use]
    pub fn with_stage(&self, stage: &'static str) -> Self {
        Self { stage, ..self.clone() }
    }

    /// Sends a batch, or counts it as lost if the channel is full. Returns `false` if the receiver was dropped.
    pub fn send(&self, batch: Batch) -> bool {
        if batch.is_empty() {
            return true;
        }
        let count = batch.len() as u64;
        match self.sender.try_send(batch) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.losses.add(self.stage, count);
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// Reports a loss outside this channel: in the kernel, in Docker, or in a queue of the source.
    pub fn lost(&self, stage: &str, count: u64) {
        self.losses.add(stage, count);
    }
}
