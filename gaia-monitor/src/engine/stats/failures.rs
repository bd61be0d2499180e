//! When a broken connection is counted: once, under the cause that it has by then, because a counter cannot go down.
//!
//! That is when its incident settles or closes, or [`STANDS`] after it was put down to that incident, whichever is first:
//! a client that asks a dead server ten times a second keeps an incident open for as long as it asks, and an alert cannot
//! wait for it. What moves to another incident later keeps its count. Class `none` and what is in no incident that was
//! told (out of scope, a client that cancelled) are never counted.

use std::collections::{BTreeSet, VecDeque};

use crate::model::ids::ContainerId;
use crate::model::incident::EXTERNAL;
use crate::model::time::{Nanos, Stamp};

use crate::engine::Engine;
use crate::engine::effect::{Counted, Effect};
use crate::engine::failures::retry_policy;
use crate::engine::timers::Timer;
use crate::engine::types::ids::CaseId;
use crate::engine::types::ids::FailureId;

/// Docker's word on a death comes within 0.2 s on a loaded machine; nothing that is later has been seen to move one.
const STANDS: Nanos = Nanos::from_secs(2);
/// Broken connections that wait to be counted. Beyond it the oldest is counted early.
const WAITING: usize = 16_384;
/// Counted ones that are remembered, so that a late move does not count them again.
const REMEMBERED: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: VecDeque<(Stamp, FailureId)>,
    /// Waiting or counted. Ids only grow, so the lowest are the oldest.
    known: BTreeSet<FailureId>,
}

impl Engine {
    /// A broken connection was put down to a cause.
    pub(in crate::engine) fn await_count(&mut self, id: FailureId) {
        let pending = &mut self.stats.pending;
        if !pending.known.insert(id) {
            return;
        }
        while pending.known.len() > REMEMBERED {
            pending.known.pop_first();
        }
        let due = self.world.now.plus(STANDS);
        pending.waiting.push_back((due, id));
        if pending.waiting.len() == 1 || pending.waiting.len() > WAITING {
            // Too many wait: the timer takes the oldest at once.
            let first = if pending.waiting.len() > WAITING { self.world.now } else { due };
            self.timers.set(Timer::Count, Some(first));
        }
    }

    pub(in crate::engine) fn count_due(&mut self, effects: &mut Vec<Effect>) {
        let now = self.world.now;
        while let Some((due, id)) = self.stats.pending.waiting.front().copied() {
            if due > now && self.stats.pending.waiting.len() <= WAITING {
                self.timers.set(Timer::Count, Some(due));
                return;
            }
            self.stats.pending.waiting.pop_front();
            self.count(id, effects);
        }
    }

    /// The case stands: what it broke is counted.
    pub(in crate::engine) fn count_case(&mut self, case: CaseId, effects: &mut Vec<Effect>) {
        let waiting = std::mem::take(&mut self.stats.pending.waiting);
        let (of_case, others): (VecDeque<_>, VecDeque<_>) = waiting
            .into_iter()
            .partition(|(_, id)| self.failures.get(*id).is_some_and(|found| found.case == Some(case)));
        self.stats.pending.waiting = others;
        for (_, id) in of_case {
            self.count(id, effects);
        }
        self.timers.set(Timer::Count, self.stats.pending.waiting.front().map(|(due, _)| *due));
    }

    fn count(&mut self, id: FailureId, effects: &mut Vec<Effect>) {
        let Some(found) = self.failures.get(id).filter(|found| found.is_error()) else { return };
        let told = found.case.and_then(|case| self.cases.get(case)).and_then(|case| case.published.as_ref());
        let Some(told) = told else {
            // It may still be put down to something that is told.
            self.stats.pending.known.remove(&id);
            return;
        };
        let error = &found.entry.client_error;
        effects.push(Effect::Counted(Counted::Broken {
            client: self.end_name(found.client_container.as_ref(), found.client_pid.is_some()),
            server: self.end_name(found.route.container.as_ref(), found.route.server.is_some()),
            httpx: error.httpx,
            cause: told.cause.kind,
            retried: error.retried,
        }));
    }

    /// `here`: its socket, or its process, was seen on this host.
    fn end_name(&self, container: Option<&ContainerId>, here: bool) -> String {
        if container.is_none() && !here {
            EXTERNAL.to_owned()
        } else {
            retry_policy::service_label(&self.world, container)
        }
    }
}
