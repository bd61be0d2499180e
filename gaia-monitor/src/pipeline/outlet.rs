//! The bounded way from a source to the merge. A source never waits: what does not fit is dropped and counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use crate::model::event::Observation;

/// Batches under way. A batch is one drain of the ring, or one message of any other source.
const BATCHES: usize = 4_096;

/// What a source saw in one go, sorted by its own time.
pub type Batch = Vec<Observation>;

/// Events lost before the engine, by stage, since the merge last asked.
#[derive(Clone, Debug, Default)]
pub struct Losses(Arc<Mutex<BTreeMap<String, u64>>>);

impl Losses {
    pub fn add(&self, stage: &str, count: u64) {
        if count == 0 {
            return;
        }
        let mut losses = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *losses.entry(stage.to_owned()).or_default() += count;
    }

    #[must_use]
    pub fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// A source's end of the way.
#[derive(Clone, Debug)]
pub struct Outlet {
    sender: mpsc::Sender<Batch>,
    losses: Losses,
    stage: &'static str,
}

impl Outlet {
    /// Makes the way; `stage` names the source that this outlet is for, [`Outlet::of`] makes one for another source.
    #[must_use]
    pub fn new(stage: &'static str) -> (Self, mpsc::Receiver<Batch>, Losses) {
        let (sender, receiver) = mpsc::channel(BATCHES);
        let losses = Losses::default();
        (Self { sender, losses: losses.clone(), stage }, receiver, losses)
    }

    #[must_use]
    pub fn of(&self, stage: &'static str) -> Self {
        Self { stage, ..self.clone() }
    }

    /// Hands a batch over, or counts it as lost when the merge is that far behind. `false`: the merge is gone.
    pub fn offer(&self, batch: Batch) -> bool {
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

    /// Reports a loss that happened in the kernel, or at a source's own peer.
    pub fn lost(&self, stage: &str, count: u64) {
        self.losses.add(stage, count);
    }
}
