//! DNS responses to containers, and to the monitor's probes inside them, recorded with the name.
//!
//! Invariants: only names of interest are recorded, and no response of a lookup in which events were lost.

use crate::model::event::{DnsContent, DnsMessage, DnsProbe, DnsResponse};
use crate::model::ids::ContainerId;
use crate::model::time::Stamp;

use crate::engine::world::dns::lookups::{LookupChange, LookupId};
use crate::engine::world::dns::names::Observer;
use crate::engine::world::{Change, World};

impl World {
    pub(in crate::engine::world) fn dns_message(&mut self, at: Stamp, message: &DnsMessage) -> Vec<Change> {
        let Some(change) = self.lookups.message(at, message) else { return Vec::new() };
        let (LookupChange::Resolved(id), DnsContent::Response(answer)) = (change, &message.what) else {
            return self.apply_lookup_change(change);
        };
        let recorded = self.record_response(id, &message.name, at, answer);
        std::iter::once(Change::Lookup(change)).chain(recorded).collect()
    }

    pub(in crate::engine::world) fn dns_probe(&mut self, at: Stamp, checked: &DnsProbe) -> Vec<Change> {
        if !self.is_name_of_interest(&checked.name) {
            return Vec::new();
        }
        let observer = Observer { container: checked.observer.clone(), monitor: true };
        self.names.record_response(&checked.name, observer, at, &checked.response);
        vec![Change::DnsChanged(checked.name.clone())]
    }

    /// The resolver of a lookup is done without a response.
    pub fn lookup_overdue(&mut self, id: LookupId) -> Vec<Change> {
        let change = self.lookups.overdue(id);
        change.into_iter().flat_map(|change| self.apply_lookup_change(change)).collect()
    }

    /// The change of a lookup, and the change of its name.
    pub(in crate::engine::world) fn apply_lookup_change(&mut self, change: LookupChange) -> Vec<Change> {
        let mut changes = vec![Change::Lookup(change)];
        if let LookupChange::Failed(id) = change
            && let Some(lookup) = self.lookups.get(id)
        {
            let (name, at, answer) = (lookup.name().to_owned(), lookup.decided, lookup.answer());
            changes.extend(self.record_response(id, &name, at, &answer));
        }
        changes
    }

    fn record_response(&mut self, id: LookupId, name: &str, at: Stamp, answer: &DnsResponse) -> Vec<Change> {
        let lookup = self.lookups.get(id).filter(|lookup| !lookup.doubtful);
        // Another monitor's lookups are not the container's.
        let lookup = lookup.filter(|lookup| !self.is_outsider(&lookup.socket, Some(&lookup.task), lookup.begun));
        let observer = lookup.and_then(|lookup| self.containers.of_socket(&lookup.socket, lookup.begun));
        let Some(container) = observer.filter(|_| self.is_name_of_interest(name)) else { return Vec::new() };
        let is_new = self.names.record_response(name, Observer { container, monitor: false }, at, answer);
        // While a holder is down, every response extends the period of stale responses.
        let is_down =
            |id: &ContainerId| self.terminations.of_container(id).any(|termination| termination.recovered.is_none());
        let is_visible = is_new || self.names.holders(name).iter().any(|holder| is_down(&holder.container));
        if is_visible { vec![Change::DnsChanged(name.to_owned())] } else { Vec::new() }
    }
}
