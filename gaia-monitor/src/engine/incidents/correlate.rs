//! From changes of the world to cases: detects failures and terminations, binds each to the case of its cause, and moves
//! it when a later fact changes the attribution. Publishes nothing: it marks the cases that changed.

use std::collections::BTreeMap;

use crate::engine::causes::{self, Row, dns, termination, worker};
use crate::engine::effect::{Counter, Effect, Explanation};
use crate::engine::failures::detect::{Detected, Detection, detect};
use crate::engine::failures::table::{Failure, Symptom};
use crate::engine::failures::{happy_eyeballs, record, retry_policy};
use crate::engine::timers::Timer;
use crate::engine::types::cause::{Attribution, CaseKey, Outcome};
use crate::engine::types::evidence::Evidence;
use crate::engine::types::ids::{CaseId, FailureId};
use crate::engine::world::Change;
use crate::engine::world::dns::lookups::{CONTINUES_WITHIN, LookupChange, PATIENCE};
use crate::engine::world::tcp::sockets::SocketChange;
use crate::engine::world::terminations::TerminationId;
use crate::engine::{Engine, RECOVERY_SWEEP};
use crate::model::ids::{ContainerId, Cookie, Pid};
use crate::model::incident::{Detail, Hop, State};
use crate::model::time::{Stamp, Utc};

use super::case::Case;
use super::failed_lookups::FailedLookups;
use super::{binding, enrich, filter_recovery, recovery};

/// Failures whose deciding fact may still arrive.
#[derive(Debug, Default)]
pub struct Pending {
    /// By the process whose exit has not been observed yet.
    exits: BTreeMap<Pid, Vec<FailureId>>,
    lookups: FailedLookups,
}

impl Engine {
    pub(in crate::engine) fn correlate(&mut self, at: Stamp, change: &Change, effects: &mut Vec<Effect>) {
        match change {
            Change::Socket(change) => self.socket_changed(at, change, effects),
            Change::PacketDropped { netns, source, destination } => {
                for id in filter_recovery::dropping_again(self.context(), *source, *destination) {
                    self.change_case(id, |case| case.passed = None);
                }
                for endpoint in [*source, *destination] {
                    let client = self.world.sockets.client_at(*netns, endpoint);
                    if let Some(id) = client.and_then(|client| self.failures.of_client(client)).map(|found| found.id) {
                        self.reconsider(id, effects);
                    }
                }
            }
            Change::AcceptQueueFull(netns) => {
                if let Some(container) = self.world.containers.owner_of_netns(*netns, at) {
                    self.container_changed(&container, effects);
                }
            }
            Change::Lookup(change) => self.lookup_changed(*change, effects),
            Change::DnsChanged(name) => self.name_changed(name),
            Change::Listening { container, since, .. } => {
                for id in recovery::listening(&self.world, container) {
                    self.recovered(*since, id);
                }
                self.container_changed(container, effects);
            }
            Change::Termination(id) => self.terminated(*id, effects),
            Change::Exited(pid) => {
                if let Some(key) = worker::opening(&self.world, *pid) {
                    let case = self.open_case(key, at, at);
                    self.add_worker(case, *pid);
                }
                effects.extend(enrich::core_request(&self.world, *pid));
                self.exit_known(*pid, effects);
                // A process that closes on its way out was taken for a live one.
                self.cases_changed(
                    |case| matches!(case.key, CaseKey::Process { pid: Some(closer), .. } if closer == *pid),
                    effects,
                );
            }
            Change::Logged(container, line) => {
                if let Some((id, name)) = enrich::failure_of_line(&self.failures, container, line) {
                    self.failures.change(id, |failure| failure.log.push((line.clone(), name)));
                }
            }
            Change::LogsUnread(unread) => {
                let container = retry_policy::service_label(&self.world, Some(&unread.container));
                effects.push(Effect::Count(Counter::LogsUnread { container, why: unread.why.clone() }));
            }
            Change::Signalled(pid) | Change::OomMarked(pid) => {
                if matches!(change, Change::OomMarked(_)) {
                    effects.extend(enrich::memory_request(&self.world, *pid));
                }
                effects.extend(enrich::core_request(&self.world, *pid));
                if let Some(container) = self.world.container_of(*pid) {
                    self.container_changed(&container, effects);
                }
            }
            Change::Outage(id) => {
                let outage = self.world.interfaces.outages.get(*id);
                match outage.and_then(|outage| outage.container.clone()) {
                    Some(container) => self.container_changed(&container, effects),
                    // A bridge: what nothing explained on any connection behind it may be explained now.
                    None => {
                        let key = CaseKey::Outage(*id);
                        self.cases_changed(|case| case.key == key || !causes::of(&case.key).is_event(), effects);
                    }
                }
            }
            Change::Docker(container) => self.container_changed(container, effects),
            Change::Lost { stage, count } => {
                effects.push(Effect::Count(Counter::Lost { stage: stage.clone(), count: *count }));
                for id in self.cases.open().map(|case| case.id).collect::<Vec<_>>() {
                    self.change_case(id, |case| {
                        let lost = case.losses.entry(stage.clone()).or_default();
                        *lost = (at, lost.1 + count);
                    });
                }
            }
            Change::Shutdown => self.shut_down(effects),
        }
    }

    fn socket_changed(&mut self, at: Stamp, change: &SocketChange, effects: &mut Vec<Effect>) {
        match change {
            SocketChange::Connected { client } => {
                for (id, case) in happy_eyeballs::made_good(self.context(), at, *client) {
                    binding::unbind(&mut self.failures, &mut self.cases, id);
                    self.failures.remove(id);
                    case.into_iter().for_each(|case| self.touched.add(case));
                }
                let passed = filter_recovery::passed_by_connect(self.context(), at, *client);
                self.passed(at, passed);
            }
            SocketChange::Arrived { server } => {
                let passed = filter_recovery::passed_by_close(self.context(), at, *server);
                self.passed(at, passed);
            }
            change => match detect(&self.world, at, change) {
                Detection::Failure(detected) => self.detected(at, detected, effects),
                Detection::IdleClose(client) => self.count_idle_close(at, client, effects),
                Detection::Nothing => {}
            },
        }
    }

    fn count_idle_close(&self, at: Stamp, client: Cookie, effects: &mut Vec<Effect>) {
        let server = self.world.route(client, at).and_then(|route| route.container);
        let server = server.filter(|server| {
            let client = self.world.container_of_endpoint(client);
            self.context().any_in_scope([client.as_ref(), Some(server)])
        });
        if let Some(container) = server.and_then(|id| self.world.containers.get(&id)) {
            let server = container.info.service_label().to_owned();
            effects.push(Effect::Count(Counter::IdleClose { server }));
        }
    }

    fn passed(&mut self, at: Stamp, cases: impl IntoIterator<Item = CaseId>) {
        for id in cases {
            if self.cases.get(id).is_some_and(|case| case.passed.is_none()) {
                self.change_case(id, |case| case.passed = Some(at));
            }
            self.touched.add(id);
        }
    }

    fn detected(&mut self, at: Stamp, detected: Detected, effects: &mut Vec<Effect>) {
        if self.world.is_proxy_leg(detected.client) {
            // docker-proxy's own connection is no entry: its client receives what follows.
            return;
        }
        if let Some(known) = self.failures.of_client(detected.client) {
            // A reset after the FIN changes the class; everything else was reported with the first symptom.
            if known.symptom == Symptom::Fin && detected.symptom == Symptom::ResetAfterFin {
                let id = known.id;
                self.reset_after_fin(at, id, detected, effects);
            }
            return;
        }
        let given_up = detected.symptom == Symptom::SynUnanswered;
        if given_up && happy_eyeballs::has_won_elsewhere(&self.world, at, detected.client) {
            return;
        }
        let Some(new) = record::connection(&self.world, at, detected, &self.settings.policy) else { return };
        let id = self.failures.add(new);
        self.attribute(id, effects);
        self.count_if_cancelled(id, effects);
    }

    /// A client that closed first, or whose own process ended, is counted whether it is reported or not.
    fn count_if_cancelled(&self, id: FailureId, effects: &mut Vec<Effect>) {
        let Some(failure) = self.failures.get(id) else { return };
        let case = failure.case.and_then(|case| self.cases.get(case)).filter(|_| !failure.foreign);
        if case.is_some_and(|case| matches!(case.key, CaseKey::Client { .. })) {
            let client = self.client_label(failure);
            let server = retry_policy::service_label(&self.world, failure.route.container.as_ref());
            effects.push(Effect::Count(Counter::ClientCancelled { client, server }));
        }
    }

    fn client_label(&self, failure: &Failure) -> String {
        retry_policy::client_label(&self.world, failure.route.client, failure.client_container.as_ref())
    }

    fn reset_after_fin(&mut self, at: Stamp, id: FailureId, detected: Detected, effects: &mut Vec<Effect>) {
        let Some(endpoint) = self.world.sockets.get(detected.client) else { return };
        let Some(failure) = self.failures.get(id) else { return };
        let client = self.client_label(failure);
        let server = retry_policy::service_label(&self.world, failure.route.container.as_ref());
        let error = record::socket_error(endpoint, detected, (&client, &server), &self.settings.policy);
        // A client that has sent its request reads the end of the stream, whatever comes behind it.
        let met = if error.detail == Some(Detail::ResetAfterFin) { at } else { failure.at() };
        // The class is counted with the case, so the failure leaves before its class changes.
        binding::unbind(&mut self.failures, &mut self.cases, id);
        self.failures.change(id, |failure| {
            failure.symptom = detected.symptom;
            failure.entry.at = Utc(met);
            failure.entry.client_error = error;
        });
        self.attribute(id, effects);
    }

    /// Attributes a failure to its cause and binds it to the case.
    fn attribute(&mut self, id: FailureId, effects: &mut Vec<Effect>) {
        let Some(failure) = self.failures.get(id) else { return };
        let attributed = causes::attribute(self.context(), failure);
        self.assign(id, attributed, effects);
    }

    /// Explains an attribution and binds the failure to its case.
    fn assign(&mut self, id: FailureId, attributed: (Option<Row>, Attribution), effects: &mut Vec<Effect>) {
        let Some(failure) = self.failures.get(id) else { return };
        let (row, Attribution { outcome, reason }) = attributed;
        let (at, begun) = (failure.at(), failure.begun);
        let (client, server) = (self.client_label(failure), failure.route.address);
        let (symptom, row) = (failure.symptom.name(), row.map(Row::name));
        effects.push(Effect::Explained(Explanation { at, client, server, symptom, row, reason }));
        match outcome {
            Outcome::Case { key, evidence } => {
                // The failure's own instant opens the case, not the cause's: an incident that follows a closed one with
                // the same cause has another id.
                let case = self.open_case(key, at, begun);
                if let Some(pid) = evidence.worker() {
                    self.add_worker(case, pid);
                }
                if let Evidence::Upstream { failure: upstream, .. } = evidence {
                    self.name_upstream(id, upstream);
                }
                let foreign = self.failures.get(id).is_some_and(|found| self.context().is_foreign(found, &evidence));
                self.failures.change(id, |failure| (failure.evidence, failure.foreign) = (evidence, foreign));
                if binding::bind(&mut self.failures, &mut self.cases, id, case, self.world.now) {
                    self.stats.pending.schedule(&mut self.timers, self.world.now, id);
                }
                self.touched.add(case);
            }
            Outcome::Pending { exit_of, until } => {
                self.failures.change(id, |failure| failure.evidence = Evidence::None);
                self.pending.exits.entry(exit_of).or_default().push(id);
                self.timers.set(Timer::ExitOverdue(exit_of), Some(until));
            }
            Outcome::Ignored => self.failures.change(id, |failure| failure.evidence = Evidence::None),
        }
    }

    /// The entry names the upstream server, and the live server as what is between.
    fn name_upstream(&mut self, id: FailureId, upstream: FailureId) {
        let Some(server) = self.failures.get(upstream).map(|upstream| upstream.entry.server.clone()) else { return };
        self.failures.change(id, |failure| {
            let between = std::mem::replace(&mut failure.entry.server, server);
            if failure.entry.via.as_ref().is_some_and(|via| via.container.is_some()) {
                // Attributed again: what is between is known, only the upstream server may be another.
                return;
            }
            failure.entry.via = Some(Hop {
                pid: between.pid,
                comm: between.comm,
                container: between.container,
                listen: Some(failure.route.address.to_string()),
            });
        });
    }

    /// The case of a key: the open one, unless the gap since its last fact is too long. `begun`: the start of what failed.
    fn open_case(&mut self, key: CaseKey, opened: Stamp, begun: Stamp) -> CaseId {
        if let CaseKey::Termination(id) = &key
            && let Some(termination) = self.world.terminations.get(*id)
            && let Some(case) = termination::case_of(&self.world, &self.cases, termination)
        {
            return case;
        }
        let cause = causes::of(&key);
        if let Some(known) = self.cases.of_key(&key).and_then(|id| self.cases.get(id)) {
            // By the facts' own instants: on a loaded host one fact arrives later than the next.
            let too_long = cause.max_gap().is_some_and(|gap| opened.since(known.latest) >= gap);
            // A lasting condition joins what it breaks, however late.
            if !too_long || !causes::judge(self.context(), known).is_over() {
                return known.id;
            }
            self.cases.release(&key);
        }
        let container = cause.subject(&self.world, &key).and_then(|id| self.world.containers.get(id));
        // As it was before what ends it began.
        let begun_by = if let CaseKey::Termination(id) = &key { self.world.terminations.get(*id) } else { None };
        let from = begun_by.map_or(opened, |termination| termination.since());
        let health = container.and_then(|container| container.health_before(from)).map(str::to_owned);
        let losses = self.world.losses_since(cause.evidence_since(self.context(), &key, opened, begun));
        let id = self.cases.add(key.clone(), opened, self.world.now, health);
        if let Some(case) = self.cases.get_mut(id) {
            case.losses = losses;
            if let CaseKey::Termination(termination) = key {
                case.terminations.push(termination);
            }
        }
        id
    }

    fn change_case(&mut self, id: CaseId, change: impl FnOnce(&mut Case)) {
        if let Some(case) = self.cases.get_mut(id) {
            change(case);
            case.dirty = true;
        }
        self.touched.add(id);
    }

    fn add_worker(&mut self, id: CaseId, pid: Pid) {
        let now = self.world.now;
        let exit = self.world.processes.get(pid).and_then(|process| process.exit.as_ref()).map(|exit| exit.at);
        if self.cases.get(id).is_some_and(|case| !case.workers.contains(&pid)) {
            self.change_case(id, |case| {
                case.workers.push(pid);
                case.last_fact = now;
                case.latest = case.latest.max(exit.unwrap_or(now));
            });
        }
        self.touched.add(id);
    }

    fn terminated(&mut self, id: TerminationId, effects: &mut Vec<Effect>) {
        let now = self.world.now;
        if let Some(root) = worker::root_of(&self.world, id) {
            self.world.terminations.set_root(id, root);
        }
        let case = match termination::opening(&self.world, &self.cases, id) {
            termination::Opening::Joins(case, key) => {
                let is_worker = self.cases.get(case).is_some_and(|case| matches!(case.key, CaseKey::Workers { .. }));
                if is_worker {
                    self.cases.replace_key(case, key);
                    binding::name_servers(&mut self.failures, &self.world, &self.cases, case);
                } else {
                    self.cases.add_key(case, key);
                }
                Some(case)
            }
            termination::Opening::Opens(key) => {
                let opened = self.world.terminations.get(id).map_or(now, |termination| termination.since());
                Some(self.open_case(key, opened, opened))
            }
            termination::Opening::Silent => None,
        };
        if let Some(case) = case {
            self.change_case(case, |case| {
                if !case.terminations.contains(&id) {
                    case.terminations.push(id);
                }
                case.last_fact = now;
            });
        }
        if let Some(container) = self.world.terminations.get(id).map(|termination| termination.container.clone()) {
            self.timers.set(Timer::RecoverySweep, Some(now.plus(RECOVERY_SWEEP)));
            self.container_changed(&container, effects);
        }
    }

    /// An exit that failures waited for was observed, or is overdue.
    pub(in crate::engine) fn exit_known(&mut self, pid: Pid, effects: &mut Vec<Effect>) {
        self.timers.set(Timer::ExitOverdue(pid), None);
        for id in self.pending.exits.remove(&pid).unwrap_or_default() {
            self.attribute(id, effects);
        }
    }

    /// A fact about a container arrived: its cases are revised, and failures that were attributed to a live process, or to
    /// nothing known, are attributed again.
    fn container_changed(&mut self, container: &ContainerId, effects: &mut Vec<Effect>) {
        let ctx = self.context();
        let about = |case: &Case| {
            dns::concerns(ctx, case, container)
                || causes::of(&case.key).subject(ctx.world, &case.key) == Some(container)
        };
        let ids: Vec<CaseId> = ctx.cases.open().filter(|case| about(case)).map(|case| case.id).collect();
        self.revise(ids, effects);
    }

    fn cases_changed(&mut self, about: impl Fn(&Case) -> bool, effects: &mut Vec<Effect>) {
        let ids: Vec<CaseId> = self.cases.open().filter(|case| about(case)).map(|case| case.id).collect();
        self.revise(ids, effects);
    }

    fn revise(&mut self, cases: Vec<CaseId>, effects: &mut Vec<Effect>) {
        for id in cases {
            let Some(case) = self.cases.get(id) else { continue };
            if !causes::of(&case.key).is_event() {
                let (key, failures) = (case.key.clone(), case.failures.clone());
                for (_, failure) in failures {
                    self.move_unless(failure, Some(&key), effects);
                }
            }
            self.change_case(id, |_| {});
        }
    }

    /// Attributes a failure again that no event of a container explained.
    fn reconsider(&mut self, id: FailureId, effects: &mut Vec<Effect>) {
        let Some(failure) = self.failures.get(id) else { return };
        let case = failure.case.and_then(|case| self.cases.get(case));
        // A closed incident has been reported for good.
        let is_final = failure.case.is_some() && case.is_none_or(|case| causes::of(&case.key).is_event());
        if !is_final {
            let key = case.map(|case| case.key.clone());
            self.move_unless(id, key.as_ref(), effects);
        }
    }

    /// Attributes a failure again, and moves it if its case is no longer that of `key`.
    fn move_unless(&mut self, id: FailureId, key: Option<&CaseKey>, effects: &mut Vec<Effect>) {
        let Some(failure) = self.failures.get(id) else { return };
        let attributed = causes::attribute(self.context(), failure);
        if let Outcome::Case { key: other, .. } = &attributed.1.outcome
            && Some(other) != key
        {
            self.assign(id, attributed, effects);
        }
    }

    fn recovered(&mut self, at: Stamp, id: TerminationId) {
        self.world.recovered(at, id);
        let termination = self.world.terminations.get(id);
        let case = termination.and_then(|it| termination::case_of(&self.world, &self.cases, it));
        if let Some(case) = case {
            let now = self.world.now;
            self.change_case(case, |case| {
                if case.state() == Some(State::Open) {
                    case.last_fact = now;
                }
            });
        }
    }

    /// Containers without ports are back when they have run long enough.
    pub(in crate::engine) fn sweep_recoveries(&mut self) {
        let now = self.world.now;
        for (id, at) in recovery::running(&self.world, now) {
            self.recovered(at, id);
        }
        let more = self.world.terminations.down().next().is_some();
        self.timers.set(Timer::RecoverySweep, more.then(|| now.plus(RECOVERY_SWEEP)));
    }

    pub(in crate::engine) fn lookup_changed(&mut self, change: LookupChange, effects: &mut Vec<Effect>) {
        let now = self.world.now;
        let Self { world, failures, cases, pending: Pending { lookups, .. }, settings, .. } = self;
        match change {
            LookupChange::Begun(id) => self.timers.set(Timer::LookupOverdue(id), Some(now.plus(PATIENCE))),
            LookupChange::Closed(id) => self.timers.set(Timer::LookupOverdue(id), Some(now.plus(CONTINUES_WITHIN))),
            LookupChange::Resumed(id) => {
                let begun = world.lookups.get(id).map(|lookup| lookup.begun);
                let due = begun.map_or(now, |begun| begun.plus(PATIENCE).max(now));
                self.timers.set(Timer::LookupOverdue(id), Some(due));
                lookups.continues(failures, cases, id).into_iter().for_each(|case| self.touched.add(case));
            }
            LookupChange::Resolved(id) => {
                self.timers.set(Timer::LookupOverdue(id), None);
                lookups.continues(failures, cases, id).into_iter().for_each(|case| self.touched.add(case));
                lookups.succeeded(failures, id);
            }
            LookupChange::Failed(id) => {
                self.timers.set(Timer::LookupOverdue(id), None);
                if let Some(failure) = lookups.failed(world, &settings.policy, failures, cases, id) {
                    self.attribute(failure, effects);
                }
            }
        }
    }

    /// A name resolves differently: cases about it, and about its containers, show that.
    fn name_changed(&mut self, name: &str) {
        let ctx = self.context();
        let holders = ctx.world.names.holders(name);
        let about = |case: &&Case| {
            let container = causes::of(&case.key).subject(ctx.world, &case.key);
            let held = container.is_some_and(|id| holders.iter().any(|holder| holder.container == *id));
            held || ctx.names_of(case).contains(&name)
        };
        for id in ctx.cases.open().filter(about).map(|case| case.id).collect::<Vec<_>>() {
            self.change_case(id, |_| {});
        }
    }
}
