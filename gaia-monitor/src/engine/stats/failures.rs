//! Counting of client failures: each once, under the cause it has at that time, because a counter cannot decrease.
//!
//! A failure is counted when its incident settles or closes, or [`SETTLES_AFTER`] after its attribution to that
//! incident, whichever is first: a client that retries a dead server ten times a second keeps an incident open while it
//! retries, and an alert cannot wait for that. A failure that moves to another incident later keeps its count. Failures
//! of class `none` and those in no published incident (out of scope, a client that cancelled) are never counted.

use std::collections::{BTreeSet, VecDeque};

use crate::model::ids::ContainerId;
use crate::model::incident::EXTERNAL;
use crate::model::time::{Nanos, Stamp};

use crate::engine::context::Context;
use crate::engine::effect::{Counter, Effect};
use crate::engine::failures::retry_policy;
use crate::engine::timers::{Timer, TimerQueue};
use crate::engine::types::ids::{CaseId, FailureId};
use crate::engine::world::World;

/// Docker reports a death within 0.2 s on a loaded machine; no later fact has been observed to move a failure.
const SETTLES_AFTER: Nanos = Nanos::from_secs(2);
/// Failures that wait to be counted. Beyond it the oldest is counted early.
const WAITING: usize = 16_384;
/// Counted failures that are remembered, so that a later move does not count them again.
const REMEMBERED: usize = 65_536;

#[derive(Debug, Default)]
pub(in crate::engine) struct Uncounted {
    waiting: VecDeque<(Stamp, FailureId)>,
    /// Waiting or counted. Ids only grow, so the lowest are the oldest.
    known: BTreeSet<FailureId>,
}

impl Uncounted {
    /// Schedules the count of a failure that was attributed to a cause.
    pub(in crate::engine) fn schedule(&mut self, timers: &mut TimerQueue, now: Stamp, id: FailureId) {
        if !self.known.insert(id) {
            return;
        }
        while self.known.len() > REMEMBERED {
            self.known.pop_first();
        }
        let due = now.plus(SETTLES_AFTER);
        self.waiting.push_back((due, id));
        if self.waiting.len() == 1 || self.waiting.len() > WAITING {
            // Too many are waiting: let the timer count the oldest immediately.
            let first = if self.waiting.len() > WAITING { now } else { due };
            timers.set(Timer::Count, Some(first));
        }
    }

    /// Counts the failures that have waited long enough.
    pub(in crate::engine) fn count_due(&mut self, ctx: Context, timers: &mut TimerQueue, effects: &mut Vec<Effect>) {
        while let Some((due, id)) = self.waiting.front().copied() {
            if due > ctx.world.now && self.waiting.len() <= WAITING {
                timers.set(Timer::Count, Some(due));
                return;
            }
            self.waiting.pop_front();
            self.count(ctx, id, effects);
        }
    }

    /// Counts the failures of a case that has settled or closed.
    pub(in crate::engine) fn count_case(
        &mut self,
        ctx: Context,
        timers: &mut TimerQueue,
        settled: CaseId,
        effects: &mut Vec<Effect>,
    ) {
        let of_case = |id: FailureId| ctx.failures.get(id).is_some_and(|failure| failure.case == Some(settled));
        let waiting = std::mem::take(&mut self.waiting);
        let (now, later): (VecDeque<_>, VecDeque<_>) = waiting.into_iter().partition(|(_, id)| of_case(*id));
        self.waiting = later;
        for (_, id) in now {
            self.count(ctx, id, effects);
        }
        timers.set(Timer::Count, self.waiting.front().map(|(due, _)| *due));
    }

    fn count(&mut self, ctx: Context, id: FailureId, effects: &mut Vec<Effect>) {
        let Some(failure) = ctx.failures.get(id).filter(|failure| failure.is_error() && !failure.foreign) else {
            return;
        };
        let published = failure.case.and_then(|case| ctx.cases.get(case)).and_then(|case| case.published.as_ref());
        let Some(published) = published else {
            // A later attribution to a published incident may still count it.
            self.known.remove(&id);
            return;
        };
        let error = &failure.entry.client_error;
        effects.push(Effect::Count(Counter::Broken {
            client: label(ctx.world, failure.client_container.as_ref(), failure.client_pid.is_some()),
            server: label(ctx.world, failure.route.container.as_ref(), failure.route.server.is_some()),
            httpx: error.httpx,
            cause: published.cause.kind,
            retried: error.retried,
        }));
    }
}

/// The label of an endpoint; `is_local`: its socket or process was observed on this host.
fn label(world: &World, container: Option<&ContainerId>, is_local: bool) -> String {
    if container.is_none() && !is_local { EXTERNAL.to_owned() } else { retry_policy::service_label(world, container) }
}
