//! From cases to effects: when a case is told, with what, and when it goes.

use crate::model::event::ContainerInfo;
use crate::model::incident::{Incident, MomentFact, Phase, State};

use crate::engine::Engine;
use crate::engine::effect::Effect;
use crate::engine::failures::table::Break;
use crate::engine::incidents::case::{Case, CaseId};
use crate::engine::incidents::lifecycle::{self, Facts, Follows, Step};
use crate::engine::incidents::passage::PASSES_FOR;
use crate::engine::report::verdict;
use crate::engine::timers::Timer;
use crate::engine::types::cause::{CaseKey, Lost};
use crate::engine::world::network::outages::OutageId;
use crate::engine::world::network::reachability::Unanswered;
use crate::engine::world::tcp::endpoint::{Endpoint, Side};
use crate::engine::world::tcp::http_state::{Progress, progress};
use crate::model::scope;

impl Engine {
    /// Does what is due for a case now, and sets its next timer.
    pub(in crate::engine) fn advance(&mut self, id: CaseId, effects: &mut Vec<Effect>) {
        loop {
            let now = self.world.now;
            let Some(case) = self.cases.get(id) else { return };
            let facts = self.facts(case);
            match lifecycle::next(case, facts, now) {
                Step::Wait(at) => {
                    self.timers.set(Timer::Case(id), Some(at));
                    break;
                }
                Step::Tell(state) => {
                    if !self.tell(id, state, effects) {
                        return;
                    }
                }
                Step::Drop => return self.forget(id),
                Step::Withdraw => return self.withdraw(id, effects),
            }
        }
        self.listen(id, effects);
        if let Some(oldest) = self.cases.overflow() {
            self.close(oldest, effects);
        }
    }

    /// Returns whether the case lives on.
    fn tell(&mut self, id: CaseId, state: State, effects: &mut Vec<Effect>) -> bool {
        let now = self.world.now;
        self.gather(id);
        let Some(case) = self.cases.get(id) else { return false };
        // The incident behind it is told first, so that a reader knows its id.
        if let Some(behind) =
            self.sheet().behind(case).filter(|behind| behind.told.is_none() && self.facts(behind).worth)
        {
            let behind = behind.id;
            self.tell(behind, State::Open, effects);
        }
        let Some(case) = self.cases.get(id) else { return false };
        let draft = self.sheet().draft(case, state);
        let because = draft.cause.because.clone();
        let same = case.told.as_ref().is_some_and(|told| is_same(told, &draft));
        let Some(case) = self.cases.get_mut(id) else { return false };
        case.dirty = false;
        // Stays when that incident is closed and gone.
        case.because = because;
        if !same {
            case.told_at = now;
            case.told = Some(draft.clone());
            effects.push(Effect::Incident(Box::new(draft)));
        }
        match state {
            State::Settled | State::Closed => self.count_case(id, effects),
            State::Open | State::Withdrawn => {}
        }
        if state == State::Closed {
            self.forget(id);
            return false;
        }
        true
    }

    fn withdraw(&mut self, id: CaseId, effects: &mut Vec<Effect>) {
        // Where its broken connections went says what it turned out to be part of. The other one is told first, so that
        // a reader knows its id.
        let target = self.cases.get(id).and_then(|case| case.moved_to);
        let untold = |case: &Case| case.told.is_none() && self.facts(case).worth;
        if let Some(target) = target.filter(|target| self.cases.get(*target).is_some_and(untold)) {
            self.tell(target, State::Open, effects);
        }
        let Some(case) = self.cases.get(id) else { return };
        let mut draft = self.sheet().draft(case, State::Withdrawn);
        let target = target.and_then(|target| self.cases.get(target)).and_then(|target| target.told.as_ref());
        draft.merged_into = target.map(|told| told.id.clone());
        effects.push(Effect::Incident(Box::new(draft)));
        self.forget(id);
    }

    fn close(&mut self, id: CaseId, effects: &mut Vec<Effect>) {
        let told = self.cases.get(id).is_some_and(|case| case.told.is_some() || self.facts(case).worth);
        if told {
            self.tell(id, State::Closed, effects);
        } else {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: CaseId) {
        self.timers.set(Timer::Case(id), None);
        self.timers.set(Timer::Logs(id), None);
        self.cases.remove(id);
    }

    /// The run ends: what is worth telling is closed.
    pub(in crate::engine) fn shut_down(&mut self, effects: &mut Vec<Effect>) {
        for id in self.cases.open().map(|case| case.id).collect::<Vec<_>>() {
            self.close(id, effects);
        }
    }

    fn facts(&self, case: &Case) -> Facts {
        let sheet = self.sheet();
        let verdict = verdict::of(&sheet, case);
        let cancelled = matches!(case.key, CaseKey::Client(..)) && self.settings.include_cancelled;
        let worth = case.hurts() || verdict.stands_alone || (cancelled && !case.breaks.is_empty());
        let last = case.terminations.last().and_then(|id| self.world.terminations.get(*id));
        Facts {
            worth: worth && self.in_scope(case, verdict.container.as_ref()),
            follows: if sheet.breaks_of(case).any(is_a_look_up) {
                Follows::Answers
            } else if verdict.fact == MomentFact::ProcessExit {
                Follows::Nothing
            } else {
                Follows::Packets
            },
            die_missing: last.is_some_and(|termination| termination.exit.is_some() && termination.die.is_none()),
            waiting: self.is_awaited(case, verdict.container.as_ref()),
            over: sheet.is_over(case),
            joins_until: match (case.passed, case.key.gap()) {
                (Some(passed), _) => passed.plus(PASSES_FOR),
                (None, Some(gap)) => case.last_fact.plus(gap),
                (None, None) => case.last_fact,
            },
        }
    }

    fn in_scope(&self, case: &Case, subject: Option<&crate::model::ids::ContainerId>) -> bool {
        let limits = &self.settings.scope;
        if !scope::is_limited(limits) {
            return true;
        }
        let inside = |info: &ContainerInfo| scope::contains(limits, info);
        let known = |id| self.world.containers.get(id).is_some_and(|container| inside(&container.info));
        if subject.is_some_and(known) {
            return true;
        }
        self.sheet().breaks_of(case).any(|found| {
            let ends = [found.client_container.as_ref(), found.route.container.as_ref()];
            ends.into_iter().flatten().any(known)
        })
    }

    /// Does anybody still wait for the subject: a SYN, a look-up, or a request without an answer?
    fn is_awaited(&self, case: &Case, subject: Option<&crate::model::ids::ContainerId>) -> bool {
        let whole = match case.key {
            CaseKey::Termination(_) => {
                let last = case.terminations.last().and_then(|id| self.world.terminations.get(*id));
                if last.is_some_and(|termination| termination.down().is_none()) {
                    // It is still going down.
                    return true;
                }
                last.is_some_and(|termination| termination.recovered.is_none())
            }
            CaseKey::Paused(..) | CaseKey::Filtered(..) => !self.sheet().is_over(case),
            CaseKey::Backlog(_) => true,
            CaseKey::Outage(id) => return !self.sheet().is_over(case) && self.is_cut_off(id),
            CaseKey::NameGone(ref lost, _) => return self.is_name_awaited(lost),
            CaseKey::Workers(..)
            | CaseKey::NotListening(..)
            | CaseKey::Backend(..)
            | CaseKey::Process(..)
            | CaseKey::Client(..) => false,
        };
        let Some(subject) = subject.filter(|_| whole) else { return false };
        if self.is_name_awaited(&Lost::Container(subject.clone())) {
            return true;
        }
        self.waiting_clients().any(|end| {
            let route = self.world.route(end.socket.cookie, end.opened);
            route.and_then(|route| route.container).as_ref() == Some(subject)
        })
    }

    /// Clients with a SYN, or a request, that nobody has answered.
    fn waiting_clients(&self) -> impl Iterator<Item = &Endpoint> {
        self.world.sockets.open().filter(|end| end.side == Side::Client && !end.is_over()).filter(|end| {
            let connecting = end.established.is_none();
            let owed =
                matches!(progress(end, self.world.sockets.peer(end.socket.cookie)), Progress::Outstanding { .. });
            (connecting || owed) && self.breaks.of_client(end.socket.cookie).is_none()
        })
    }

    /// Does anybody wait because of this outage?
    fn is_cut_off(&self, outage: OutageId) -> bool {
        self.waiting_clients().any(|end| {
            let client = self.world.containers.of_socket(&end.socket, end.opened);
            let route = self.world.route(end.socket.cookie, end.opened);
            let server = route.and_then(|route| Some((route.container?, route.address.ip())));
            let ends: Vec<_> = server.into_iter().chain(client.map(|id| (id, end.socket.local.ip()))).collect();
            let begun = end.http.begun_at.unwrap_or(end.opened);
            let asked = Unanswered { begun, at: self.world.now, received: end.last_received };
            self.world.outage_between(&ends, asked).is_some_and(|found| found.id == outage)
        })
    }
}

impl Engine {
    /// Does a look-up of it wait for its answer?
    fn is_name_awaited(&self, lost: &Lost) -> bool {
        self.world.lookups.open().any(|lookup| match lost {
            Lost::Container(id) => {
                let observer = self.world.containers.of_socket(&lookup.socket, lookup.begun);
                observer.is_some_and(|observer| self.world.names.can_mean(&observer, lookup.name(), id))
            }
            Lost::Name(name) => lookup.name() == name,
        })
    }
}

/// Does a draft say what was told already?
fn is_same(told: &Incident, draft: &Incident) -> bool {
    let as_told = Incident { revision: told.revision, ..draft.clone() };
    as_told == *told
}

fn is_a_look_up(found: &Break) -> bool {
    found.entry.client_error.phase == Phase::Resolving
}
