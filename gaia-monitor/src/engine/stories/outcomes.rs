//! Ends of attempts: responses, statuses and failures. The first trouble of a request begins its story.

use crate::engine::context::Context;
use crate::engine::effect::{Effect, Request};
use crate::engine::timers::TimerQueue;
use crate::engine::types::ids::FailureId;
use crate::engine::world::tcp::http_state::{Progress, progress};
use crate::model::ids::{ContainerId, Cookie, Pid};
use crate::model::incident::HttpxClass;
use crate::model::time::{Nanos, Stamp};

use super::Stories;
use super::followed::{AttemptKey, Destination, ServerKey, TrackedAttempt};
use super::origin::{asked, destination, followed, is_in_scope, server_key};
use crate::engine::failures::record;

/// How often the maintenance file of a container is read at most.
const READ_EVERY: Nanos = Nanos::from_secs(1);
/// Containers whose last reading is kept; beyond it, the lowest id is read again sooner.
const READINGS_CAP: usize = 1_024;

impl Stories {
    /// The header section of a response: a status that the client retries begins a story.
    pub(super) fn status(
        &mut self,
        ctx: Context,
        timers: &mut TimerQueue,
        at: Stamp,
        client: Cookie,
        status: u16,
        effects: &mut Vec<Effect>,
    ) {
        let key = AttemptKey::Socket(client);
        let known = self.by_attempt.get(&key).and_then(|id| self.open.get_mut(id));
        if let Some(attempt) = known.and_then(|request| request.attempt_mut(key)).filter(|known| known.ended.is_none())
        {
            attempt.status = Some(status);
            return;
        }
        if status < 400 || client.is_outside() || ctx.world.is_proxy_leg(client) {
            return;
        }
        let Some(endpoint) = ctx.world.sockets.get(client) else { return };
        let Some(owner) = &endpoint.owner else { return };
        if ctx.world.processes.get(owner.pid).is_some_and(|process| process.entered) {
            return;
        }
        let container = ctx.world.containers.of_socket(&endpoint.socket, endpoint.opened);
        let Some(to) = destination(ctx, client, at) else { return };
        if container.is_none() && to.container.is_none() {
            return;
        }
        let party = record::party(ctx.world, container.as_ref(), endpoint.socket.local, Some(owner));
        let attempt = TrackedAttempt {
            key,
            begun: endpoint.http.begun_at.unwrap_or(endpoint.opened),
            to,
            fallback: false,
            requested: true,
            resolved: None,
            status: Some(status),
            failure: None,
            error: None,
            inferred: endpoint.lossy,
            ended: None,
        };
        let request = followed(ctx, owner.pid, party, container, attempt);
        if request.policy.retries_status(status) && is_in_scope(ctx, &request) {
            self.open(ctx, timers, request, effects);
        }
    }

    pub(super) fn responded(&mut self, ctx: Context, timers: &mut TimerQueue, at: Stamp, client: Cookie) {
        let key = AttemptKey::Socket(client);
        let Some(id) = self.by_attempt.get(&key).copied() else { return };
        let Some(attempt) = self.open.get_mut(&id).and_then(|request| request.attempt_mut(key)) else { return };
        if attempt.ended.is_none() {
            attempt.ended = Some(at);
            // The process that accepted the connection is known by now.
            if let Some(to) = destination(ctx, client, at) {
                attempt.to.party = to.party;
            }
            self.schedule(ctx, timers, id);
        }
    }

    pub(super) fn socket_ended(
        &mut self,
        ctx: Context,
        timers: &mut TimerQueue,
        at: Stamp,
        client: Cookie,
        effects: &mut Vec<Effect>,
    ) {
        let key = AttemptKey::Socket(client);
        if let Some(failure) = ctx.failures.of_client(client) {
            return self.failed(ctx, timers, key, failure.id, effects);
        }
        let Some(id) = self.by_attempt.get(&key).copied() else { return };
        let Some(request) = self.open.get_mut(&id) else { return };
        let Some(attempt) = request.attempt_mut(key).filter(|attempt| attempt.ended.is_none()) else { return };
        let until_close = ctx
            .world
            .sockets
            .get(client)
            .is_some_and(|endpoint| progress(endpoint, ctx.world.sockets.peer(client)) == Progress::UntilClose);
        if attempt.status.is_some() && until_close {
            // The end of the connection is the end of the response.
            attempt.ended = Some(at);
            return self.schedule(ctx, timers, id);
        }
        // It ended without a response that was observed and without a failure (an opaque protocol, an unused connection).
        self.by_attempt.remove(&key);
        request.attempts.retain(|attempt| attempt.key != key || attempt.ended.is_some());
        request.repeat = request.repeat.take().filter(|repeat| repeat.key != key);
        self.schedule(ctx, timers, id);
    }

    /// An attempt failed, or its class changed.
    pub(super) fn failed(
        &mut self,
        ctx: Context,
        timers: &mut TimerQueue,
        key: AttemptKey,
        id: FailureId,
        effects: &mut Vec<Effect>,
    ) {
        let Some(failure) = ctx.failures.get(id) else { return };
        let error = failure.entry.client_error.clone();
        let inferred = failure.uncertain
            || failure.evidence.is_ambiguous()
            || failure.opaque
            || failure.lossy
            || error.also_possible.is_some();
        let story = self.by_attempt.get(&key).copied();
        if let Some(story) = story
            && let Some(request) = self.open.get_mut(&story)
        {
            let is_repeat = request.repeat.as_ref().is_some_and(|repeat| repeat.key == key && repeat.ended.is_none());
            if is_repeat {
                // It is a story of its own: what failed once more was no silent repeat that helped.
                request.repeat = None;
                self.by_attempt.remove(&key);
            } else if let Some(attempt) = request.attempt_mut(key)
                && (attempt.ended.is_none() || attempt.failure == Some(id))
            {
                attempt.ended = Some(failure.at());
                attempt.begun = failure.entry.begun_at.map_or(attempt.begun, |begun| attempt.begun.min(begun.0));
                attempt.failure = Some(id);
                attempt.error = Some(error);
                attempt.inferred = inferred;
                attempt.to.party = asked(ctx, failure);
                let (pid, client) = (request.pid, request.client_container.clone());
                if request.candidate.is_some() && !request.attempts.iter().any(|attempt| attempt.fallback) {
                    self.request_maintenance(ctx, client.as_ref(), pid, effects);
                }
                return self.schedule(ctx, timers, story);
            }
        }
        let (Some(pid), false) = (failure.client_pid, error.httpx == HttpxClass::None) else { return };
        if failure.route.client.is_outside() {
            return;
        }
        let party = asked(ctx, failure);
        let container = failure.route.container.clone();
        let key_of = container.as_ref().and_then(|id| server_key(ctx, id));
        let to = Destination {
            key: key_of.unwrap_or_else(|| ServerKey(failure.route.address.to_string())),
            container,
            party,
        };
        let attempt = TrackedAttempt {
            key,
            begun: failure.entry.begun_at.map_or(failure.begun, |begun| begun.0),
            to,
            fallback: false,
            requested: failure.entry.begun_at.is_some(),
            resolved: None,
            status: None,
            failure: Some(id),
            error: Some(error),
            inferred,
            ended: Some(failure.at()),
        };
        let client = failure.client_container.clone();
        let mut request = followed(ctx, pid, failure.entry.client.clone(), client.clone(), attempt);
        if is_in_scope(ctx, &request) {
            if request.candidate.is_some() {
                let last = client.as_ref().and_then(|client| self.maintenance.get(client));
                // A reading that is too old is replaced by the one that is requested now.
                let recent = last.filter(|(asked, _)| ctx.world.now.since(*asked) < READ_EVERY);
                request.maintenance = recent.is_some_and(|(_, active)| *active);
                self.request_maintenance(ctx, client.as_ref(), pid, effects);
            }
            self.open(ctx, timers, request, effects);
        }
    }

    /// A failed attempt may be followed by the fallback, unless maintenance mode is active in the client's container.
    fn request_maintenance(
        &mut self,
        ctx: Context,
        container: Option<&ContainerId>,
        client: Pid,
        effects: &mut Vec<Effect>,
    ) {
        let Some(container) = container else { return };
        let now = ctx.world.now;
        let asked = self.maintenance.get(container).map(|(asked, _)| *asked);
        if asked.is_some_and(|asked| now.since(asked) < READ_EVERY) {
            return;
        }
        let active = self.maintenance.get(container).is_some_and(|(_, active)| *active);
        self.maintenance.insert(container.clone(), (now, active));
        if self.maintenance.len() > READINGS_CAP {
            self.maintenance.pop_first();
        }
        effects.push(Effect::Enrich(Request::Maintenance { container: container.clone(), client }));
    }

    /// The maintenance file of a container was read.
    pub(super) fn maintenance_read(
        &mut self,
        ctx: Context,
        timers: &mut TimerQueue,
        container: &ContainerId,
        active: bool,
    ) {
        if let Some(reading) = self.maintenance.get_mut(container) {
            reading.1 = active;
        }
        let of_client =
            |(_, request): &(_, &mut super::FollowedRequest)| request.client_container.as_ref() == Some(container);
        let mut changed = Vec::new();
        for (id, request) in self.open.iter_mut().filter(of_client) {
            request.maintenance = active;
            changed.push(*id);
        }
        for id in changed {
            self.schedule(ctx, timers, id);
        }
    }
}
