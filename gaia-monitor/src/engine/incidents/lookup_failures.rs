//! From look-ups to cases. A look-up fails at once when every query was refused; where its resolver goes on all the same
//! (the other type, a search domain, another try), the failure is taken back until that is answered, too.

use crate::model::time::{Stamp, Utc};

use crate::engine::Engine;
use crate::engine::effect::Effect;
use crate::engine::failures::failed_lookup;
use crate::engine::failures::record;
use crate::engine::timers::Timer;
use crate::engine::world::dns::lookups::{Change, LookupId, PATIENCE};

/// Failed look-ups kept in case they go on; the oldest go first, and then what follows is a look-up of its own.
const FAILED: usize = 4_096;

impl Engine {
    pub(in crate::engine) fn looked_up(&mut self, change: Change, effects: &mut Vec<Effect>) {
        match change {
            Change::Begun(id) => {
                let patience = self.world.now.plus(PATIENCE);
                self.timers.set(Timer::LookupOverdue(id), Some(patience));
            }
            Change::Resumed(id) => {
                let patience = self.patience(id);
                self.timers.set(Timer::LookupOverdue(id), Some(patience));
                self.take_back(id, effects);
            }
            Change::Given(id) => {
                self.timers.set(Timer::LookupOverdue(id), None);
                self.take_back(id, effects);
                if let Some(known) = self.failed.remove(&id) {
                    self.breaks.remove(known);
                }
            }
            Change::Failed(id) => {
                self.timers.set(Timer::LookupOverdue(id), None);
                self.look_up_failed(id, effects);
            }
        }
    }

    /// As long after its first query as ever, but not before now.
    fn patience(&self, id: LookupId) -> Stamp {
        let now = self.world.now;
        self.world.lookups.get(id).map_or(now, |lookup| lookup.begun.plus(PATIENCE).max(now))
    }

    fn look_up_failed(&mut self, id: LookupId, effects: &mut Vec<Effect>) {
        let Some(lost) = failed_lookup::look(&self.world, id) else { return };
        let Some(new) = record::of_look_up(&self.world, &lost, &self.settings.policy) else { return };
        let broken = match self.failed.get(&id).copied() {
            Some(known) => {
                self.unbind(known);
                self.breaks.change(known, |found| {
                    found.symptom = new.symptom;
                    found.entry.at = Utc(new.at());
                    found.entry.client_error = new.entry.client_error;
                });
                known
            }
            None => {
                let added = self.breaks.add(new);
                self.failed.insert(id, added);
                if self.failed.len() > FAILED {
                    self.failed.pop_first();
                }
                added
            }
        };
        self.put_down(broken, effects);
    }

    /// It goes on: what it was put down to has lost it for now.
    fn take_back(&mut self, id: LookupId, effects: &mut Vec<Effect>) {
        let Some(known) = self.failed.get(&id).copied() else { return };
        let case = self.breaks.get(known).and_then(|found| found.case);
        self.unbind(known);
        if let Some(case) = case {
            self.advance(case, effects);
        }
    }

    /// Something was said of a name: cases about it, and about its containers, show it.
    pub(in crate::engine) fn name_said(&mut self, name: &str, effects: &mut Vec<Effect>) {
        let holders = self.world.names.holders(name);
        let about = |case: &&crate::engine::incidents::case::Case| {
            let container = case.key.container(&self.world);
            let held = container.is_some_and(|id| holders.iter().any(|name_holder| name_holder.container == *id));
            held || self.sheet().names_of(case).contains(&name)
        };
        let cases: Vec<_> = self.cases.open().filter(about).map(|case| case.id).collect();
        for id in cases {
            if let Some(case) = self.cases.get_mut(id) {
                case.dirty = true;
            }
            self.advance(id, effects);
        }
    }
}
