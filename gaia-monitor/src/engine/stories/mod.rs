//! Stories: requests whose first attempt failed, or got a status that the client retries, followed to their end.
//!
//! The state is here and not in an output, because a story needs what only the engine has: timers that fire at their own
//! deadline, failures that move between incidents or are taken back, and the connections of a process that succeed. A
//! request is followed from its first trouble on; requests without trouble cost one lookup by process id.
//!
//! Attempts are joined by process, by server or failover pair, and by the instants at which the client's policy has its next
//! attempt. No header is recorded, so concurrent requests cannot be distinguished by their path.
//!
//! Bounds: [`OPEN_CAP`] followed requests, the oldest is dropped first and counted as lost at stage `engine.stories`;
//! [`INCIDENTS_CAP`] ids of incidents, after which an attempt no longer names its incident.

// One request, and what its policy does next.
mod followed;

// Client and servers of a request.
mod origin;

// Beginnings and ends of attempts.
mod attempts;
mod outcomes;

// What a finished request amounts to.
mod conclude;

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::context::Context;
use crate::engine::effect::{Counter, Effect};
use crate::engine::timers::{Timer, TimerQueue};
use crate::engine::types::ids::{CaseId, StoryId};
use crate::engine::world::Change;
use crate::engine::world::tcp::sockets::SocketChange;
use crate::model::event::{BodyFraming, Event, Fact, HttpWhat};
use crate::model::ids::{ContainerId, IncidentId, Pid};
use crate::model::time::Stamp;

use followed::{AttemptKey, FollowedRequest, NextAttempt};

const OPEN_CAP: usize = 8_192;
const INCIDENTS_CAP: usize = 65_536;
/// Stage under which dropped requests are counted.
const STAGE: &str = "engine.stories";

#[derive(Debug, Default)]
pub struct Stories {
    open: BTreeMap<StoryId, FollowedRequest>,
    by_pid: BTreeMap<Pid, BTreeSet<StoryId>>,
    by_attempt: BTreeMap<AttemptKey, StoryId>,
    /// The incident of each published case.
    incidents: BTreeMap<CaseId, IncidentId>,
    /// When the maintenance file of a container was requested, and whether it was active when it was last read.
    maintenance: BTreeMap<ContainerId, (Stamp, bool)>,
    next: u64,
}

impl Stories {
    /// A case was published under this id.
    pub fn published(&mut self, of: CaseId, id: &IncidentId) {
        self.incidents.entry(of).or_insert_with(|| id.clone());
        if self.incidents.len() > INCIDENTS_CAP {
            self.incidents.pop_first();
        }
    }

    /// Follows a change of the world; the failures that it led to are known.
    pub fn change(
        &mut self,
        ctx: Context,
        timers: &mut TimerQueue,
        at: Stamp,
        change: &Change,
        effects: &mut Vec<Effect>,
    ) {
        match change {
            Change::Socket(SocketChange::Connecting { client }) => self.connecting(ctx, timers, *client),
            Change::Socket(
                SocketChange::ConnectFailed { client, .. }
                | SocketChange::FinArrived { client }
                | SocketChange::ResetArrived { client }
                | SocketChange::TimedOut { client, .. }
                | SocketChange::Left { client },
            ) => self.socket_ended(ctx, timers, at, *client, effects),
            Change::Socket(SocketChange::Malformed { server }) => {
                if let Some(client) = ctx.world.sockets.get(*server).and_then(|endpoint| endpoint.peer) {
                    self.socket_ended(ctx, timers, at, client, effects);
                }
            }
            Change::Lookup(change) => self.lookup_changed(ctx, timers, *change, effects),
            Change::Shutdown => self.shut_down(ctx, timers, effects),
            Change::Socket(
                SocketChange::Connected { .. }
                | SocketChange::Arrived { .. }
                | SocketChange::ServerClosed { .. }
                | SocketChange::ServerReady { .. },
            )
            | Change::DnsChanged(_)
            | Change::Listening { .. }
            | Change::Termination(_)
            | Change::Exited(_)
            | Change::Signalled(_)
            | Change::OomMarked(_)
            | Change::Outage(_)
            | Change::PacketDropped { .. }
            | Change::AcceptQueueFull(_)
            | Change::Docker(_)
            | Change::Logged(..)
            | Change::LogsUnread(_)
            | Change::Lost { .. } => {}
        }
    }

    /// Follows the HTTP facts of an event that the world has absorbed.
    pub fn event(&mut self, ctx: Context, timers: &mut TimerQueue, event: &Event, effects: &mut Vec<Effect>) {
        if let Fact::Maintenance(read) = &event.fact {
            return self.maintenance_read(ctx, timers, &read.container, read.active);
        }
        let Fact::Http(http) = &event.fact else { return };
        let at = event.at;
        let of_response = || {
            if http.received { Some(http.cookie) } else { ctx.world.sockets.get(http.cookie)?.peer }
        };
        match &http.what {
            HttpWhat::RequestBegun if !http.received => self.requested(ctx, timers, at, http.cookie),
            HttpWhat::ResponseHeaders { status, body, .. } => {
                if let Some(client) = of_response() {
                    self.status(ctx, timers, at, client, *status, effects);
                    if *body == BodyFraming::Empty {
                        self.responded(ctx, timers, at, client);
                    }
                }
            }
            HttpWhat::ResponseComplete => {
                if let Some(client) = of_response() {
                    self.responded(ctx, timers, at, client);
                }
            }
            HttpWhat::RequestBegun
            | HttpWhat::RequestComplete
            | HttpWhat::ResponseBegun
            | HttpWhat::Informational { .. }
            | HttpWhat::Upgraded
            | HttpWhat::Malformed
            | HttpWhat::Opaque => {}
        }
    }

    /// The deadline of a story has come.
    pub fn due(&mut self, ctx: Context, timers: &mut TimerQueue, id: StoryId, effects: &mut Vec<Effect>) {
        let Some(request) = self.open.get_mut(&id) else { return };
        let now = ctx.world.now;
        if request.is_forgotten(now) {
            self.close(timers, id);
            return effects.push(Effect::Count(Counter::Lost { stage: STAGE.to_owned(), count: 1 }));
        }
        // A resolved name that was not connected to: the attempt is not followed further.
        if request.plan() == NextAttempt::UnderWay
            && request.attempts.last().is_some_and(|last| last.resolved.is_some())
            && let Some(dropped) = request.attempts.pop()
        {
            self.by_attempt.remove(&dropped.key);
        }
        if request.deadline() > now {
            return self.schedule(ctx, timers, id);
        }
        self.conclude(ctx, timers, id, effects);
    }

    fn open(&mut self, ctx: Context, timers: &mut TimerQueue, mut request: FollowedRequest, effects: &mut Vec<Effect>) {
        let begun = request.attempts.first().map_or(ctx.world.now, |first| first.begun);
        for id in self.by_pid.get(&request.pid).into_iter().flatten() {
            let Some(other) = self.open.get_mut(id).filter(|other| other.concerns(&request.primary.key)) else {
                continue;
            };
            (other.rivals, request.rivals) = (true, true);
            if other.may_have_been(begun) || other.link(&request.primary.key, begun).is_some() {
                (other.ambiguous, request.ambiguous) = (true, true);
            }
        }
        self.next += 1;
        let id = StoryId(self.next);
        self.by_pid.entry(request.pid).or_default().insert(id);
        self.by_attempt.extend(request.attempts.iter().map(|attempt| (attempt.key, id)));
        self.open.insert(id, request);
        if self.open.len() > OPEN_CAP
            && let Some(oldest) = self.open.keys().next().copied()
        {
            self.close(timers, oldest);
            effects.push(Effect::Count(Counter::Lost { stage: STAGE.to_owned(), count: 1 }));
        }
        self.schedule(ctx, timers, id);
    }

    fn schedule(&self, ctx: Context, timers: &mut TimerQueue, id: StoryId) {
        if let Some(request) = self.open.get(&id) {
            timers.set(Timer::Story(id), Some(request.deadline().max(ctx.world.now)));
        }
    }

    fn close(&mut self, timers: &mut TimerQueue, id: StoryId) -> Option<FollowedRequest> {
        timers.set(Timer::Story(id), None);
        let request = self.open.remove(&id)?;
        if let Some(of_pid) = self.by_pid.get_mut(&request.pid) {
            of_pid.remove(&id);
            if of_pid.is_empty() {
                self.by_pid.remove(&request.pid);
            }
        }
        for attempt in request.attempts.iter().chain(&request.repeat) {
            if self.by_attempt.get(&attempt.key) == Some(&id) {
                self.by_attempt.remove(&attempt.key);
            }
        }
        Some(request)
    }

    fn conclude(&mut self, ctx: Context, timers: &mut TimerQueue, id: StoryId, effects: &mut Vec<Effect>) {
        let Some(request) = self.close(timers, id) else { return };
        effects.extend(conclude::story(ctx, id, request, &self.incidents).map(|story| Effect::Story(Box::new(story))));
    }

    /// The run ends: only what is over is published, because the rest has no end that was observed.
    fn shut_down(&mut self, ctx: Context, timers: &mut TimerQueue, effects: &mut Vec<Effect>) {
        for id in self.open.keys().copied().collect::<Vec<_>>() {
            if self.open.get(&id).is_some_and(|request| request.plan() == NextAttempt::Over) {
                self.conclude(ctx, timers, id, effects);
            } else {
                self.close(timers, id);
            }
        }
    }
}
