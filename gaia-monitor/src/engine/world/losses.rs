//! Losses of events, by stage. A loss makes every verdict uncertain that could depend on a lost event.
//!
//! Bound: [`LOSSES_CAP`] losses; when reached, the oldest is evicted.

use std::collections::BTreeMap;

use crate::model::time::Stamp;

use crate::engine::world::World;
use crate::engine::world::change::Change;

const LOSSES_CAP: usize = 256;
/// The stage of open endpoints that were evicted.
const EVICTED_ENDPOINTS: &str = "engine.endpoints";

impl World {
    /// Losses since an instant, by stage: the time of the last report, and the total count.
    #[must_use]
    pub fn losses_since(&self, from: Stamp) -> BTreeMap<String, (Stamp, u64)> {
        let mut losses: BTreeMap<String, (Stamp, u64)> = BTreeMap::new();
        for (at, stage, count) in self.losses.iter().filter(|(at, ..)| *at >= from) {
            let lost = losses.entry(stage.clone()).or_default();
            *lost = (*at, lost.1.saturating_add(*count));
        }
        losses
    }

    /// Reports open endpoints that were evicted as a loss: their connections can no longer be attributed in full.
    pub(super) fn report_evictions(&mut self, at: Stamp) -> Vec<Change> {
        match self.sockets.take_evicted() {
            0 => Vec::new(),
            count => self.record_loss(at, EVICTED_ENDPOINTS, count),
        }
    }

    /// Records a loss. A loss in the kernel's ring may include TCP, HTTP and DNS events.
    pub(super) fn record_loss(&mut self, at: Stamp, stage: &str, count: u64) -> Vec<Change> {
        self.losses.push_back((at, stage.to_owned(), count));
        if self.losses.len() > LOSSES_CAP {
            self.losses.pop_front();
        }
        if stage.starts_with("ring.") {
            self.sockets.mark_doubtful();
            self.lookups.mark_doubtful();
        }
        vec![Change::Lost { stage: stage.to_owned(), count }]
    }
}
