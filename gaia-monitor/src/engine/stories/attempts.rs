//! Attempts of followed processes as they begin: each continues a request, repeats one silently, or is another one.

use crate::engine::context::Context;
use crate::engine::effect::Effect;
use crate::engine::timers::TimerQueue;
use crate::engine::types::ids::StoryId;
use crate::engine::world::dns::lookups::{LookupChange, LookupId};
use crate::engine::world::tcp::endpoint::Endpoint;
use crate::model::ids::{Cookie, Pid};
use crate::model::incident::Party;
use crate::model::time::Stamp;

use super::Stories;
use super::followed::{AttemptKey, Continuation, Destination, TrackedAttempt};
use super::origin::{destination, server_key};

impl Stories {
    pub(super) fn connecting(&mut self, ctx: Context, timers: &mut TimerQueue, client: Cookie) {
        let Some((pid, endpoint)) = self.followed_process(ctx, client) else { return };
        let Some(to) = destination(ctx, client, endpoint.opened) else { return };
        let begun = endpoint.opened;
        let key = AttemptKey::Socket(client);
        // The connect that follows a lookup is the same attempt.
        let of_pid = self.by_pid.get(&pid).cloned().unwrap_or_default();
        for id in of_pid {
            let Some(request) = self.open.get_mut(&id) else { continue };
            let looked_up = |attempt: &&mut TrackedAttempt| {
                matches!(attempt.key, AttemptKey::Lookup(_)) && attempt.ended.is_none() && attempt.to.key == to.key
            };
            if let Some(attempt) = request.attempts.iter_mut().chain(&mut request.repeat).find(looked_up) {
                let looked_up = std::mem::replace(&mut attempt.key, key);
                (attempt.to, attempt.resolved) = (to, None);
                self.by_attempt.remove(&looked_up);
                self.by_attempt.insert(key, id);
                return self.schedule(ctx, timers, id);
            }
        }
        self.begin(ctx, timers, pid, begun, key, to, false);
    }

    pub(super) fn requested(&mut self, ctx: Context, timers: &mut TimerQueue, at: Stamp, client: Cookie) {
        let Some((pid, _)) = self.followed_process(ctx, client) else { return };
        let key = AttemptKey::Socket(client);
        let known = self.by_attempt.get(&key).and_then(|id| self.open.get_mut(id));
        if let Some(attempt) = known.and_then(|request| request.attempt_mut(key)).filter(|known| known.ended.is_none())
        {
            attempt.requested = true;
            return;
        }
        // A request on a connection that is kept.
        if let Some(to) = destination(ctx, client, at) {
            self.begin(ctx, timers, pid, at, key, to, true);
        }
    }

    /// An attempt of a followed process begins: it continues one of its requests, or is another one.
    #[expect(clippy::too_many_arguments, reason = "the facts of one attempt")]
    pub(super) fn begin(
        &mut self,
        ctx: Context,
        timers: &mut TimerQueue,
        pid: Pid,
        begun: Stamp,
        key: AttemptKey,
        to: Destination,
        requested: bool,
    ) {
        let of_pid: Vec<StoryId> = self.by_pid.get(&pid).into_iter().flatten().copied().collect();
        let of_pair: Vec<StoryId> = of_pid
            .into_iter()
            .filter(|id| self.open.get(id).is_some_and(|request| request.concerns(&to.key)))
            .collect();
        let link = |id: &StoryId| self.open.get(id)?.link(&to.key, begun).map(|(kind, due)| (kind, due, *id));
        let mut links: Vec<(Continuation, Stamp, StoryId)> = of_pair.iter().filter_map(link).collect();
        links.sort();
        let chosen = links.first().copied();
        let best = chosen.map(|(kind, ..)| kind);
        let is_ambiguous = links.iter().filter(|(kind, ..)| Some(*kind) == best).count() > 1;
        for (kind, _, id) in &links {
            if let Some(request) = self.open.get_mut(id).filter(|_| is_ambiguous && Some(*kind) == best) {
                request.ambiguous = true;
            }
        }
        for id in &of_pair {
            let Some(request) = self.open.get_mut(id) else { continue };
            if chosen.is_none() && request.is_same_attempt(&to.key, begun) {
                return;
            }
            if chosen.is_none_or(|(_, _, chosen)| chosen != *id) {
                request.rivals = true;
                request.ambiguous |= request.may_have_been(begun);
            }
        }
        let attempt = TrackedAttempt {
            key,
            begun,
            to,
            fallback: false,
            requested,
            resolved: None,
            status: None,
            failure: None,
            error: None,
            inferred: false,
            ended: None,
        };
        match chosen.and_then(|(kind, due, id)| Some((kind, due, id, self.open.get_mut(&id)?))) {
            Some((kind, due, id, request)) => {
                let fallback = request.candidate.as_ref() == Some(&attempt.to.key);
                request.dues.push(due);
                request.early_fallback |= kind == Continuation::EarlyFallback;
                request.repeat = None;
                request.attempts.push(TrackedAttempt { fallback, ..attempt });
                self.by_attempt.insert(key, id);
                self.schedule(ctx, timers, id);
            }
            None => self.may_repeat(ctx, timers, pid, &attempt),
        }
    }

    /// A request that no policy has due: it may repeat one that has just failed, if it is the only one.
    pub(super) fn may_repeat(&mut self, ctx: Context, timers: &mut TimerQueue, pid: Pid, attempt: &TrackedAttempt) {
        let of_pid: Vec<StoryId> = self.by_pid.get(&pid).into_iter().flatten().copied().collect();
        let mut is_first = true;
        for id in of_pid.into_iter().rev() {
            let Some(request) = self.open.get_mut(&id) else { continue };
            match &request.repeat {
                // Another one at the same time: the process makes concurrent requests, and this is one of them.
                Some(known) if known.ended.is_none() => {
                    self.by_attempt.remove(&known.key);
                    request.repeat = None;
                    is_first = false;
                }
                None if is_first && request.may_be_repeated(&attempt.to, attempt.begun) => {
                    request.repeat = Some(attempt.clone());
                    self.by_attempt.insert(attempt.key, id);
                    is_first = false;
                }
                Some(_) | None => {}
            }
            self.schedule(ctx, timers, id);
        }
    }

    pub(super) fn lookup_changed(
        &mut self,
        ctx: Context,
        timers: &mut TimerQueue,
        change: LookupChange,
        effects: &mut Vec<Effect>,
    ) {
        match change {
            LookupChange::Begun(id) => self.looks_up(ctx, timers, id),
            LookupChange::Resolved(id) => {
                let key = AttemptKey::Lookup(id);
                let Some(story) = self.by_attempt.get(&key).copied() else { return };
                if let Some(attempt) = self.open.get_mut(&story).and_then(|request| request.attempt_mut(key)) {
                    (attempt.ended, attempt.failure, attempt.error) = (None, None, None);
                    attempt.resolved = Some(ctx.world.now);
                    self.schedule(ctx, timers, story);
                }
            }
            LookupChange::Failed(id) => {
                let failure = ctx.world.lookups.get(id).and_then(|it| ctx.failures.of_client(it.socket.cookie));
                if let Some(failure) = failure.filter(|failure| failure.is_lookup()) {
                    self.failed(ctx, timers, AttemptKey::Lookup(id), failure.id, effects);
                }
            }
            LookupChange::Resumed(_) | LookupChange::Closed(_) => {}
        }
    }

    pub(super) fn looks_up(&mut self, ctx: Context, timers: &mut TimerQueue, id: LookupId) {
        let Some(lookup) = ctx.world.lookups.get(id).filter(|lookup| self.by_pid.contains_key(&lookup.task.pid)) else {
            return;
        };
        let client = ctx.world.containers.of_socket(&lookup.socket, lookup.begun);
        let Some(client) = client else { return };
        let Some(holder) = ctx.world.last_holder(lookup.name(), &client, lookup.begun) else { return };
        let Some(key) = server_key(ctx, &holder) else { return };
        let container = ctx.world.containers.get(&holder);
        let party = Party {
            container: container.map(|container| container.info.name.clone()),
            service: container.and_then(|container| container.info.service.clone()),
            ip: None,
            port: None,
            pid: None,
            comm: None,
        };
        let to = Destination { key, container: Some(holder), party };
        self.begin(ctx, timers, lookup.task.pid, lookup.begun, AttemptKey::Lookup(id), to, false);
    }

    /// The process of a client's socket, if one of its requests is followed.
    pub(super) fn followed_process<'a>(&self, ctx: Context<'a>, client: Cookie) -> Option<(Pid, &'a Endpoint)> {
        if self.by_pid.is_empty() {
            return None;
        }
        let endpoint = ctx.world.sockets.get(client)?;
        let pid = endpoint.owner.as_ref()?.pid;
        (self.by_pid.contains_key(&pid) && !ctx.world.is_proxy_leg(client)).then_some((pid, endpoint))
    }
}
