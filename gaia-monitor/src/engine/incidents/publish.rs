//! From cases to effects: what each case that changed in a step amounts to now, and the revisions that follow from it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::causes::{self, packet_filter, termination};
use crate::engine::effect::Effect;
use crate::engine::failures::happy_eyeballs;
use crate::engine::report::{incident, log_lines};
use crate::engine::timers::Timer;
use crate::engine::types::ids::CaseId;
use crate::engine::types::verdict::Judgement;
use crate::model::incident::{Incident, MomentFact, State};

use super::case::Case;
use super::enrich;
use super::lifecycle::{self, Follows, NextStep, Outlook};

/// Cases that changed in this step, in order, each once.
#[derive(Debug, Default)]
pub struct Touched {
    order: VecDeque<CaseId>,
    known: BTreeSet<CaseId>,
}

impl Touched {
    pub fn add(&mut self, id: CaseId) {
        if self.known.insert(id) {
            self.order.push_back(id);
        }
    }

    fn next(&mut self) -> Option<CaseId> {
        let id = self.order.pop_front()?;
        self.known.remove(&id);
        Some(id)
    }
}

/// Judgements of this step. Nothing that they depend on changes while cases are published.
#[derive(Default)]
struct Judgements(BTreeMap<CaseId, Arc<Judgement>>);

impl Judgements {
    fn of(&mut self, engine: &Engine, id: CaseId) -> Option<Arc<Judgement>> {
        let case = engine.cases.get(id)?;
        let judge = || Arc::new(causes::judge(engine.context(), case));
        Some(self.0.entry(id).or_insert_with(judge).clone())
    }
}

impl Engine {
    /// Publishes what follows from the changes of this step, and sets the next timer of each case.
    pub(in crate::engine) fn publish(&mut self, effects: &mut Vec<Effect>) {
        let mut judgements = Judgements::default();
        while let Some(id) = self.touched.next() {
            self.advance(id, &mut judgements, effects);
        }
    }

    fn advance(&mut self, id: CaseId, judgements: &mut Judgements, effects: &mut Vec<Effect>) {
        let now = self.world.now;
        let Some(judgement) = judgements.of(self, id) else { return };
        loop {
            let Some(case) = self.cases.get(id) else { return };
            match lifecycle::next(case, &judgement, self.outlook(case, &judgement), now) {
                NextStep::Wait(at) => {
                    self.timers.set(Timer::Case(id), Some(at));
                    break;
                }
                NextStep::Publish(state) => {
                    self.publish_revision(id, state, judgements, effects);
                    if state == State::Closed {
                        return;
                    }
                }
                NextStep::Drop => return self.forget(id),
                NextStep::Withdraw => return self.withdraw(id, judgements, effects),
            }
        }
        self.request_logs(id, &judgement, effects);
        if let Some(oldest) = self.cases.overflow() {
            self.close(oldest, judgements, effects);
        }
    }

    fn outlook(&self, case: &Case, judgement: &Judgement) -> Outlook {
        let last = case.terminations.last().and_then(|id| self.world.terminations.get(*id));
        let has_lookups = self.context().failures_of(case).any(|failure| failure.is_lookup());
        let unpublished = case.published.is_none();
        let mut errors = self.context().failures_of(case).filter(|failure| failure.is_error()).peekable();
        let tries_on = unpublished
            && errors.peek().is_some()
            && errors.all(|failure| happy_eyeballs::may_be_made_good(self.context(), failure));
        let follows = match judgement.verdict.fact {
            _ if tries_on => Follows::OtherAddress,
            _ if has_lookups => Follows::DnsResponses,
            MomentFact::ProcessExit => Follows::Nothing,
            _ => Follows::Packets,
        };
        let gap = causes::of(&case.key).max_gap();
        Outlook {
            follows,
            die_missing: last.is_some_and(|last| last.exit.is_some() && last.die.is_none()),
            joins_until: match case.passed {
                Some(passed) => passed.plus(packet_filter::PASSES_FOR),
                None => case.last_fact.plus(gap.unwrap_or_default()),
            },
        }
    }

    fn publish_revision(&mut self, id: CaseId, state: State, judgements: &mut Judgements, effects: &mut Vec<Effect>) {
        let Some(judgement) = judgements.of(self, id) else { return };
        self.collect_log_lines(id, &judgement);
        let Some(case) = self.cases.get(id) else { return };
        // The incident behind it is published first, so that a reader knows its id.
        let behind = termination::behind(self.context(), case, &judgement.verdict);
        if let Some(behind) = behind.filter(|behind| behind.published.is_none()).map(|behind| behind.id)
            && judgements.of(self, behind).is_some_and(|judgement| judgement.reportable)
        {
            self.publish_revision(behind, State::Open, judgements, effects);
        }
        let Some(case) = self.cases.get(id) else { return };
        let revision = incident::revision(self.context(), case, state, &judgement);
        let caused_by = revision.cause.caused_by.clone();
        let is_same = case.published.as_ref().is_some_and(|published| is_same(published, &revision));
        let now = self.world.now;
        if revision.revision == 1 {
            self.cases.record_published(&revision.id);
        }
        if let Some(case) = self.cases.get_mut(id) {
            case.dirty = false;
            // Stays when that incident is closed and removed.
            case.caused_by = caused_by;
            if !is_same {
                case.published_at = now;
                case.published = Some(revision.clone());
                self.stories.published(id, &revision.id);
                effects.push(Effect::Incident(Box::new(revision)));
            }
        }
        match state {
            State::Settled | State::Closed => {
                let (ctx, uncounted, timers) = self.counting();
                uncounted.count_case(ctx, timers, id, effects);
            }
            State::Open | State::Withdrawn => {}
        }
        if state == State::Closed {
            self.forget(id);
        }
    }

    fn withdraw(&mut self, id: CaseId, judgements: &mut Judgements, effects: &mut Vec<Effect>) {
        // The case that its failures moved to is what it turned out to be part of. That one is published first, so that a
        // reader knows its id.
        let target = self.cases.get(id).and_then(|case| case.moved_to);
        if let Some(target) = target
            && self.cases.get(target).is_some_and(|case| case.published.is_none())
            && judgements.of(self, target).is_some_and(|judgement| judgement.reportable)
        {
            self.publish_revision(target, State::Open, judgements, effects);
        }
        let Some(judgement) = judgements.of(self, id) else { return };
        let Some(case) = self.cases.get(id) else { return };
        let mut revision = incident::revision(self.context(), case, State::Withdrawn, &judgement);
        let target = target.and_then(|target| self.cases.get(target)).and_then(|case| case.published.as_ref());
        revision.merged_into = target.map(|published| published.id.clone());
        effects.push(Effect::Incident(Box::new(revision)));
        self.forget(id);
    }

    fn close(&mut self, id: CaseId, judgements: &mut Judgements, effects: &mut Vec<Effect>) {
        let is_published = self.cases.get(id).is_some_and(|case| case.published.is_some());
        if is_published || judgements.of(self, id).is_some_and(|judgement| judgement.reportable) {
            self.publish_revision(id, State::Closed, judgements, effects);
        } else {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: CaseId) {
        self.timers.set(Timer::Case(id), None);
        self.timers.set(Timer::Logs(id), None);
        self.cases.remove(id);
    }

    /// The run ends: every reportable case is closed.
    pub(in crate::engine) fn shut_down(&mut self, effects: &mut Vec<Effect>) {
        let mut judgements = Judgements::default();
        for id in self.cases.open().map(|case| case.id).collect::<Vec<_>>() {
            self.close(id, &mut judgements, effects);
        }
    }

    /// Requests the logs of a published case: immediately, whenever Docker's `die` arrives, and later for the rest.
    fn request_logs(&mut self, id: CaseId, judgement: &Judgement, effects: &mut Vec<Effect>) {
        let Some(case) = self.cases.get(id) else { return };
        let Some(plan) = enrich::plan(self.context(), case) else { return };
        if plan.now {
            let request = enrich::log_request(self.context(), case, judgement);
            effects.extend(request.map(Effect::Enrich));
            let now = self.world.now;
            if let Some(case) = self.cases.get_mut(id) {
                case.log_requests.made(now, plan.dies);
            }
        }
        if let Some(due) = plan.again {
            self.timers.set(Timer::Logs(id), Some(due));
        }
    }

    /// The time for the later request has come.
    pub(in crate::engine) fn request_logs_again(&mut self, id: CaseId, effects: &mut Vec<Effect>) {
        let Some(case) = self.cases.get(id) else { return };
        let judgement = causes::judge(self.context(), case);
        effects.extend(enrich::log_request(self.context(), case, &judgement).map(Effect::Enrich));
        let now = self.world.now;
        if let Some(case) = self.cases.get_mut(id) {
            case.log_requests.after = Some(case.last_fact);
            let dies = case.log_requests.dies;
            case.log_requests.made(now, dies);
        }
    }

    /// Takes the subject's log lines that are reported into the case: the world evicts them sooner.
    fn collect_log_lines(&mut self, id: CaseId, judgement: &Judgement) {
        let most = self.settings.logs.lines;
        let Some(case) = self.cases.get(id) else { return };
        let lines = log_lines::of_subject(self.context(), case, &judgement.verdict, most);
        if let Some(case) = self.cases.get_mut(id) {
            case.log = lines;
        }
    }
}

/// Whether a revision says the same as the published one.
fn is_same(published: &Incident, revision: &Incident) -> bool {
    let as_published = Incident { revision: published.revision, ..revision.clone() };
    as_published == *published
}
