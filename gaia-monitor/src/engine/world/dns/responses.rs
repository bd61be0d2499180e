//! What look-ups say of names: an answer to a container, or to the monitor inside one, is noted with the name.
//!
//! Only names of interest are noted, and nothing of a look-up in which events were lost.

use crate::model::event::{LookUp, LookUpWhat, NameAnswer, NameChecked};
use crate::model::ids::ContainerId;
use crate::model::time::Stamp;

use crate::engine::world::dns::lookups::{self, Change as LookUpChange, InquiryId};
use crate::engine::world::dns::names::Asker;
use crate::engine::world::{Change, World};

impl World {
    pub(in crate::engine::world) fn looked_up(&mut self, at: Stamp, look_up: &LookUp) -> Vec<Change> {
        let Some(change) = self.look_ups.seen(at, look_up) else { return Vec::new() };
        let (LookUpChange::Given(id), LookUpWhat::Answered(answer)) = (change, &look_up.what) else {
            return self.note_look_up(change);
        };
        let noted = self.note_answer(id, &look_up.name, at, answer);
        std::iter::once(Change::LookUp(change)).chain(noted).collect()
    }

    pub(in crate::engine::world) fn name_checked(&mut self, at: Stamp, checked: &NameChecked) -> Vec<Change> {
        if !self.is_name_of_interest(&checked.name) {
            return Vec::new();
        }
        let asker = Asker { container: checked.observer.clone(), monitor: true };
        self.names.answered(&checked.name, asker, at, &checked.answer);
        vec![Change::Name(checked.name.clone())]
    }

    /// The asker's patience is over: the instant is that of its own first question, whenever this is called.
    pub fn look_up_overdue(&mut self, id: InquiryId) -> Vec<Change> {
        let Some(begun) = self.look_ups.get(id).map(|inquiry| inquiry.begun) else { return Vec::new() };
        let change = self.look_ups.overdue(begun.plus(lookups::PATIENCE), id);
        change.into_iter().flat_map(|change| self.note_look_up(change)).collect()
    }

    /// What became of a look-up, and what it says of the name.
    pub(in crate::engine::world) fn note_look_up(&mut self, change: LookUpChange) -> Vec<Change> {
        let mut changes = vec![Change::LookUp(change)];
        if let LookUpChange::Failed(id) = change
            && let Some(inquiry) = self.look_ups.get(id)
        {
            let (name, at, answer) = (inquiry.name().to_owned(), inquiry.decided, inquiry.answer());
            changes.extend(self.note_answer(id, &name, at, &answer));
        }
        changes
    }

    fn note_answer(&mut self, id: InquiryId, name: &str, at: Stamp, answer: &NameAnswer) -> Vec<Change> {
        let inquiry = self.look_ups.get(id).filter(|inquiry| !inquiry.doubtful);
        let asker = inquiry.and_then(|inquiry| self.containers.of_socket(&inquiry.socket, inquiry.begun));
        let Some(container) = asker.filter(|_| self.is_name_of_interest(name)) else { return Vec::new() };
        let new = self.names.answered(name, Asker { container, monitor: false }, at, answer);
        // While its container is down, each answer moves the end of what is stale.
        let down = |id: &ContainerId| self.demises.of_container(id).any(|demise| demise.over.is_none());
        let shows = new || self.names.holders(name).iter().any(|holding| down(&holding.container));
        if shows { vec![Change::Name(name.to_owned())] } else { Vec::new() }
    }
}
