//! From what changed to cases: asks the rules, binds broken connections to cases, and moves them when a later fact
//! puts them down to something else.

use crate::model::ids::{ContainerId, Pid};
use crate::model::incident::{Hop, HttpxClass};
use crate::model::time::{Nanos, Stamp, Utc};

use crate::engine::causes::attribution::{Blame, failed_before_its_end, judge};
use crate::engine::causes::deaths::{self, Death};
use crate::engine::causes::exit;
use crate::engine::effect::{Counted, Effect};
use crate::engine::failures::detect::{self, Broken, Found};
use crate::engine::failures::table::{BreakId, Hindrance, Symptom};
use crate::engine::failures::{record, retry_policy};
use crate::engine::incidents::case::{Case, CaseId};
use crate::engine::incidents::recovery;
use crate::engine::report::incident::Sheet;
use crate::engine::timers::Timer;
use crate::engine::types::cause::{CaseKey, Lost};
use crate::engine::world::Change;
use crate::engine::world::tcp::sockets::Change as SocketChange;
use crate::engine::world::terminations::TerminationId;
use crate::engine::{Engine, ROUND};

/// How long a loss of events casts doubt on what is seen after it.
const LOSS_SHADOW: Nanos = Nanos::from_secs(1);

impl Engine {
    pub(in crate::engine) fn react(&mut self, at: Stamp, change: &Change, effects: &mut Vec<Effect>) {
        match change {
            Change::Socket(SocketChange::Connected { client }) => {
                self.made_up_for(at, *client, effects);
                self.connected(at, *client, effects);
            }
            Change::Socket(SocketChange::Arrived { server }) => self.arrived(at, *server, effects),
            Change::PacketDropped { netns, source, destination } => {
                self.hindered(*netns, *source, *destination, effects)
            }
            Change::AcceptQueueFull(netns) => {
                if let Some(container) = self.world.containers.owner_of_netns(*netns, at) {
                    self.news_of(&container, effects);
                }
            }
            Change::Socket(change) => match detect::look(&self.world, at, change) {
                Found::Broken(broken) => self.broke(at, broken, effects),
                Found::IdleClose(client) => {
                    let server = self.world.route(client, at).and_then(|route| route.container);
                    if let Some(container) = server.and_then(|id| self.world.containers.get(&id)) {
                        let server = container.service_or_name().to_owned();
                        effects.push(Effect::Counted(Counted::IdleClose { server }));
                    }
                }
                Found::Nothing => {}
            },
            Change::Lookup(change) => self.looked_up(*change, effects),
            Change::DnsChanged(name) => self.name_said(name, effects),
            Change::Listening { container, .. } => {
                for termination in recovery::listening(&self.world, container) {
                    self.recovered(at, termination, effects);
                }
                self.news_of(container, effects);
            }
            Change::Termination(id) => self.termination(*id, effects),
            Change::WorkerExited(pid) => {
                if let Death::Opens(key) = deaths::of_worker(&self.world, *pid) {
                    let case = self.open_case(key, at, at);
                    self.add_worker(case, *pid);
                    self.advance(case, effects);
                }
            }
            Change::Exited(pid) => {
                self.look_at_core(*pid, effects);
                self.exit_known(*pid, effects);
            }
            Change::Logged(container, line) => self.join_line(container, line),
            Change::LogsUnread(unread) => self.unread(unread, effects),
            Change::Signalled(pid) | Change::OomMarked(pid) => {
                self.look_at_memory(*pid, change, effects);
                self.look_at_core(*pid, effects);
                if let Some(container) = self.world.container_of(*pid) {
                    self.news_of(&container, effects);
                }
            }
            Change::Outage(id) => {
                let container = self.world.interfaces.outages.get(*id).and_then(|outage| outage.container.clone());
                match container {
                    Some(container) => self.news_of(&container, effects),
                    // Whoever is behind a bridge: what nothing explained may be explained now.
                    None => {
                        self.news(|case, _| case.key == CaseKey::Outage(*id) || !case.key.names_an_event(), effects);
                    }
                }
            }
            Change::Docker(container) => {
                self.news_of(container, effects);
            }
            Change::Lost { stage, count } => {
                effects.push(Effect::Counted(Counted::Lost { stage: stage.clone(), count: *count }));
                for id in self.cases.open().map(|case| case.id).collect::<Vec<_>>() {
                    if let Some(case) = self.cases.get_mut(id) {
                        let lost = case.losses.entry(stage.clone()).or_default();
                        *lost = (at, lost.1 + count);
                        case.dirty = true;
                    }
                    self.advance(id, effects);
                }
            }
            Change::Shutdown => self.shut_down(effects),
        }
    }

    fn broke(&mut self, at: Stamp, found: Broken, effects: &mut Vec<Effect>) {
        if self.world.is_proxy_leg(found.client) {
            // The proxy's own leg is none: its client's end gets what follows.
            return;
        }
        let known = self.breaks.of_client(found.client).map(|known| (known.id, known.symptom));
        if let Some((id, before)) = known {
            // A reset after the FIN makes it another class; anything else was told by the first.
            if before == Symptom::Fin && found.symptom == Symptom::ResetAfterFin {
                self.worsened(at, id, found, effects);
            }
            return;
        }
        let Some(new) = record::of(&self.world, at, found, &self.settings.policy) else { return };
        let id = self.breaks.add(new);
        self.put_down(id, effects);
        self.count_if_cancelled(id, effects);
    }

    /// A client that left, or whose own process ended: counted, whether it is told or not.
    fn count_if_cancelled(&self, id: BreakId, effects: &mut Vec<Effect>) {
        let Some(found) = self.breaks.get(id) else { return };
        let case = found.case.and_then(|case| self.cases.get(case));
        if case.is_none_or(|case| !matches!(case.key, CaseKey::Client(..))) {
            return;
        }
        let client = retry_policy::caller(&self.world, found.route.client, found.client_container.as_ref());
        let server = retry_policy::client_name(&self.world, found.route.container.as_ref());
        effects.push(Effect::Counted(Counted::ClientCancelled { client, server }));
    }

    fn worsened(&mut self, at: Stamp, id: BreakId, found: Broken, effects: &mut Vec<Effect>) {
        let Some(end) = self.world.sockets.get(found.client) else { return };
        let container = self.breaks.get(id).and_then(|known| known.client_container.as_ref());
        let name = retry_policy::caller(&self.world, found.client, container);
        let error = record::error_of(end, found, &name, &self.settings.policy);
        // Its class is counted where it was bound, so it leaves there before the class changes.
        self.unbind(id);
        self.breaks.change(id, |known| {
            known.symptom = found.symptom;
            known.entry.at = Utc(at);
            known.entry.client_error = error;
        });
        self.put_down(id, effects);
    }

    /// Puts a broken connection down to its cause.
    pub(in crate::engine) fn put_down(&mut self, id: BreakId, effects: &mut Vec<Effect>) {
        let Some(found) = self.breaks.get(id) else { return };
        let (blame, reason) = judge(&self.world, &self.breaks, found, self.world.now);
        let client = retry_policy::caller(&self.world, found.route.client, found.client_container.as_ref());
        let text = format!("{client} to {}: {:?}: {reason}", found.route.address, found.symptom);
        effects.push(Effect::Explained { at: found.at(), text });
        let (met, root) = match &blame {
            Blame::Filtered(_, met) => (Some(Hindrance::Filter((**met).clone())), None),
            Blame::Backlog(_, since, seen) => (Some(Hindrance::Queue { since: *since, seen: *seen }), None),
            Blame::OwnLookUp(root) => (None, Some(*root)),
            Blame::Termination(_) | Blame::Worker(_) => (None, failed_before_its_end(&self.breaks, found)),
            Blame::Paused(..)
            | Blame::Outage(_)
            | Blame::NotListening(..)
            | Blame::Backend(..)
            | Blame::NameGone(_)
            | Blame::Process(..)
            | Blame::Client(..)
            | Blame::Chain(..)
            | Blame::Wait(..)
            | Blame::Nothing => (None, None),
        };
        self.breaks.change(id, |found| (found.met, found.root) = (met, root));
        match self.key_of(&blame) {
            Some(key) => {
                // Its own instant opens the case, not the cause's: an incident that comes after a closed one with the same
                // cause has another id.
                let at = self.breaks.get(id).map_or(self.world.now, |found| found.at());
                let begun = self.breaks.get(id).map_or(at, |found| found.begun);
                let case = self.open_case(key, at, begun);
                if let Blame::Worker(pid) = blame {
                    self.add_worker(case, pid);
                }
                if let Blame::Chain(root, alone) = blame {
                    self.chain(id, root, alone);
                }
                self.bind(id, case);
                self.advance(case, effects);
            }
            None => {
                if let Blame::Wait(pid, deadline) = blame {
                    self.waiting.entry(pid).or_default().push(id);
                    self.timers.set(Timer::ExitOverdue(pid), Some(deadline));
                }
            }
        }
    }

    /// The entry names the root's server, and the living server as what stands between. `alone`: no other root is to be
    /// had.
    fn chain(&mut self, id: BreakId, root: BreakId, alone: bool) {
        let Some(server) = self.breaks.get(root).map(|root| root.entry.server.clone()) else { return };
        self.breaks.change(id, |found| {
            found.several_roots = !alone;
            let between = std::mem::replace(&mut found.entry.server, server);
            if found.entry.via.as_ref().is_some_and(|via| via.container.is_some()) {
                // Judged again: what stands between is known, only the root may be another.
                return;
            }
            found.entry.via = Some(Hop {
                pid: between.pid,
                comm: between.comm,
                container: between.container,
                listen: Some(found.route.address.to_string()),
            });
        });
    }

    pub(in crate::engine) fn key_of(&self, blame: &Blame) -> Option<CaseKey> {
        Some(match blame {
            Blame::Termination(id) => CaseKey::Termination(*id),
            Blame::Worker(pid) => {
                let account = exit::of_worker(&self.world, *pid)?;
                deaths::worker_key(&self.world, *pid, &account)
            }
            Blame::Paused(id, since) => CaseKey::Paused(id.clone(), *since),
            Blame::Outage(id) => CaseKey::Outage(*id),
            Blame::NotListening(id, port) => CaseKey::NotListening(id.clone(), *port),
            Blame::Backend(id, port) => CaseKey::Backend(id.clone(), *port),
            Blame::Filtered(id, met) => CaseKey::Filtered(id.clone(), met.filter.clone()),
            Blame::Backlog(id, ..) => CaseKey::Backlog(id.clone()),
            Blame::Process(id, pid, kind) => CaseKey::Process(id.clone(), *pid, *kind),
            Blame::Client(id, pid) => CaseKey::Client(id.clone(), *pid),
            Blame::Chain(root, _) => {
                let case = self.breaks.get(*root).and_then(|root| root.case).and_then(|case| self.cases.get(case))?;
                case.key.clone()
            }
            Blame::NameGone(lost) => CaseKey::NameGone(lost.clone(), None),
            Blame::OwnLookUp(root) => {
                let root = self.breaks.get(*root)?;
                let behind = root.case.and_then(|case| self.cases.get(case)).map(|case| &case.key);
                let lost = match (&root.route.container, &root.name) {
                    (Some(id), _) => Lost::Container(id.clone()),
                    (None, name) => Lost::Name(name.clone()?),
                };
                match behind {
                    // Nothing removed the name: the look-up and what it broke are one.
                    Some(key @ CaseKey::NameGone(_, None)) => key.clone(),
                    Some(_) | None => CaseKey::NameGone(lost, root.client_container.clone()),
                }
            }
            Blame::Wait(..) | Blame::Nothing => return None,
        })
    }

    /// The case of a key: the open one, unless the gap since its last fact is too long. `begun`: when what broke began.
    fn open_case(&mut self, key: CaseKey, opened: Stamp, begun: Stamp) -> CaseId {
        let now = self.world.now;
        if let CaseKey::Termination(id) = &key
            && let Some(termination) = self.world.terminations.get(*id)
            && let Some(case) = deaths::case_of_termination(&self.world, &self.cases, termination)
        {
            return case;
        }
        if let Some(known) = self.cases.of_key(&key).and_then(|id| self.cases.get(id)) {
            // By the facts' own instants: on a loaded host one is learned of later than the next.
            let too_long = key.gap().is_some_and(|gap| opened.since(known.latest) >= gap);
            // What lasts joins what it breaks, however late.
            if !too_long || !self.sheet().is_over(known) {
                return known.id;
            }
            self.cases.release(&key);
        }
        let container = key.container(&self.world).and_then(|id| self.world.containers.get(id));
        let health = container.and_then(|container| container.info.health.clone());
        // A death may have had its signal long before it; what a living process did is read from all that happened since
        // it was asked.
        let losses = self.world.losses_since(match &key {
            CaseKey::Termination(id) => {
                let termination = self.world.terminations.get(*id);
                termination.map_or(opened, |termination| termination.since()).min(opened).minus(exit::HANDLED)
            }
            CaseKey::Workers(..) => opened.minus(exit::HANDLED),
            CaseKey::Paused(_, since) => since.minus(LOSS_SHADOW),
            CaseKey::Outage(id) => {
                let outage = self.world.interfaces.outages.get(*id);
                outage.map_or(opened, |outage| outage.since()).minus(LOSS_SHADOW)
            }
            // Its port may have been opened, and taken along by a death, at any time since it was last seen to close.
            CaseKey::NotListening(id, _) | CaseKey::Backend(id, _) => {
                let container = self.world.containers.get(id);
                let closed = container.and_then(|c| c.listeners_closed.or(c.starts.back().copied()));
                closed.map_or(opened, |closed| closed.min(opened)).minus(LOSS_SHADOW)
            }
            // Nothing that removed the name was seen: it may have been lost at any time since the name was last answered.
            CaseKey::NameGone(lost, None) => {
                let given = |name: &str| self.world.names.last_given(name, opened);
                let last = match lost {
                    Lost::Container(id) => self.world.names.of(id).filter_map(given).max(),
                    Lost::Name(name) => given(name),
                };
                last.unwrap_or_default().minus(LOSS_SHADOW)
            }
            CaseKey::NameGone(_, Some(_))
            | CaseKey::Filtered(..)
            | CaseKey::Backlog(_)
            | CaseKey::Process(..)
            | CaseKey::Client(..) => begun.min(opened).minus(LOSS_SHADOW),
        });
        let id = self.cases.of_key_or_new(key.clone(), opened, now, health);
        if let Some(case) = self.cases.get_mut(id) {
            case.losses = losses;
            if let CaseKey::Termination(termination) = key {
                case.terminations.push(termination);
            }
        }
        id
    }

    fn bind(&mut self, id: BreakId, case: CaseId) {
        let now = self.world.now;
        let Some((at, class, before)) = self.breaks.get(id).map(|b| (b.at(), b.entry.client_error.httpx, b.case))
        else {
            return;
        };
        if before == Some(case) {
            return;
        }
        self.unbind(id);
        let left = self.breaks.get(id).and_then(|found| found.left).filter(|left| *left != case);
        if let Some(left) = left.and_then(|left| self.cases.get_mut(left)) {
            left.moved_to = Some(case);
        }
        self.breaks.change(id, |found| found.case = Some(case));
        if let Some(case) = self.cases.get_mut(case) {
            case.add(at, id, class, now);
            case.last_fact = now;
            case.latest = case.latest.max(at);
            case.dirty = true;
        }
        if class != HttpxClass::None {
            self.await_count(id);
        }
    }

    pub(in crate::engine) fn unbind(&mut self, id: BreakId) {
        let Some(found) = self.breaks.get(id) else { return };
        let (at, class) = (found.at(), found.entry.client_error.httpx);
        if let Some(case) = found.case.and_then(|case| self.cases.get_mut(case)) {
            case.take(at, id, class);
            case.dirty = true;
        }
        self.breaks.change(id, |found| found.left = found.case.take().or(found.left));
    }

    fn add_worker(&mut self, case: CaseId, pid: Pid) {
        let now = self.world.now;
        let exit = self.world.processes.get(pid).and_then(|process| process.exit.as_ref()).map(|exit| exit.at);
        if let Some(case) = self.cases.get_mut(case)
            && !case.workers.contains(&pid)
            && matches!(case.key, CaseKey::Workers(..))
        {
            case.workers.push(pid);
            case.last_fact = now;
            case.latest = case.latest.max(exit.unwrap_or(now));
            case.dirty = true;
        }
    }

    fn termination(&mut self, id: TerminationId, effects: &mut Vec<Effect>) {
        let case = match deaths::of_container(&self.world, &self.cases, id) {
            Death::Joins(case, key) => {
                let worker = self.cases.get(case).is_some_and(|case| matches!(case.key, CaseKey::Workers(..)));
                if worker {
                    self.cases.rename(case, key)
                } else {
                    self.cases.also_known_as(case, key)
                }
                Some(case)
            }
            Death::Opens(key) => {
                let opened = self.world.terminations.get(id).map_or(self.world.now, |termination| termination.since());
                Some(self.open_case(key, opened, opened))
            }
            Death::Silent => None,
        };
        if let Some(found) = case.and_then(|case| self.cases.get_mut(case)) {
            if !found.terminations.contains(&id) {
                found.terminations.push(id);
            }
            found.last_fact = self.world.now;
            found.dirty = true;
        }
        if let Some(container) = self.world.terminations.get(id).map(|termination| termination.container.clone()) {
            self.timers.set(Timer::Round, Some(self.world.now.plus(ROUND)));
            self.news_of(&container, effects);
        }
        if let Some(case) = case {
            self.advance(case, effects);
        }
    }

    /// The exit that broken connections waited for has been told, or will not be.
    pub(in crate::engine) fn exit_known(&mut self, pid: Pid, effects: &mut Vec<Effect>) {
        self.timers.set(Timer::ExitOverdue(pid), None);
        for id in self.waiting.remove(&pid).unwrap_or_default() {
            self.put_down(id, effects);
        }
    }

    /// Something was learned of a container: cases about it are looked at again, and what was put down to a living
    /// process, or to nothing known, is judged anew.
    fn news_of(&mut self, container: &ContainerId, effects: &mut Vec<Effect>) {
        // A client that is off its network finds no name.
        self.news(
            |case, sheet| {
                let holder = matches!(&case.key, CaseKey::NameGone(Lost::Container(id), _) if *id == *container);
                let mut clients = sheet.breaks_of(case).map(|found| found.client_container.as_ref());
                let client = matches!(case.key, CaseKey::NameGone(..)) && clients.any(|id| id == Some(container));
                holder || client || case.key.container(sheet.world) == Some(container)
            },
            effects,
        );
    }

    fn news(&mut self, about: impl Fn(&Case, &Sheet) -> bool, effects: &mut Vec<Effect>) {
        let sheet = self.sheet();
        let open = self.cases.open().filter(|case| about(case, &sheet));
        let open: Vec<(CaseId, bool)> = open.map(|case| (case.id, !case.key.names_an_event())).collect();
        for (id, soft) in open {
            if soft {
                self.judge_again(id, effects);
            }
            if let Some(case) = self.cases.get_mut(id) {
                case.dirty = true;
            }
            self.advance(id, effects);
        }
    }

    fn judge_again(&mut self, id: CaseId, effects: &mut Vec<Effect>) {
        let Some(case) = self.cases.get(id) else { return };
        let (key, breaks) = (case.key.clone(), case.breaks.clone());
        for (_, broken) in breaks {
            let Some(found) = self.breaks.get(broken) else { continue };
            let (blame, _) = judge(&self.world, &self.breaks, found, self.world.now);
            if self.key_of(&blame).is_some_and(|other| other != key) {
                self.put_down(broken, effects);
            }
        }
    }

    fn recovered(&mut self, at: Stamp, termination: TerminationId, effects: &mut Vec<Effect>) {
        self.world.recovered(at, termination);
        let case = self
            .world
            .terminations
            .get(termination)
            .and_then(|d| deaths::case_of_termination(&self.world, &self.cases, d));
        if let Some(case) = case {
            if let Some(case) = self.cases.get_mut(case) {
                case.dirty = true;
                if case.state() == Some(crate::model::incident::State::Open) {
                    case.last_fact = self.world.now;
                }
            }
            self.advance(case, effects);
        }
    }

    pub(in crate::engine) fn look_round(&mut self, effects: &mut Vec<Effect>) {
        let now = self.world.now;
        for (termination, at) in recovery::running(&self.world, now) {
            self.recovered(at, termination, effects);
        }
        let more = self.world.terminations.down().next().is_some();
        self.timers.set(Timer::Round, more.then(|| now.plus(ROUND)));
    }
}
