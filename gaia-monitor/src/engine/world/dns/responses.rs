//! What look-ups say of names: an answer to a container, or to the monitor inside one, is noted with the name.
//!
//! Only names of interest are noted, and nothing of a look-up in which events were lost.

use crate::model::event::{LookUp, LookUpWhat, NameAnswer, NameChecked};
use crate::model::ids::ContainerId;
use crate::model::time::Stamp;

use crate::engine::world::dns::lookups::{self, Change as LookupChange, LookupId};
use crate::engine::world::dns::names::Observer;
use crate::engine::world::{Change, World};

impl World {
    pub(in crate::engine::world) fn looked_up(&mut self, at: Stamp, message: &LookUp) -> Vec<Change> {
        let Some(change) = self.lookups.seen(at, message) else { return Vec::new() };
        let (LookupChange::Given(id), LookUpWhat::Answered(answer)) = (change, &message.what) else {
            return self.note_lookup(change);
        };
        let noted = self.note_answer(id, &message.name, at, answer);
        std::iter::once(Change::Lookup(change)).chain(noted).collect()
    }

    pub(in crate::engine::world) fn name_checked(&mut self, at: Stamp, checked: &NameChecked) -> Vec<Change> {
        if !self.is_name_of_interest(&checked.name) {
            return Vec::new();
        }
        let observer = Observer { container: checked.observer.clone(), monitor: true };
        self.names.answered(&checked.name, observer, at, &checked.answer);
        vec![Change::DnsChanged(checked.name.clone())]
    }

    /// The observer's patience is over: the instant is that of its own first query, whenever this is called.
    pub fn lookup_overdue(&mut self, id: LookupId) -> Vec<Change> {
        let Some(begun) = self.lookups.get(id).map(|lookup| lookup.begun) else { return Vec::new() };
        let change = self.lookups.overdue(begun.plus(lookups::PATIENCE), id);
        change.into_iter().flat_map(|change| self.note_lookup(change)).collect()
    }

    /// What became of a look-up, and what it says of the name.
    pub(in crate::engine::world) fn note_lookup(&mut self, change: LookupChange) -> Vec<Change> {
        let mut changes = vec![Change::Lookup(change)];
        if let LookupChange::Failed(id) = change
            && let Some(lookup) = self.lookups.get(id)
        {
            let (name, at, answer) = (lookup.name().to_owned(), lookup.decided, lookup.answer());
            changes.extend(self.note_answer(id, &name, at, &answer));
        }
        changes
    }

    fn note_answer(&mut self, id: LookupId, name: &str, at: Stamp, answer: &NameAnswer) -> Vec<Change> {
        let lookup = self.lookups.get(id).filter(|lookup| !lookup.doubtful);
        let observer = lookup.and_then(|lookup| self.containers.of_socket(&lookup.socket, lookup.begun));
        let Some(container) = observer.filter(|_| self.is_name_of_interest(name)) else { return Vec::new() };
        let new = self.names.answered(name, Observer { container, monitor: false }, at, answer);
        // While its container is down, each answer moves the end of what is stale.
        let down =
            |id: &ContainerId| self.terminations.of_container(id).any(|termination| termination.recovered.is_none());
        let shows = new || self.names.holders(name).iter().any(|name_holder| down(&name_holder.container));
        if shows { vec![Change::DnsChanged(name.to_owned())] } else { Vec::new() }
    }
}
